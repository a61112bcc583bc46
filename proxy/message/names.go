package message

import "strings"

// Names is a set of field names, looked up without regard to case and without allocation.
type Names [32][]string // by length

// NewNames makes a set of names shorter than 32 bytes.
func NewNames(names ...string) *Names {
	n := &Names{}
	for _, name := range names {
		n[len(name)] = append(n[len(name)], strings.ToLower(name))
	}
	return n
}

// Has reports whether name is in the set.
func (n *Names) Has(name string) bool {
	if len(name) >= len(n) || name == "" {
		return false
	}
	for _, known := range n[len(name)] {
		if known[0] == name[0]|0x20 && strings.EqualFold(known, name) {
			return true
		}
	}
	return false
}

// Is reports whether two names are the same but for the case of their ASCII letters.
func Is(a, b string) bool { return len(a) == len(b) && strings.EqualFold(a, b) }
