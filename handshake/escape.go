package handshake

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const maxText = 512

// Escape makes text from the wire safe to show on a terminal, in a log and in a page: control and formatting
// characters, bidirectional overrides among them, and invalid UTF-8 are spelled out, and what is longer than 512 bytes
// is cut.
func Escape(s string) string {
	if len(s) > maxText {
		s = s[:maxText] + "…"
	}
	if clean(s) {
		return s
	}

	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\\':
			b.WriteString(`\\`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\u{%x}`, r)
		}
		i += size
	}

	return b.String()
}

func clean(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' || s[i] == '\\' {
			return false
		}
	}
	return true
}
