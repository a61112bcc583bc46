package config

import (
	"fmt"
	"strings"
)

// Error is one thing wrong with a configuration. Line and Column are 0 where it did not come from a file.
type Error struct {
	File         string
	Line, Column int
	Path         string // sites[0].hosts[1]
	Message      string

	other string // path of what it contradicts; "": nothing
}

func (e Error) Error() string {
	var b strings.Builder
	if e.Line > 0 {
		fmt.Fprintf(&b, "%s:%d:%d: ", e.File, e.Line, e.Column)
	}
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	return b.String() + e.Message
}

// Errors are all that is wrong, in the file's order.
type Errors []Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}
