package message

import "strconv"

// Unwritable is given by whoever writes a message, for one whose text could be read as something else than it
// is: with a control character, or a space where none can be. Parsers and the configuration let none come that
// far; nothing of it has been sent.
type Unwritable struct{ What string }

// Error implements error. It does not repeat what a log should not have.
func (e *Unwritable) Error() string { return "its " + e.What + " cannot be written" }

// Writable checks names and values as all writers do before they write any of them.
func (f Fields) Writable() error {
	for i := range f {
		if !Token(f[i].Name) {
			return &Unwritable{"field number " + strconv.Itoa(i+1)}
		}
		if !FieldValue(f[i].Value) {
			return &Unwritable{"field " + f[i].Name}
		}
	}
	return nil
}

// Writable checks what stands in a request's head.
func (r *Request) Writable() error {
	switch {
	case !Token(r.Method):
		return &Unwritable{"method"}
	case !ValidTarget(r.Target) || r.Target[0] != '/' && r.Target != "*":
		return &Unwritable{"target"}
	case !ValidHost(r.Host):
		return &Unwritable{"host"}
	case r.Upgrade != "" && !Protocol(r.Upgrade):
		return &Unwritable{"upgrade"}
	}

	for _, name := range r.Declared {
		if !Token(name) {
			return &Unwritable{"list of trailers"}
		}
	}
	return r.Fields.Writable()
}
