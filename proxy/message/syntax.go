package message

import "strings"

// TokenByte reports whether c can stand in a token (RFC 9110 section 5.6.2): a method, a field's name.
func TokenByte(c byte) bool { return tokenBytes[c] }

var tokenBytes = func() (table [256]bool) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		table[c] = true
	}
	return table
}()

// Token reports whether s is a token.
func Token(s string) bool {
	for i := range len(s) {
		if !tokenBytes[s[i]] {
			return false
		}
	}
	return s != ""
}

// Idempotent reports whether a request by this method may be repeated (RFC 9110 section 9.2.2).
func Idempotent(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// Protocol reports whether s names one protocol, with or without a version (RFC 9110 section 7.8).
func Protocol(s string) bool {
	name, version, versioned := strings.Cut(s, "/")
	return Token(name) && (!versioned || Token(version))
}

// FieldValue reports whether s can be a field's value (RFC 9110 section 5.5), white space around it apart.
func FieldValue(s string) bool {
	// Most values are longer than a word, and have nothing in them that needs a closer look.
	for ; len(s) >= 8; s = s[8:] {
		word := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		if mayHaveControl(word) && !fieldBytes(s[:8]) {
			return false
		}
	}
	return fieldBytes(s)
}

// mayHaveControl reports whether one of eight bytes is less than a space, as a tab is, or DEL.
func mayHaveControl(word uint64) bool {
	const each, high = 0x0101010101010101, 0x8080808080808080
	del := word ^ 0x7f*each
	return ((word-' '*each)&^word|(del-each)&^del)&high != 0
}

func fieldBytes(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// ValidHost allows what can stand in an authority without user information (RFC 3986 section 3.2.2). What names it may
// be is routing's affair.
func ValidHost(host string) bool {
	for i := range len(host) {
		if c := host[i]; !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~:[]!$&'()*+,;=%", c) >= 0) {
			return false
		}
	}
	return true
}

// ValidTarget reports whether TargetFault finds nothing.
func ValidTarget(target string) bool { return TargetFault(target) == "" }

// What is wrong with a request's target.
const (
	faultEmpty    = "the request target is empty"
	faultSpace    = "the request target has a space in it: send %20"
	faultControl  = "the request target has a control character in it"
	faultFragment = "the request target has a fragment (#), which a client keeps to itself"
	faultPath     = "the path has a character beyond ASCII in it: percent-encode its UTF-8, as in %C3%A4"
	faultForm     = "the request target is neither a path nor *"
)

// TargetFault says in words why something cannot be a request's target, or "". Allowed is visible ASCII without a
// fragment, and in the query any character beyond ASCII, as many programs send it: no reader divides a request line
// there. In a path, readers disagree about what such characters mean.
func TargetFault(target string) string {
	query := false
	for i := range len(target) {
		switch c := target[i]; {
		case c == ' ':
			return faultSpace
		case c < ' ' || c == 0x7f || c == c1Lead && i+1 < len(target) && 0x80 <= target[i+1] && target[i+1] <= c1Last:
			return faultControl
		case c == '#':
			return faultFragment
		case c >= 0x80 && !query:
			return faultPath
		case c == '?':
			query = true
		}
	}

	if target == "" {
		return faultEmpty
	}
	return ""
}

// The controls from U+0080 to U+009F, in UTF-8.
const c1Lead, c1Last = 0xc2, 0x9f

// Decimal reads a Content-Length: digits and nothing else, at most 18 of them.
func Decimal(s string) (n int64, ok bool) {
	if s == "" || len(s) > 18 {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, true
}
