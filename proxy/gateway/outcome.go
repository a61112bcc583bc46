package gateway

import (
	"padlock/proxy/message"
	"padlock/proxy/paths"
	"padlock/proxy/sites"
)

// What an Action's error may be, beside the status of an error page. Any other error is answered with 500.

// StatusError is a response of padlock's own that says why there is no other.
type StatusError struct {
	Status int
	Text   string         // for the client
	Detail string         // for the person who runs padlock; "": none
	Fields message.Fields // beside those that every error page has
	Cause  string         // for logs; "": Text

	page  *sites.ErrorPage // instead of the site's for the status; nil: that
	plain bool             // none of the site's
}

// Error implements error.
func (e *StatusError) Error() string {
	if e.Cause != "" {
		return e.Cause
	}
	return e.Text
}

// status is an error with nothing more to say.
func status(code int, text string) *StatusError { return &StatusError{Status: code, Text: text} }

// busy is an error that may be over soon.
func busy(code int, text string) *StatusError {
	return &StatusError{Status: code, Text: text, Fields: message.Fields{{Name: "Retry-After", Value: "5"}}}
}

// notAllowed is a 405, with the methods that are.
func notAllowed(text, methods string) *StatusError {
	return &StatusError{Status: 405, Text: text, Fields: message.Fields{{Name: "Allow", Value: methods}}}
}

// ambiguous is for a target that means more than one thing. Which one is the client's to say.
func ambiguous(err error) *StatusError {
	return status(400, "This address can be read in more than one way: "+err.Error())
}

// abort ends a response so that the client sees it cut short.
type abort struct{ why string }

func (e *abort) Error() string { return e.why }

// reset is abort for a target that has reset its stream.
type reset struct {
	code uint32
	why  string
}

func (e *reset) Error() string { return e.why }

// fallback has the client come again over HTTP/1.1.
type fallback struct{ why string }

func (e *fallback) Error() string { return e.why }

var errNothing = status(404, "There is nothing here")

// errDependsOnReader is for a path that a target may read so that other rules hold.
var errDependsOnReader = ambiguous(paths.DependsOnReader)
