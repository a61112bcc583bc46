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

// At is an error that was found on this machine, with the key that it is about. Located gives it a line. It belongs at
// the outside of an error, below hints alone: what wraps it has its text without the line.
func At(path string, err error) error {
	if err == nil {
		return nil
	}
	return &machineError{place: Error{Path: path}, err: err}
}

type machineError struct {
	place Error // without a message
	err   error
}

// Error implements error.
func (e *machineError) Error() string {
	at := e.place
	at.Message = e.err.Error()
	return at.Error()
}

// Unwrap is what was found.
func (e *machineError) Unwrap() error { return e.err }

// Errors are all that is wrong, in the file's order.
type Errors []Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}
