package inspect

import (
	"mime"
	"slices"
	"strings"
)

const (
	// Redacted stands for what is not kept.
	Redacted = "REDACTED"
	// Hidden stands for what is shown only to who asks for it.
	Hidden = "••••••"
)

// SecretFields are the names of fields that hold what opens something, in lower case. Configurations name further ones.
func SecretFields() []string {
	return []string{
		"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "x-auth-token", "x-csrf-token",
		// What proxies and login services pass on of these.
		"x-forwarded-authorization", "x-forwarded-access-token", "x-auth-request-access-token", "x-authentik-jwt",
	}
}

func equal(a, b string) bool { return strings.EqualFold(a, b) }

// names are those of fields and parameters, without regard to case.
type names map[string]bool

func newNames(more []string) names {
	n := names{}
	for _, name := range slices.Concat(SecretFields(), more) {
		n[strings.ToLower(name)] = true
	}
	return n
}

func (n names) has(name string) bool {
	for i := range len(name) {
		// Most names have capitals over HTTP/1.1 and none over HTTP/2.
		if c := name[i]; 'A' <= c && c <= 'Z' || c >= 0x80 {
			return n[strings.ToLower(name)]
		}
	}
	return n[name]
}

// holdsURL reports whether a field's value is a URL, whose query may have secrets.
func holdsURL(name string) bool {
	return equal(name, "Referer") || equal(name, "Location") || equal(name, "Content-Location") || equal(name, "X-Original-URI") || equal(name, "Destination")
}

func kindOf(fields []Field) string {
	kind, _, err := mime.ParseMediaType(Value(fields, "Content-Type"))
	if err != nil {
		return ""
	}
	return kind
}

func isForm(fields []Field) bool { return kindOf(fields) == "application/x-www-form-urlencoded" }

// coded is the coding of a message's content; "": none.
func coded(fields []Field) string {
	coding := strings.ToLower(strings.TrimSpace(Value(fields, "Content-Encoding")))
	if coding == "identity" {
		return ""
	}
	return coding
}

// Conceal replaces in a request what only those see who ask for it. It reports whether there was any.
func (s *Store) Conceal(r *Request) (concealed bool) {
	m := s.masking(Hidden)
	hide := func(fields []Field) []Field {
		out := slices.Clone(fields)
		for i := range out {
			f := &out[i]
			before := f.Value
			if f.Secret && f.Value != Redacted {
				f.Value = Hidden
			} else if holdsURL(f.Name) {
				f.Value = m.query(f.Value)
			}
			concealed = concealed || f.Value != before
		}
		return out
	}

	s.concealContent(m, r.Received, &r.In)
	s.concealContent(m, r.Response, &r.Out)
	concealMessages(m, r.Messages)
	r.Received, r.Sent, r.Answered, r.Response = hide(r.Received), hide(r.Sent), hide(r.Answered), hide(r.Response)
	r.In.Trailers, r.Out.Trailers = hide(r.In.Trailers), hide(r.Out.Trailers)
	r.Target, r.SentTarget = m.query(r.Target), m.query(r.SentTarget)
	return concealed || len(m.taken) > 0
}

// concealMessages hides what is secret in messages.
func concealMessages(m *masking, all []Message) {
	for _, side := range []Side{Client, Server} {
		var parts []*Message // of one message
		for i := range all {
			one := &all[i]
			if one.From != side {
				continue
			}
			if one.Kind != "continuation" && !one.Part {
				one.Data = m.json(one.Data)
				continue
			}

			parts = append(parts, one)
			if !one.Part {
				concealParts(m, parts)
				parts = nil
			}
		}
		concealParts(m, parts)
	}
}

// concealParts hides what is secret in a message of several parts. A name may stand in one and its value in another, so
// those behind the first are hidden whole where the message has a secret, or where its beginning is not known.
func concealParts(m *masking, parts []*Message) {
	known := len(parts) > 0 && parts[0].Kind != "continuation"
	var text []byte
	cut := false
	for _, one := range parts {
		text = append(text, one.Data...)
		cut = cut || one.Cut
	}
	whole := &masking{names: m.names, mask: m.mask}
	whole.json(text)
	if known && !cut && len(whole.taken) == 0 {
		return
	}

	for i, one := range parts {
		if i == 0 && known {
			one.Data = m.json(one.Data)
		} else if len(one.Data) > 0 {
			m.taken = append(m.taken, string(one.Data))
			one.Data = []byte(m.mask)
		}
	}
}

// concealContent hides what is secret in content, from which it takes a coding if there is something.
func (s *Store) concealContent(m *masking, fields []Field, c *Content) {
	if coded(fields) == "" || c.Decoded {
		c.Data = m.content(fields, c.Data)
		return
	}
	plain, _ := decode(coded(fields), c.Data)
	before := len(m.taken)
	if plain = m.content(fields, plain); len(m.taken) > before {
		c.Data, c.Decoded = plain, true
	}
}
