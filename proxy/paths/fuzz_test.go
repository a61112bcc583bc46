package paths

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/text/unicode/norm"
)

// readers are what backends were seen to do with a path. Each takes one that is decoded in part, and gives the one that it looks for among
// its own.
var readers = []func(string) string{
	func(s string) string { return s },
	Decode,
	func(s string) string { return Decode(Decode(s)) },
	strings.ToLower,
	func(s string) string { return strings.ReplaceAll(s, `\`, "/") },
	func(s string) string {
		return perSegment(s, func(s string) string { s, _, _ = strings.Cut(s, ";"); return s })
	},
	func(s string) string {
		return perSegment(s, func(s string) string { return strings.TrimRight(s, ". ") })
	},
	func(s string) string { s, _, _ = strings.Cut(s, "?"); return s },
	func(s string) string { s, _, _ = strings.Cut(s, "\x00"); return s },
	func(s string) string { return strings.TrimSuffix(s, "/") },
	func(s string) string {
		for strings.Contains(s, "//") {
			s = strings.ReplaceAll(s, "//", "/")
		}
		return s
	},
	func(s string) string { // the authority of a reference
		if rest, ok := strings.CutPrefix(s, "//"); ok {
			_, rest, _ = strings.Cut(rest, "/")
			return "/" + rest
		}
		return s
	},
	resolve,
	func(s string) string {
		return norm.NFKC.String(strings.NewReplacer("／", "\ufffd", "＼", "\ufffd").Replace(Decode(s)))
	},
	func(s string) string { return norm.NFKC.String(Decode(s)) }, // as Windows does before a path is divided
	func(s string) string { s, _, _ = strings.Cut(s, ";"); return s },
	func(s string) string {
		return perSegment(s, func(s string) string {
			if strings.Contains(s, ":$") {
				s, _, _ = strings.Cut(s, ":")
			}
			return s
		})
	},
	func(s string) string { // as HFS+ compares names
		return strings.NewReplacer("\u200b", "", "\u200c", "", "\u200d", "", "\u202e", "", "\u00ad", "", "\ufeff", "").Replace(s)
	},
}

func perSegment(s string, change func(string) string) string {
	segments := strings.Split(s, "/")
	for i := range segments {
		if segments[i] != "." && segments[i] != ".." {
			segments[i] = change(segments[i])
		}
	}
	return strings.Join(segments, "/")
}

// resolve follows dot segments as RFC 3986 section 5.2.4 has it, and leaves empty ones alone.
func resolve(s string) string {
	var kept []string
	segments := strings.Split(strings.TrimPrefix(s, "/"), "/")
	for i, segment := range segments {
		switch segment {
		case "..":
			kept = kept[:max(len(kept)-1, 0)]
		case ".":
		default:
			kept = append(kept, segment)
			continue
		}
		if i == len(segments)-1 {
			kept = append(kept, "")
		}
	}
	return "/" + strings.Join(kept, "/")
}

// rules are those of a site, the most specific first; each has another class.
func rules(ignoreCase bool) (patterns []*Pattern, texts []string) {
	texts = []string{"=/exact", "/public/secret", "/internal/", "/public", "/admin", "/café", ""}
	for _, text := range texts {
		path, exact := strings.CutPrefix(text, "=")
		patterns = append(patterns, NewPattern(path, exact, ignoreCase))
	}
	return patterns, texts
}

// decide is what a site does: the rule that holds, or -1 where a reader could find another.
func decide(patterns []*Pattern, p *Path) (rule int) {
	rule = slices.IndexFunc(patterns, func(pattern *Pattern) bool { return pattern.Match(p) >= Ours })
	for i, pattern := range patterns {
		switch match := pattern.Match(p); {
		case p.mode == Agreed && match == Some:
		case match != None && i != rule:
			return -1
		case match == All:
			return rule
		}
	}
	return -1
}

// believed is the rule that a backend would have for a path, if it knew padlock's. A slash at the end makes no difference to it.
func believed(texts []string, path string, insensitive bool) int {
	if insensitive {
		path = strings.ToLower(path)
	}
	return slices.IndexFunc(texts, func(text string) bool {
		path := path
		if Encode(text) != text {
			path = Decode(path) // it has to: no request can have it otherwise
		}
		if exact, ok := strings.CutPrefix(text, "="); ok {
			return strings.TrimSuffix(path, "/") == exact
		}
		return within(path, text) || path+"/" == text
	})
}

// Whatever the target is: nothing panics; what is forwarded is decided as what came; and what passes means the same to every reader, and to
// any two of them in a row.
func FuzzPaths(f *testing.F) {
	for _, seed := range []string{
		"/", "*", "/public/x", "/public/../admin", "/public/..;/admin", "/public/..%2fadmin", `/public/..\admin`, "/%61dmin", "//admin", "/ADMIN", "/admin;x=y/", "/admin;/x", "/exact;a/b", "/admin:$i30:$INDEX_ALLOCATION/x", "/ad%e2%80%8cmin", "/public/;/x/admin", "/public/%252e%252e;/x", "/public/%2e%2e/admin",
		"/public/%252e%252e/admin", "/public/secret%3fx", "/public/secret.%20", "//x/public/secret", "/exact/", "/internal", "/caf%c3%a9/x?q=%2e", "/%%36%31dmin", "/public/%c0%af", "/a%00b", "/public//secret",
	} {
		f.Add(seed)
	}
	f.Fuzz(meansOneThing)
}

// Targets that are made of what was seen in attacks reach further than bytes at random.
func TestGeneratedPathsMeanOneThing(t *testing.T) {
	pieces := []string{
		"/", "/", "/", "//", "public", "secret", "admin", "internal", "exact", "x", "PUBLIC", "Secret", "%61dmin", "%53ecret", "caf%c3%a9", ".", "..", "%2e", "%2E%2e", "%2f", "%5c", `\`, ";", ";a=b",
		"%3b", "%3f", "%23", "?", "%20", "%00", "%0a", "%25", "%252e", "%2", "61", "%c0%ae", "%c4%b1", "%e2%84%aa", "%ef%bc%8e", "%ef%bc%8f", "%ef%bd%81dmin", "%ef%bc%bc", "cafe%cc%81", "%u002e", "::$DATA", ":$i30:$INDEX_ALLOCATION", "ad%e2%80%8cmin", "%c2%ad", "%e2%80%8d", "..;", "..%20", "%252e%252e;", "%", "=", "+",
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 800 {
		target := "/"
		for range 1 + random.IntN(9) {
			target += pieces[random.IntN(len(pieces))]
		}
		meansOneThing(t, target)
	}
}

func meansOneThing(t *testing.T, target string) {
	for i := range len(target) { // what the parsers let through
		if target[i] <= ' ' || target[i] >= 0x7f || target[i] == '#' {
			return
		}
	}
	for _, ignoreCase := range []bool{false, true} {
		patterns, texts := rules(ignoreCase)
		for _, mode := range []Mode{Raw, Agreed, Normalize, Strict} {
			p, err := Parse(target, mode)
			if err != nil {
				continue
			}
			foundByHead(t, patterns, &p)
			rule := decide(patterns, &p)
			if mode == Raw && rule < 0 && p.Normal != "*" {
				t.Fatalf("%q raw: no rule", target)
			}
			replaced(t, patterns, &p)
			again, err := Parse(p.Text, mode)
			if err != nil || decide(patterns, &again) != rule || again.Text != p.Text || again.Normal != p.Normal {
				t.Fatalf("%q in mode %d is forwarded as %q, which is %q %q, %v", target, mode, p.Text, again.Text, again.Normal, err)
			}
			if mode == Raw || rule < 0 {
				continue
			}
			holding, at := texts, rule
			if mode == Agreed { // another may be in it, but nothing leads out of it
				holding, at = texts[rule:rule+1], 0
			}
			seen := map[string]bool{}
			for i, first := range readers {
				once := first(p.Raw)
				for j, second := range readers {
					read := second(once)
					if seen[read] {
						continue
					}
					seen[read] = true
					for _, insensitive := range []bool{ignoreCase, true} {
						if believed(holding, read, insensitive) != at {
							t.Fatalf("%q in mode %d is forwarded as %q; by readers %d and %d it is %q, and not for rule %q", target, mode, p.Text, i, j, read, texts[rule])
						}
					}
				}
			}
		}
	}
	for _, origin := range []string{"", "https://x.test"} {
		location, ok := Location(origin, target)
		reference := strings.TrimPrefix(location, origin)
		if !ok || strings.ContainsAny(location, "\r\n\t \x00") || !strings.HasPrefix(location, origin) || reference != "" && strings.IndexByte("/?#", reference[0]) < 0 ||
			origin == "" && (strings.HasPrefix(location, "//") || strings.HasPrefix(location, `/\`)) {
			t.Fatalf("%q at %q leads to %q", target, origin, location)
		}
	}
}

// odd are patterns that a looser reader has otherwise.
var odd = []string{"/Admin", "/a;b/c", "/x;", "/ad min/", "/x./y", "/.x", "/", "/ x", "/\u0130nternal", "/\uff41dmin", "/admin:$x", "/%2e", "/a?b", "/PUBLIC/x"}

// foundByHead checks that a path's first segment, where readers agree about it, leaves out no pattern that matches.
func foundByHead(t *testing.T, patterns []*Pattern, p *Path) {
	head, ok := p.Head()
	if !ok {
		return
	}
	for _, text := range odd {
		patterns = append(patterns, NewPattern(text, false, false), NewPattern(text, true, true))
	}
	for _, pattern := range patterns {
		if heads := pattern.Heads(); pattern.Match(p) != None && len(heads) > 0 && !slices.Contains(heads, head) {
			t.Fatalf("%q matches %q, which is sought below %q", p.Raw, pattern.text, heads)
		}
	}
}

func replaced(t *testing.T, patterns []*Pattern, p *Path) {
	for _, pattern := range patterns {
		if pattern.Match(p) < Ours {
			continue
		}
		for _, replacement := range []string{"", "/v2", "/é/"} {
			text, err := pattern.Replace(p, replacement)
			if err != nil {
				continue
			}
			path, _, _ := strings.Cut(text, "?")
			insideForAll(t, p, path, replacement)
			if !strings.HasPrefix(text, "/") || replacement == "" && strings.HasPrefix(text, "//") || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f }) || climbs(path) {
				t.Fatalf("%q becomes %q", p.Text, text)
			}
		}
	}
}

// insideForAll: nobody is led out of a replacement, or to a host, by what followed the prefix.
func insideForAll(t *testing.T, p *Path, path, replacement string) {
	for i, first := range readers {
		once := first(path)
		for j, second := range readers {
			read := second(once)
			if replacement == "/v2" && !within(read, replacement) || replacement == "" && p.mode != Raw && strings.HasPrefix(read, "//") {
				t.Fatalf("%q in mode %d becomes %q; by readers %d and %d it is %q", p.Text, p.mode, path, i, j, read)
			}
		}
	}
}
