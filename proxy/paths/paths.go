// Package paths decides what a request target means. Routes, rules, rewrites, redirects and templates all go by
// its one reading, whatever protocol the request came by.
//
//	p, err := paths.Parse("/a/b%20c?q", paths.Strict)   // err: it has more than one meaning
//	switch pattern.Match(&p) { … }                       // All: every reader that is known takes it to be there
//
// Backends read targets in different ways: one decodes twice, one ignores case, one drops what follows a semicolon.
// What is let through in Strict and Normalize means the same to all of them, as far as rules depend on it; and by
// Agreed none of them is led out of a pattern that All take it for. The package knows no rules, and imports nothing of
// ours.
package paths

import (
	"strings"
	"unicode/utf8"
)

// Mode says what is done with a target that readers may understand differently.
type Mode uint8

// The modes.
const (
	Raw       Mode = iota // it is forwarded as it came, and compared in its normal form
	Agreed                // so it is, unless some reader finds a way up in it; callers ask Match whether all agree
	Normalize             // it is forwarded in its normal form, or refused where that does not settle it
	Strict                // it is refused
)

// ParseMode reads a mode's name in the configuration.
func ParseMode(name string) (Mode, bool) {
	for mode, known := range [...]string{Raw: "raw", Agreed: "agreed", Normalize: "normalize", Strict: "strict"} {
		if name == known {
			return Mode(mode), true
		}
	}
	return Raw, false
}

// Path is what a target means. The zero value means nothing.
type Path struct {
	Text   string // what is forwarded, in origin form, or "*"
	Raw    string // the path in Text, without its query
	Query  string // what follows the question mark
	Normal string // the path decoded, without dot segments and empty ones

	mode     Mode
	hasQuery bool
	lower    string // Normal in lower case, once somebody asks
	loose    loose
}

// Ambiguous is why a target has more than one meaning.
type Ambiguous string

// Error implements error.
func (a Ambiguous) Error() string { return string(a) }

// Why targets are refused. DependsOnReader is for whoever compares patterns: the package cannot know which of
// them matter.
const (
	dotSegments     Ambiguous = "it has dot segments"
	encodedSlash    Ambiguous = "it has an encoded slash or backslash"
	backslash       Ambiguous = "it has a backslash"
	control         Ambiguous = "it has an encoded control character"
	encodedTwice    Ambiguous = "it is encoded twice"
	overlong        Ambiguous = "it has a character in an overlong encoding"
	notOrigin       Ambiguous = "it is neither a path nor *"
	DependsOnReader Ambiguous = "it depends on who reads it which route's rules are meant"
)

// Parse reads a target in origin form, of visible ASCII characters, or "*". The error is an Ambiguous.
func Parse(target string, mode Mode) (Path, error) {
	p := Path{Text: target, mode: mode}
	p.Raw, p.Query, p.hasQuery = strings.Cut(target, "?")
	if target == "*" {
		p.Normal, p.lower, p.loose = target, target, loose{whole: true, only: target}
		return p, nil
	}

	if !strings.HasPrefix(target, "/") {
		return p, notOrigin
	}

	// Nearly all requests end here, without any allocation.
	if plain(p.Raw) {
		p.Normal = p.Raw
		return p, nil
	}

	switch mode {
	case Raw:
	case Agreed:
		// Dot segments are refused in this mode rather than resolved: the target gets the path as it came, and may
		// resolve them otherwise.
		if climbsAnyhow(p.Raw, false) {
			return p, dotSegments
		}
		// What follows two slashes is a host to some readers, and would lead a redirect elsewhere.
		p.setRaw(oneSlash(p.Raw))
		if !encoded(Decode(p.Raw)) {
			p.setRaw(unreserve(p.Raw))
		}
	case Strict:
		if err := doubts(p.Raw); err != nil {
			return p, err
		}
		p.setRaw(unreserve(p.Raw))
	// The doubts are looked for in the normal form, as that is what the target gets.
	case Normalize:
		p.setRaw(canonical(p.Raw))
		if err := doubts(p.Raw); err != nil {
			return p, err
		}
	}

	p.Normal = clean(Decode(p.Raw))
	// Behind so many empty segments, comparing all readings would cost more than a request may.
	if mode != Raw && tooManyHosts(p.Raw) {
		return p, DependsOnReader
	}

	return p, nil
}

// setRaw changes what is forwarded.
func (p *Path) setRaw(path string) {
	if path == p.Raw {
		return
	}
	p.Raw, p.Text = path, path
	if p.hasQuery {
		p.Text += "?" + p.Query
	}
}

// plainBytes mean nothing but themselves to every reader. A dot does unless it follows a slash, and a slash
// unless it follows another.
var plainBytes = func() (table [256]bool) {
	for _, c := range []byte("-._~!$&'()*+,=:@/0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		table[c] = true
	}
	return table
}()

// plain reports whether a path is its own normal form.
func plain(path string) bool {
	last := byte(0)
	for i := range len(path) {
		c := path[i]
		if !plainBytes[c] || last == '/' && (c == '/' || c == '.') {
			return false
		}
		last = c
	}
	return true
}

// Properties of a segment's bytes, once they are decoded.
const (
	hasDot   = 1 << iota
	hasSlash // or a backslash, which was encoded
	hasBackslash
	hasControl
	hasPercent
	hasHigh // a byte beyond ASCII
)

var properties = func() (table [256]byte) {
	for c := range table {
		switch {
		case c < ' ' || c == 0x7f:
			table[c] = hasControl
		case c >= utf8.RuneSelf:
			table[c] = hasHigh
		}
	}
	table['.'], table['/'], table['\\'], table['%'] = hasDot, hasSlash, hasSlash, hasPercent
	return table
}()

// doubts is what no reading settles, wherever it stands.
func doubts(path string) error {
	var room [256]byte
	decoded, seen := room[:0], byte(0)
	for i := 0; i <= len(path); i++ {
		if i == len(path) || path[i] == '/' {
			if seen != 0 {
				if err := doubt(string(decoded), seen); err != nil {
					return err
				}
			}
			decoded, seen = decoded[:0], 0
			continue
		}

		// Properties are collected in the same pass that decodes, so that a path without any costs nothing more.
		c := path[i]
		if c == '%' {
			if one, ok := escaped(path[i:]); ok {
				c = one
				i += 2
			}
		} else if c == '\\' {
			seen |= hasBackslash
		}

		seen |= properties[c]
		decoded = append(decoded, c)
	}

	return nil
}

// doubt is that of one decoded segment, which has some of the properties.
func doubt(segment string, seen byte) error {
	switch {
	case seen&hasBackslash != 0:
		return backslash
	case seen&hasSlash != 0:
		return encodedSlash
	case seen&hasControl != 0:
		return control
	case seen&hasDot != 0 && isDots(segment), seen&hasHigh != 0 && hasDots(reduced(segment)):
		return dotSegments
	case seen&hasPercent != 0 && encoded(segment):
		return encodedTwice
	case seen&hasHigh != 0 && isOverlong(segment):
		return overlong
	}
	return nil
}

// oneSlash is a path that begins with one slash: what follows two is a host to some readers.
func oneSlash(path string) string {
	if strings.HasPrefix(path, "//") {
		return "/" + strings.TrimLeft(path, "/")
	}
	return path
}

// isDots reports whether some reader takes a decoded segment for "." or "..".
func isDots(segment string) bool {
	segment = bare(segment)
	return segment == "." || segment == ".."
}

// bare is a decoded segment without what some reader takes off before it looks for dots: Tomcat parameters,
// Windows blanks and streams.
func bare(segment string) string {
	segment = withoutParameters(segment)
	if !strings.Contains(segment, " ") {
		return segment
	}
	// Windows drops blanks and dots at the end of a name, and Tomcat everything behind a semicolon.
	segment = strings.ReplaceAll(segment, " ", "")
	if len(segment) > 2 && strings.Trim(segment, ".") == "" {
		// Windows drops dots behind a blank, too.
		return ".."
	}
	return segment
}

// hasDots looks for dot segments below slashes that were none before.
func hasDots(s string) bool {
	if !strings.ContainsAny(s, `/\`) {
		return isDots(s)
	}
	for segment := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == '/' || r == '\\' }) {
		if isDots(segment) {
			return true
		}
	}
	return false
}

// encoded reports whether a decoded text can be decoded again, in the way of URIs or in that of JavaScript's
// escape, which IIS reads too.
func encoded(s string) bool {
	for i := range len(s) {
		if s[i] != '%' {
			continue
		}
		if _, ok := escaped(s[i:]); ok {
			return true
		}

		if i+1 < len(s) && s[i+1]|0x20 == 'u' {
			if _, ok := escaped("%" + s[i+2:]); ok {
				return true
			}
		}
	}
	return false
}

// isOverlong finds UTF-8 that takes more bytes than it needs (RFC 3629 section 3), by which old decoders let
// dots and slashes in.
func isOverlong(s string) bool {
	for i := 0; i+1 < len(s); i++ {
		c, next := s[i], s[i+1]
		switch {
		case next < 0x80 || next > 0xbf:
		case c == 0xc0 || c == 0xc1, c == 0xe0 && next < 0xa0, c == 0xf0 && next < 0x90,
			c == 0xf8 && next < 0x88, c == 0xfc && next < 0x84:
			return true
		}
	}
	return false
}

// clean takes empty segments and dot segments out of a decoded path, as the most generous backend might.
func clean(path string) string {
	if plainSlashes(path) {
		return path
	}

	var kept []string
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		switch {
		case segment == "..":
			kept = kept[:max(len(kept)-1, 0)]
		case segment != "" && segment != ".":
			kept = append(kept, segment)
			continue
		}
		// The last segment names a directory.
		if i == len(segments)-1 {
			kept = append(kept, "")
		}
	}

	return "/" + strings.Join(kept, "/")
}

func plainSlashes(path string) bool {
	return !strings.Contains(path, "//") && !strings.Contains(path, "/.")
}

// canonical is a path in one spelling, still encoded (RFC 3986 section 6.2.2): without dot segments and empty
// ones, every backslash a slash, and encoded where it must be and nowhere else.
func canonical(path string) string {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		c := path[i]
		if decoded, ok := escaped(path[i:]); ok {
			i += 2
			switch {
			// Backends decode an encoded slash, or do not. In the normal form there is none left to disagree about.
			case decoded == '/' || decoded == '\\':
				b.WriteByte('/')
			case unreserved(decoded):
				b.WriteByte(decoded)
			default:
				escape(&b, decoded)
			}
			continue
		}

		switch {
		case c == '\\':
			b.WriteByte('/')
		case inPath(c):
			b.WriteByte(c)
		default:
			escape(&b, c)
		}
	}

	segments := strings.Split(b.String(), "/")
	for i, segment := range segments {
		if decoded := Decode(segment); isDots(decoded) {
			segments[i] = bare(decoded)
		}
	}

	return clean(strings.Join(segments, "/"))
}

// unreserve decodes what need not be encoded: RFC 3986 section 6.2.2.2 says that it is the same, and backends
// that do not decode agree.
func unreserve(path string) string {
	if !strings.Contains(path, "%") {
		return path
	}
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if decoded, ok := escaped(path[i:]); ok && unreserved(decoded) {
			b.WriteByte(decoded)
			i += 2
			continue
		}
		b.WriteByte(path[i])
	}

	return b.String()
}

// Decode decodes what can be decoded, once, and leaves the rest.
func Decode(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}

	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if decoded, ok := escaped(s[i:]); ok {
			b.WriteByte(decoded)
			i += 2
			continue
		}
		b.WriteByte(s[i])
	}

	return b.String()
}

// Encode is a decoded path as it may stand in a request line (RFC 3986 section 3.3).
func Encode(path string) string {
	ready := true
	for i := range len(path) {
		ready = ready && inPath(path[i])
	}

	if ready {
		return path
	}

	var b strings.Builder
	b.Grow(len(path) + 8)
	for i := range len(path) {
		if inPath(path[i]) {
			b.WriteByte(path[i])
		} else {
			escape(&b, path[i])
		}
	}

	return b.String()
}

func escape(b *strings.Builder, c byte) {
	const digits = "0123456789ABCDEF"
	b.WriteByte('%')
	b.WriteByte(digits[c>>4])
	b.WriteByte(digits[c&15])
}

// escaped reads the escape at the beginning of s.
func escaped(s string) (byte, bool) {
	if len(s) < 3 || s[0] != '%' {
		return 0, false
	}
	high, ok1 := hexDigit(s[1])
	low, ok2 := hexDigit(s[2])
	return high<<4 | low, ok1 && ok2
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

// unreserved is RFC 3986 section 2.3.
func unreserved(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

// inPath are a path's characters that need no escape (RFC 3986 section 3.3).
func inPath(c byte) bool { return unreserved(c) || strings.IndexByte("/!$&'()*+,;=:@", c) >= 0 }
