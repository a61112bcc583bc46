package paths

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// look is what some letters look like to those who take letters that look alike for the same, as Windows does with ／
// and ．, and file systems with letters that carry their accents apart (Unicode's form NFKC), and who do not look at
// what cannot be seen, as HFS+ does.
type look struct {
	from, to rune
	as       string // the characters of ASCII that mean something in a path, and x for all others
}

// lookBlocks are the blocks of 256 characters in which there are looks.
var lookBlocks = func() (blocks [utf8.MaxRune>>8 + 1]bool) {
	for _, l := range looks {
		for block := l.from >> 8; block <= l.to>>8; block++ {
			blocks[block] = true
		}
	}
	return blocks
}()

const other = "x"

// looksLike is the look of a character beyond ASCII.
func looksLike(r rune) string {
	if !lookBlocks[r>>8] {
		return other
	}

	low, high := 0, len(looks)
	for low < high {
		if middle := (low + high) / 2; looks[middle].to < r {
			low = middle + 1
		} else {
			high = middle
		}
	}

	if low < len(looks) && looks[low].from <= r {
		return looks[low].as
	}
	return other
}

// ascii reports whether there is nothing but ASCII.
func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// reduced is a text of which only what it looks like is left: its characters of ASCII, those that others look like, and
// x for the rest. It takes no longer than the text is long, whatever that is made of.
func reduced(s string) string {
	if ascii(s) {
		return s
	}

	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			b.WriteByte(c)
			i++
			continue
		}

		r, size := utf8.DecodeRuneInString(s[i:])
		b.WriteString(looksLike(r))
		i += size
	}

	return b.String()
}

// compatible is a text whose letters that look alike are one (Unicode's form NFKC), without what cannot be seen. Some
// letters become eighteen; see head.
func compatible(s string) string {
	if ascii(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if r < utf8.RuneSelf || looksLike(r) != "" {
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	return norm.NFKC.String(b.String())
}

// head is what of a decoded segment can matter where only the first so many bytes of it are asked for, as loose readers
// have it: with alike, after compatible, whose expansions are bounded by this. What is left out stands behind those
// bytes, or is taken off by every reader: blanks at the beginning, and blanks and dots at the end.
func head(s string, need int, alike bool) string {
	if len(s) <= need/2 {
		// At most eighteen letters stand for one, so this stays at some hundred bytes.
		return s
	}

	enough := shrinks*need + sequence
	var b strings.Builder
	size := 0      // of what is kept, after compatible
	solid := false // something is left out that nobody takes off
	colon := false // the last one looks like a colon
	begun := false // something is kept that is no blank
	var cut [4]bool
	for i := 0; i < len(s); {
		c, n, as := rune(s[i]), 1, ""
		switch {
		case c < utf8.RuneSelf:
			as = s[i : i+1]
		case !alike:
			_, n = utf8.DecodeRuneInString(s[i:])
			as = other
		default:
			c, n = utf8.DecodeRuneInString(s[i:])
			as = looksLike(c)
		}

		text := s[i : i+n]
		i += n

		switch {
		case as == "" || as == " " && !begun:
			continue
		case size < enough:
			begun = true
			b.WriteString(text)
			size += width(text, alike)
		default:
			for j := range len(as) {
				switch one := as[j]; {
				case one == '.' || one == ' ':
				case one == ';':
					once(&b, &cut[0], ";")
				case one == '?' || one == '#':
					once(&b, &cut[1], "?")
				case one == '$' && colon && j == 0:
					once(&b, &cut[2], ":$")
				case one == ':':
					// Windows cuts a name off at the colon of a stream.
					once(&b, &cut[3], ":")
				case !solid:
					solid = true
					b.WriteString(other)
				}
			}
		}

		colon = as[len(as)-1] == ':'
	}

	return b.String()
}

const (
	shrinks  = 8   // times, at most, which a letter does that is composed of several, or folded
	sequence = 256 // bytes of letters that may change what stands before them (Unicode's stream-safe text)
)

// width is how long a letter is after compatible, in the worst case.
func width(letter string, alike bool) int {
	if !alike || letter[0] < utf8.RuneSelf {
		return len(letter)
	}
	if d := norm.NFKC.PropertiesString(letter).Decomposition(); d != nil {
		return len(d)
	}
	return len(letter)
}

func once(b *strings.Builder, done *bool, text string) {
	if !*done {
		*done = true
		b.WriteString(text)
	}
}
