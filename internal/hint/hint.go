// Package hint adds to an error the step that mends it, which is printed in a line of its own.
//
//	return hint.Add(err, "choose another address: --listen 127.0.0.1:9443")
package hint

import "errors"

type hinted struct {
	error
	text string
}

func (h *hinted) Unwrap() error { return h.error }

// Add is err with what to do about it, instead of what was said before.
func Add(err error, text string) error { return &hinted{err, text} }

// Of is what to do about an error; "": nobody has said.
func Of(err error) string {
	var h *hinted
	if errors.As(err, &h) {
		return h.text
	}
	return ""
}
