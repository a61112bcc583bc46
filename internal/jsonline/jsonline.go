// Package jsonline writes lines of JSON as log/slog's JSON handler does, for logs that are too busy for that.
//
//	b = jsonline.Begin(b[:0], time.Now(), "request")
//	b = jsonline.Text(b, "host", host)
//	b = jsonline.End(b)
//
// Every function appends to a slice and returns it. Keys are written as they are.
package jsonline

import (
	"strconv"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Begin begins a line of level INFO.
func Begin(b []byte, at time.Time, message string) []byte {
	b = append(b, `{"time":"`...)
	b = at.AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","level":"INFO","msg":`...)
	return quoted(b, message)
}

// End ends a line.
func End(b []byte) []byte { return append(b, '}', '\n') }

// Open begins an object inside the line, which Close ends.
func Open(b []byte, key string) []byte { return append(named(b, key), '{') }

// Close ends what Open began.
func Close(b []byte) []byte { return append(b, '}') }

// Text writes a text in which nothing acts on a terminal: controls, and what turns writing round, are escaped.
func Text(b []byte, key, value string) []byte { return quoted(named(b, key), value) }

// TextIfAny is Text, and writes nothing for an empty value.
func TextIfAny(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	return Text(b, key, value)
}

// Int writes a number.
func Int(b []byte, key string, value int64) []byte {
	return strconv.AppendInt(named(b, key), value, 10)
}

// Uint writes a number.
func Uint(b []byte, key string, value uint64) []byte {
	return strconv.AppendUint(named(b, key), value, 10)
}

// Bool writes true or false.
func Bool(b []byte, key string, value bool) []byte { return strconv.AppendBool(named(b, key), value) }

// Milliseconds writes a duration in milliseconds, to the microsecond.
func Milliseconds(b []byte, key string, d time.Duration) []byte {
	return strconv.AppendFloat(named(b, key), float64(d.Microseconds())/1000, 'f', -1, 64)
}

func named(b []byte, key string) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	b = append(b, '"')
	b = append(b, key...)
	return append(b, '"', ':')
}

func quoted(b []byte, s string) []byte {
	b = append(b, '"')
	plain := 0 // what is before it has been written
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < 0x7f && c != '"' && c != '\\' {
			i++
			continue
		}

		r, size := utf8.DecodeRuneInString(s[i:])
		if (r != utf8.RuneError || size > 1) && r >= 0x7f && unicode.IsPrint(r) {
			i += size
			continue
		}

		b = append(b, s[plain:i]...)
		b = escaped(b, r)
		i += size
		plain = i
	}

	b = append(b, s[plain:]...)
	return append(b, '"')
}

// escaped writes a character as JSON can always be written (RFC 8259 section 7).
func escaped(b []byte, r rune) []byte {
	switch r {
	case '"', '\\':
		return append(b, '\\', byte(r))
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	}

	if r > 0xffff {
		high, low := utf16.EncodeRune(r)
		return escaped(escaped(b, high), low)
	}

	const digits = "0123456789abcdef"
	return append(b, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}
