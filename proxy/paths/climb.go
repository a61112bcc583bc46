package paths

import (
	"iter"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDecodings are as many as a path is decoded in a row: nobody means one that still changes. A long one is decoded
// maxLong times.
const (
	maxDecodings = 8
	maxLong      = 3
	longDecoded  = 4 << 10
)

// climbsAnyhow reports whether some reader finds "..", or with above, whether one is led above the beginning:
// however often it decodes, whichever encoding it takes, and whatever it leaves out.
func climbsAnyhow(path string, above bool) bool {
	// Most paths have nothing that could become dots, and cost one pass.
	if !strings.ContainsAny(path, ".%") && !strings.ContainsFunc(path, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return false
	}
	stages := 0
	for stage := range decodings(path) {
		// Giving up refuses the path: a bound that let it through could be reached on purpose.
		if stages++; stages > maxDecodings || stages > maxLong && len(stage) > longDecoded || loosestClimb(stage, above) {
			return true
		}
	}
	return false
}

// decodings are a path as it stands, and decoded once, twice and so on, as far as that goes, but at most once
// more than maxDecodings.
func decodings(path string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for range maxDecodings + 1 {
			if !yield(path) {
				return
			}
			next := decodeLoosely(path)
			if next == path {
				return
			}
			path = next
		}
	}
}

// loosestClimb reads a decoded path. Where readers divide it differently, it counts what leads up by all of them
// and what leads down by the least.
func loosestClimb(path string, above bool) bool {
	if !strings.Contains(path, ".") && ascii(path) {
		return false
	}
	depth := 0
	for part := range strings.SplitSeq(path, "/") {
		if isName(part) {
			depth++
			continue
		}

		// Characters that only look like dots or slashes become them, as some readers normalize Unicode first.
		look := reduced(part)
		if !above && !strings.Contains(look, ".") {
			continue
		}

		up, down := partClimb(look)
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

// partClimb is how far a part of a path leads up at most, and whether it certainly leads down.
func partClimb(look string) (up, down int) {
	for segment := range strings.FieldsFuncSeq(look, func(r rune) bool { return r == '/' || r == '\\' }) {
		// Readers that split after decoding end the path here, and C programs at a zero byte.
		if end := strings.IndexAny(segment, "?#\x00"); end >= 0 {
			segment = segment[:end]
		}

		switch bare(strings.Map(withoutBlanks, segment)) {
		case "..":
			up++
		case "", ".":
		default:
			// However many segments a part may have, only one of them is certain for every reader.
			down = 1
		}
	}
	return up, down
}

// isName reports whether every reader takes a part of a path for the name of something below.
func isName(part string) bool {
	if part == "" || part[0] == '.' {
		return false
	}
	for i := range len(part) {
		if c := part[i]; !plainBytes[c] || c == ':' {
			return false
		}
	}
	return true
}

// withoutBlanks makes a space of each, which bare takes off.
func withoutBlanks(r rune) rune {
	if isBlank(r) {
		return ' '
	}
	return r
}

// isBlank is for spaces and control characters.
func isBlank(r rune) bool { return r <= ' ' || r == 0x7f }

// decodeLoosely decodes as the most generous reader does: JavaScript's %u002e and overlong UTF-8, too.
func decodeLoosely(s string) string {
	if !strings.Contains(s, "%") && utf8.ValidString(s) {
		return s
	}

	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' && s[i] < utf8.RuneSelf {
			b.WriteByte(s[i])
			// The branches are tried in the order in which a reader that knows all of them would.
		} else if decoded, ok := escaped(s[i:]); ok {
			b.WriteByte(decoded)
			i += 2
		} else if r, ok := escapedRune(s[i:]); ok {
			b.WriteRune(r)
			i += 5
		} else if c, size := overlongByte(s[i:]); size > 0 {
			b.WriteByte(c)
			i += size - 1
		} else {
			b.WriteByte(s[i])
		}
	}

	return b.String()
}

// escapedRune reads %uXXXX.
func escapedRune(s string) (rune, bool) {
	if len(s) < 6 || s[0] != '%' || s[1]|0x20 != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(s[2:6], 16, 32)
	return rune(n), err == nil
}

// overlongByte reads a character of ASCII that takes more bytes than it needs (RFC 3629 section 3).
func overlongByte(s string) (c byte, size int) {
	switch s[0] {
	case 0xc0, 0xc1:
		size = 2
	case 0xe0:
		size = 3
	case 0xf0:
		size = 4
	case 0xf8:
		size = 5
	case 0xfc:
		size = 6
	}

	if size == 0 || len(s) < size {
		return 0, 0
	}

	value := uint32(s[0] & 1)
	for _, next := range []byte(s[1:size]) {
		if next&0xc0 != 0x80 {
			return 0, 0
		}
		value = value<<6 | uint32(next&0x3f)
	}

	if value >= utf8.RuneSelf {
		return 0, 0
	}

	return byte(value), size
}
