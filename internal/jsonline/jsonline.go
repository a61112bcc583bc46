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
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Begin begins a line of level INFO.
func Begin(b []byte, at time.Time, message string) []byte {
	b = append(b, `{"time":"`...)
	b = appendTime(b, at)
	b = append(b, `","level":"INFO","msg":`...)
	return quoted(b, message)
}

// second is what all times of one second, in one place, begin and end with.
type second struct {
	unix       int64
	place      *time.Location
	head, zone string
}

var lastSecond atomic.Pointer[second]

// appendTime is time.RFC3339Nano. All but the fraction is made once a second, as dates cost more than the rest of a
// line.
func appendTime(b []byte, at time.Time) []byte {
	s := lastSecond.Load()
	if s == nil || s.unix != at.Unix() || s.place != at.Location() {
		s = &second{at.Unix(), at.Location(), at.Format("2006-01-02T15:04:05"), at.Format("Z07:00")}
		lastSecond.Store(s)
	}

	b = append(b, s.head...)
	if n := at.Nanosecond(); n > 0 {
		b = appendFraction(b, n, 9)
	}

	return append(b, s.zone...)
}

// appendFraction writes what follows a decimal point: n of so many digits, without zeros at the end.
func appendFraction(b []byte, n, digits int) []byte {
	b = append(b, ".000000000"[:1+digits]...)
	end := len(b)
	for i := end - 1; n > 0; i-- {
		b[i] = '0' + byte(n%10)
		n /= 10
	}

	for b[end-1] == '0' {
		end--
	}

	return b[:end]
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
	b = named(b, key)
	n := d.Microseconds()
	if n < 0 {
		b, n = append(b, '-'), -n
	}

	b = strconv.AppendInt(b, n/1000, 10)
	if n %= 1000; n > 0 {
		b = appendFraction(b, int(n), 3)
	}

	return b
}

func named(b []byte, key string) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	b = append(b, '"')
	b = append(b, key...)
	return append(b, '"', ':')
}

// plain are the bytes that a text has as they are.
var plain = func() (t [256]bool) {
	for c := ' '; c < 0x7f; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

func quoted(b []byte, s string) []byte {
	b = append(b, '"')
	i := 0
	for i < len(s) && plain[s[i]] {
		i++
	}

	if b = append(b, s[:i]...); i < len(s) {
		b = quotedRest(b, s[i:])
	}

	return append(b, '"')
}

// quotedRest writes a text that has something in it to escape, or beyond ASCII.
func quotedRest(b []byte, s string) []byte {
	written := 0
	for i := 0; i < len(s); {
		if plain[s[i]] {
			i++
			continue
		}

		r, size := utf8.DecodeRuneInString(s[i:])
		if (r != utf8.RuneError || size > 1) && r >= 0x7f && unicode.IsPrint(r) {
			i += size
			continue
		}

		b = append(b, s[written:i]...)
		b = escaped(b, r)
		i += size
		written = i
	}

	return append(b, s[written:]...)
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
