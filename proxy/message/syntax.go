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

// Protocol reports whether s names one protocol, with or without a version (RFC 9110 section 7.8).
func Protocol(s string) bool {
	name, version, versioned := strings.Cut(s, "/")
	return Token(name) && (!versioned || Token(version))
}

// FieldValue reports whether s can be a field's value (RFC 9110 section 5.5), white space around it apart.
func FieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// ValidHost allows what can stand in an authority without user information (RFC 3986 section 3.2.2). What names it may be is routing's affair.
func ValidHost(host string) bool {
	for i := range len(host) {
		if c := host[i]; !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~:[]!$&'()*+,;=%", c) >= 0) {
			return false
		}
	}
	return true
}

// ValidTarget allows visible ASCII without a fragment.
func ValidTarget(target string) bool {
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return false
		}
	}
	return target != ""
}

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
