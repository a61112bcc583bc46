package inspect

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Edit is what a replay has in the place of what its request had. The zero value changes nothing.
type Edit struct {
	Method  string  `json:"method"`
	Target  string  `json:"target"`
	Fields  []Field `json:"headers"` // all of them, Host among them; a value that is Hidden stays what it was. Nil: as they were
	Content *string `json:"content"` // nil: as it was
}

var (
	// ErrForgotten is given where a request is not remembered.
	ErrForgotten = errors.New("this request is not remembered any more")
	// ErrNotServed is given where the site does not serve the client any more, or does not remember requests.
	ErrNotServed = errors.New("the site does not serve this client any more, or remembers no requests")
)

// UnrepeatableError says why a request cannot be sent again.
type UnrepeatableError struct{ Why string }

// Error implements error.
func (e *UnrepeatableError) Error() string { return e.Why }

func unrepeatable(format string, args ...any) error {
	return &UnrepeatableError{fmt.Sprintf(format, args...)}
}

// ofConnection are fields that speak of the connection, or of content whose length may be another.
var ofConnection = []string{
	"connection", "content-length", "expect", "http2-settings", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
}

// Again is a request as it is to be sent once more: method, host, target, fields and content.
func (s *Store) Again(id uint64, e Edit) (*Request, error) {
	was := s.Find(id)
	if was == nil {
		return nil, ErrForgotten
	}
	if was.Tunnel || was.Method == "CONNECT" || Value(was.Received, "Upgrade") != "" {
		return nil, unrepeatable("a WebSocket cannot be sent again")
	}

	r := *was
	if e.Method != "" {
		if !token(e.Method) || e.Method == "CONNECT" {
			return nil, unrepeatable("%q is no method", e.Method)
		}
		r.Method = e.Method
	}
	if e.Target != "" {
		var ok bool
		if r.Target, ok = s.unhide(e.Target, was.Target); !ok {
			return nil, unrepeatable("what is hidden in the path cannot be told apart any more: show secrets, and edit it then")
		}
		if !strings.HasPrefix(r.Target, "/") && r.Target != "*" || !visible(r.Target) {
			return nil, unrepeatable("%q is no path: it begins with a slash, and blanks in it are %%20", e.Target)
		}
	}

	if err := s.edited(&r, was, &e); err != nil {
		return nil, err
	}
	switch {
	case e.Content != nil:
		m := s.masking(Hidden)
		hidden := was.In
		s.concealContent(m, was.Received, &hidden)
		content, ok := m.restore(*e.Content)
		if !ok {
			return nil, unrepeatable("what is hidden in the content cannot be told apart any more: show secrets, and edit it then")
		}
		r.In = Content{Data: []byte(content), Size: int64(len(content))}
		// What was written by hand is in no coding.
		r.Received = slices.DeleteFunc(r.Received, func(f Field) bool { return equal(f.Name, "Content-Encoding") })
	case was.In.Decoded:
		return nil, unrepeatable("its content was compressed, and is remembered without that and without its secrets: give another content")
	case was.In.Cut || !was.Done && was.In.Size > 0:
		return nil, unrepeatable("only the first %d bytes of its content are known: give another content, or raise inspect.body", len(was.In.Data))
	}
	return &r, nil
}

// edited puts the fields of an edit into the place of those that were.
func (s *Store) edited(r, was *Request, e *Edit) error {
	fields := e.Fields
	if fields == nil {
		fields = was.Received
	}
	r.Received = nil
	used := map[string]int{}
	for _, f := range fields {
		name := strings.ToLower(f.Name)
		nth := used[name]
		used[name]++
		switch {
		case !token(f.Name):
			return unrepeatable("%q is no name of a header", f.Name)
		case !printable(f.Value):
			return unrepeatable("the value of %s has a line break, or another control character", f.Name)
		case f.Value == Hidden:
			f.Value = nthValue(was.Received, name, nth)
		case holdsURL(f.Name):
			var ok bool
			if f.Value, ok = s.unhide(f.Value, nthValue(was.Received, name, nth)); !ok {
				return unrepeatable("what is hidden in %s cannot be told apart any more: show secrets, and edit it then", f.Name)
			}
		}

		switch {
		// What is not kept cannot be sent: a target would take the word for a password.
		case f.Value == Redacted, slices.Contains(ofConnection, name):
		case name == "host":
			r.Host = f.Value
		default:
			r.Received = append(r.Received, Field{Name: f.Name, Value: strings.Trim(f.Value, " \t")})
		}
	}
	return nil
}

// unhide is a URL that somebody has edited, with what was hidden in it.
func (s *Store) unhide(text, was string) (string, bool) {
	m := s.masking(Hidden)
	m.query(was)
	return m.restore(text)
}

func nthValue(fields []Field, name string, n int) string {
	for i := range fields {
		if equal(fields[i].Name, name) {
			if n == 0 {
				return fields[i].Value
			}
			n--
		}
	}
	return ""
}

// token is RFC 9110 section 5.6.2.
func token(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// visible reports whether a text has neither blanks nor control characters.
func visible(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f })
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}
