package inspect

import "encoding/binary"

// Lines are field lines, each a name and a value behind their lengths. They have no pointers: whatever is remembered,
// the garbage collector has little to look at.
type Lines []byte

// AppendLine adds a field line.
func AppendLine(to Lines, name, value string) Lines {
	to = binary.AppendUvarint(to, uint64(len(name)))
	to = append(to, name...)
	to = binary.AppendUvarint(to, uint64(len(value)))
	return append(to, value...)
}

// LinesOf are fields as lines.
func LinesOf(fields []Field) (lines Lines) {
	for _, f := range fields {
		lines = AppendLine(lines, f.Name, f.Value)
	}
	return lines
}

// fields are the lines, in texts of their own.
func (l Lines) fields() (all []Field) {
	for len(l) > 0 {
		var name, value []byte
		name, value, l = l.next()
		all = append(all, Field{Name: string(name), Value: string(value)})
	}
	return all
}

// value is the first value of a field.
func (l Lines) value(name string) string {
	for len(l) > 0 {
		var is, value []byte
		// Most names differ in their length already.
		if is, value, l = l.next(); len(is) == len(name) && equal(string(is), name) {
			return string(value)
		}
	}
	return ""
}

func (l Lines) next() (name, value []byte, rest Lines) {
	name, rest = l.text()
	value, rest = rest.text()
	return name, value, rest
}

func (l Lines) text() (text []byte, rest Lines) {
	size, n := binary.Uvarint(l)
	end := n + int(size)
	return l[n:end], l[end:]
}
