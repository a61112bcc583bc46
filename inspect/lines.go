package inspect

import (
	"encoding/binary"
	"time"
)

// Lines appends field lines to what it is given, and returns that: AppendLine for each. Nil: there are none. It is
// called before the method that it is given to returns, possibly more than once.
type Lines func(to []byte) []byte

// AppendLine adds a field line: a name and a value behind their lengths.
func AppendLine(to []byte, name, value string) []byte {
	at, more := len(to), len(name)+len(value)+2
	if len(name) >= 0x80 || len(value) >= 0x80 || cap(to)-at < more {
		return appendText(appendText(to, name), value)
	}
	// Most lines, in one step.
	to = to[:at+more]
	line := to[at:]
	line[0] = byte(len(name))
	copy(line[1:], name)
	line = line[1+len(name):]
	line[0] = byte(len(value))
	copy(line[1:], value)
	return to
}

// LinesOf are fields as lines.
func LinesOf(fields []Field) Lines {
	return func(to []byte) []byte {
		for i := range fields {
			to = AppendLine(to, fields[i].Name, fields[i].Value)
		}
		return to
	}
}

// append adds the lines, if there are any.
func (l Lines) append(to []byte) []byte {
	if l == nil {
		return to
	}
	return l(to)
}

func appendText(to []byte, text string) []byte {
	if len(text) < 0x80 {
		return append(append(to, byte(len(text))), text...)
	}
	return append(binary.AppendUvarint(to, uint64(len(text))), text...)
}

func appendTook(to []byte, took time.Duration) []byte {
	return binary.AppendUvarint(to, uint64(max(0, took)))
}

// value is the first value of a field, in lines as they are.
func value(lines []byte, name string) []byte {
	for len(lines) > 0 {
		is, rest := cutText(lines)
		value, rest := cutText(rest)
		// Most names differ in their length already.
		if len(is) == len(name) && equal(string(is), name) {
			return value
		}
		lines = rest
	}
	return nil
}

func cutText(lines []byte) (text, rest []byte) {
	size, n := int(lines[0]), 1
	if size >= 0x80 {
		long, more := binary.Uvarint(lines)
		size, n = int(long), more
	}
	return lines[n : n+size], lines[n+size:]
}

// entry is what was noted, as it is read. It is a copy.
type entry string

func (e *entry) number() (n uint64) {
	for shift := 0; ; shift += 7 {
		b := (*e)[0]
		*e = (*e)[1:]
		if n |= uint64(b&0x7f) << shift; b < 0x80 {
			return n
		}
	}
}

func (e *entry) took() time.Duration { return time.Duration(e.number()) }

func (e *entry) text() string {
	size := e.number()
	text := (*e)[:size]
	*e = (*e)[size:]
	return string(text)
}

// fields are the lines that an entry ends with.
func (e entry) fields() (all []Field) {
	for len(e) > 0 {
		all = append(all, Field{Name: e.text(), Value: e.text()})
	}
	return all
}
