package paths

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// The same decisions as they were first written, one text after the other, whatever it costs. The fast ones are held against them.

func slowCompatible(s string) string { return norm.NFKC.String(slowFitted(slowSeen(s))) }

// slowFitted is what Windows writes in code pages that lack a letter, or have it in the place of a backslash.
func slowFitted(s string) string {
	return strings.NewReplacer("⁄", "/", "∕", "/", "∖", `\`, "¥", `\`, "₩", `\`).Replace(s)
}

func slowSeen(s string) string {
	return strings.Map(func(r rune) rune {
		if slowIgnorable(r) {
			return -1
		}
		return r
	}, slowValid(s))
}

// slowValid leaves nothing that strings.Map would change.
func slowValid(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

func slowIgnorable(r rune) bool {
	return r >= 0xad && unicode.In(r, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

func slowDoubts(path string) error {
	for segment := range strings.SplitSeq(path, "/") {
		decoded := Decode(segment)
		switch {
		case strings.Contains(segment, `\`):
			return backslash
		case strings.ContainsAny(decoded, `/\`):
			return encodedSlash
		case strings.IndexFunc(decoded, func(r rune) bool { return r < ' ' || r == 0x7f }) >= 0:
			return control
		case isDots(decoded), hasDots(slowCompatible(decoded)):
			return dotSegments
		case encoded(decoded):
			return encodedTwice
		case isOverlong(decoded):
			return overlong
		}
	}
	return nil
}

func slowClimb(path string, above bool) bool {
	depth := 0
	for part := range strings.SplitSeq(path, "/") {
		up, down := 0, 0
		for segment := range strings.FieldsFuncSeq(slowCompatible(part), func(r rune) bool { return r == '/' || r == '\\' }) {
			if end := strings.IndexAny(segment, "?#\x00"); end >= 0 {
				segment = segment[:end]
			}
			switch bare(strings.Map(withoutBlanks, segment)) {
			case "..":
				up++
			case "", ".":
			default:
				down = 1
			}
		}
		switch {
		case up > 0 && !above:
			return true
		case up > 0:
			depth -= up
		default:
			depth += down
		}
		if depth < 0 {
			return true
		}
	}
	return false
}

func slowLetters(segment string) string { return noSlashes.Replace(slowCompatible(segment)) }

// slowForms are nil where too many hosts are in a row.
func slowForms(raw string) (forms []string) {
	plain := Decode(raw)
	changes := []func(string) string{slowValid}
	if strings.IndexFunc(plain, func(r rune) bool { return r >= utf8.RuneSelf }) >= 0 {
		changes = append(changes, slowLetters, func(s string) string { return slowLetters(withoutParameters(s)) })
	}
	ends := []string{""}
	if strings.ContainsAny(plain, "?#") || len(changes) > 1 {
		ends = append(ends, "?#")
	}
	if strings.Contains(plain, ";") {
		ends = append(ends, ";?#")
	}
	lists := [][]string{}
	for _, change := range changes {
		lists = append(lists, decoded(raw, change))
	}
	if strings.ContainsAny(plain, slashes) {
		var divided []string
		for segment := range strings.SplitSeq(strings.TrimPrefix(lookalikeSlashes.Replace(plain), "/"), "/") {
			divided = append(divided, slowCompatible(segment))
		}
		lists = append(lists, divided)
	}
	for _, segments := range lists {
		hosted := true
		for hosts := 0; hosted; hosts++ {
			if hosts > maxHosts {
				return nil
			}
			for _, end := range ends {
				if form := fold(joinLoose(segments, end)); !slices.Contains(forms, form) {
					forms = append(forms, form)
				}
			}
			segments, hosted = afterHost(segments)
		}
	}
	return forms
}

func lookalikeNothings(raw string) (n int) {
	for segment := range divided.split(raw) {
		if segment != "" && divided.isNothing(segment) {
			n++
		}
	}
	return n
}

// sameAsSlow holds one raw path against the slow way, with patterns of several lengths.
func sameAsSlow(t *testing.T, raw string, patterns []*Pattern) {
	t.Helper()
	if got, want := doubts(raw), slowDoubts(raw); got != want {
		t.Fatalf("%.600q: the doubt is %v, not %v", raw, got, want)
	}
	for stage := range decodings(raw) {
		for _, above := range []bool{false, true} {
			if got, want := loosestClimb(stage, above), slowClimb(stage, above); got != want {
				t.Fatalf("%.600q: climbs, above %v: %v, not %v", stage, above, got, want)
			}
		}
	}
	forms := slowForms(raw)
	nothings := 0
	for segment := range strings.SplitSeq(raw, "/") {
		if decoded := Decode(segment); segment != "" && (asItIs.isNothing(decoded) || alike.isNothing(decoded) || alikeCut.isNothing(decoded)) {
			nothings++
		}
	}
	if max(nothings, lookalikeNothings(raw)) > maxNothings { // nobody can say
		return
	}
	if got, want := tooManyHosts(raw), forms == nil; got != want {
		t.Fatalf("%.600q: too many hosts: %v, not %v", raw, got, want)
	}
	if forms == nil {
		return
	}
	p := Path{Raw: raw, Text: raw, mode: Strict}
	for _, pattern := range patterns {
		want := slices.ContainsFunc(forms, func(form string) bool {
			return pattern.exact && form == pattern.loose || !pattern.exact && within(form, pattern.loose)
		})
		if got := pattern.looselyHolds(&p); got != want {
			t.Fatalf("%.600q holds %q (exact: %v) loosely: %v, not %v; the forms are %.300q, not %.300q", raw, pattern.text, pattern.exact, got, want, p.loose.forms, forms)
		}
	}
}

// slowPatterns are those that what follows is made of, exact and not.
func slowPatterns() (all []*Pattern) {
	for _, text := range []string{"", "/a", "/admin", "/public/secret", "/café", "/a/b/c/d/e", "/k", "/ｶﾞ", "/" + strings.Repeat("long", 30), "/é́x"} {
		all = append(all, NewPattern(text, false, false))
		if text != "" {
			all = append(all, NewPattern(text, true, false))
		}
	}
	return all
}

// However long a path is and whatever it is made of, the fast way decides as the slow one does.
func TestTheFastWayDecidesAsTheSlowOne(t *testing.T) {
	pieces := []string{
		"/", "/", "/", "//", "a", "b", "c", "admin", "public", "secret", "ADMIN", "café", "cafe\u0301", "long", "k", "\u212a", "ﬀ", "\ufdfa", "𝐚", "𝐚𝐝𝐦𝐢𝐧", "ａｄｍｉｎ", "İ", "I\u0307", "ı", "ｶﾞ", "ガ", "é\u0301x",
		".", "..", ".", " ", "\u00a0", "\u3000", "\u2026", "．", "․", "/", "／", "＼", "⁄", "¥", `\`, ";", "；", "\u037e", ";x=y", "?", "？", "#", "＃", ":", "：", "$", "＄", ":$DATA", "：＄", "\u00ad", "\u200d", "\ufe0f", "\u0301", "\u0327", "\xff", "\xc0\xae", "x", "y", "%", "%2e", "%25", "字", "⒈", "℀", "½",
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	patterns := slowPatterns()
	rounds := 500
	if testing.Short() {
		rounds = 200
	}
	for range rounds {
		var b strings.Builder
		b.WriteByte('/')
		for range 1 + random.IntN(8) {
			piece, times := pieces[random.IntN(len(pieces))], 1
			if random.IntN(4) == 0 {
				times = 1 + random.IntN(1+2048>>random.IntN(12))
			}
			for range times {
				for _, c := range []byte(piece) {
					if c != '/' && (!plainBytes[c] || random.IntN(6) == 0) && c != '\\' && random.IntN(20) > 0 {
						escape(&b, c)
					} else {
						b.WriteByte(c)
					}
				}
			}
		}
		raw := b.String()
		sameAsSlow(t, raw, patterns)
		slices.Reverse(patterns) // what is asked for may grow
	}
}

// Each look is that of Unicode's form NFKC, and of its properties.
func TestLooksAreThoseOfUnicode(t *testing.T) {
	for r := rune(utf8.RuneSelf); r <= unicode.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		want, meant := "", false
		for _, c := range slowCompatible(string(r)) {
			switch {
			case strings.ContainsRune(`./\;:$?# `, c):
				want += string(c)
				meant = true
			case !strings.HasSuffix(want, other):
				want += other
			}
		}
		if want != "" && !meant {
			want = other
		}
		if got := looksLike(r); got != want {
			t.Errorf("U+%04X looks like %q, not %q", r, got, want)
		}
	}
}

// costly are paths that take long: some letters become eighteen, some nothing; some are decoded again and again.
func costly(length int) map[string]string {
	all := map[string]string{}
	for name, piece := range map[string]string{
		"expanding": "%EF%B7%BA/", "expanding, one segment": "%EF%B7%BA", "unseen": "%C2%AD", "unseen segments": "%C2%AD/", "blank segments": "%C2%A0/", "dots": "%E2%80%A6", "dots in segments": "a%E2%80%A6/",
		"composed": "e%CC%81/", "marks": "%CC%81", "letters": "%E5%AD%97", "plain": "abcdefg/", "capitals": "ABC/", "capitals in one": "A", "hosts": "//a", "slashes": "/", "dot segments": "./", "parameters": ";a=b/", "queries": "%3F/",
		"decoded twice": "%2525", "decoded again": "%252525252525252525", "bold": "%F0%9D%90%80", "colons": ":", "streams": ":$a/", "overlong": "%C0%80", "backslashes": "%5C", "half escapes": "%", "unicode escapes": "%25u00e9", "dots and blanks": ".%20", "fullwidth": "%EF%BC%8E%EF%BC%8F",
	} {
		all[name] = "/a" + strings.Repeat(piece, length/len(piece))
	}
	return all
}

// However long a path is, what is made of it is as long as its patterns ask for.
func TestWhatIsMadeOfAPathIsBounded(t *testing.T) {
	for name, raw := range costly(32 << 10) {
		p := Path{Raw: raw, Text: raw, mode: Strict}
		p.loosen(16)
		total := 0
		for _, kind := range []kind{asItIs, alike, alikeCut} {
			for _, segment := range p.segments(kind) {
				total += len(segment)
			}
		}
		if most := 3 * (shrinks*p.loose.need + sequence) * 4; total > most {
			t.Errorf("%s: %d bytes are made of it, more than %d", name, total, most)
		}
	}
}

// What a path means is decided in the time that it takes to read it, whatever it is made of.
func BenchmarkCostly(b *testing.B) {
	patterns, _ := rules(true)
	for name, target := range costly(8 << 10) {
		for _, mode := range []Mode{Agreed, Normalize, Strict} {
			b.Run(name+"/"+[...]string{"raw", "agreed", "normalize", "strict"}[mode], func(b *testing.B) {
				for b.Loop() {
					if p, err := Parse(target, mode); err == nil {
						decide(patterns, &p)
					}
				}
			})
		}
	}
}
