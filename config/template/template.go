// Package template puts what is known of a request into texts of the configuration.
//
//	t, err := template.Parse("https://www.{host}{uri}")
//	for text, variable := range t.Parts { … }
//
// It knows names only; what they stand for is the caller's affair. A template never changes, and may be used from
// many goroutines.
package template

import (
	"fmt"
	"strings"
)

// Variable is something that is known of a request.
type Variable int

// The variables, by the names that stand in braces.
const (
	none       Variable = iota
	ClientIP            // client_ip: the client's address
	Host                // host: name that was asked for, without a port
	Method              // method
	Scheme              // scheme: https
	Path                // path: as the client sent it, without the query
	Query               // query: without the question mark
	URI                 // uri: path and query
	RequestID           // request_id
	Handshake           // handshake_id
	TLSVersion          // tls_version: TLS 1.3
	TLSCipher           // tls_cipher
	SNI                 // sni
	Subject             // client_subject: of the client's certificate
	User                // user: who has proved to be here; empty where nobody is asked
)

var names = [...]string{
	ClientIP: "client_ip", Host: "host", Method: "method", Scheme: "scheme", Path: "path", Query: "query", URI: "uri", RequestID: "request_id",
	Handshake: "handshake_id", TLSVersion: "tls_version", TLSCipher: "tls_cipher", SNI: "sni", Subject: "client_subject", User: "user",
}

// Template is a parsed text.
type Template struct{ parts []part }

// part is a text, or a variable.
type part struct {
	text     string
	variable Variable
}

// Parse reads a text; {{ and }} stand for braces.
func Parse(text string) (Template, error) {
	var t Template
	var literal strings.Builder
	for i := 0; i < len(text); i++ {
		switch rest := text[i:]; {
		case strings.HasPrefix(rest, "{{"), strings.HasPrefix(rest, "}}"):
			literal.WriteByte(text[i])
			i++
		case text[i] == '}':
			return t, fmt.Errorf("%q: a } without its {; a brace itself is written twice", text)
		case text[i] == '{':
			end := strings.IndexByte(rest, '}')
			if end < 0 {
				return t, fmt.Errorf("%q: a { without its }; a brace itself is written twice", text)
			}
			v, ok := lookup(rest[1:end])
			if !ok {
				return t, fmt.Errorf("%q: {%s} is not a variable; there are: %s", text, rest[1:end], strings.Join(names[1:], ", "))
			}

			if literal.Len() > 0 {
				t.parts = append(t.parts, part{text: literal.String()})
				literal.Reset()
			}

			t.parts = append(t.parts, part{variable: v})
			i += end
		default:
			literal.WriteByte(text[i])
		}
	}

	if literal.Len() > 0 || len(t.parts) == 0 {
		t.parts = append(t.parts, part{text: literal.String()})
	}
	return t, nil
}

func lookup(name string) (Variable, bool) {
	for i, known := range names {
		if known == name && i > 0 {
			return Variable(i), true
		}
	}
	return none, false
}

// Fixed returns the text of a template without variables.
func (t Template) Fixed() (string, bool) {
	if len(t.parts) == 1 && t.parts[0].variable == none {
		return t.parts[0].text, true
	}
	return "", len(t.parts) == 0
}

// Parts yields what the text consists of, in order: a text, or, where that is empty, a variable.
func (t Template) Parts(yield func(text string, v Variable) bool) {
	for _, p := range t.parts {
		if !yield(p.text, p.variable) {
			return
		}
	}
}
