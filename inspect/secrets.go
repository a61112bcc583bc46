package inspect

import (
	"mime"
	"net/url"
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

// query masks the secret parameters of a target or a URL.
func (n names) query(target string) string { return n.maskQuery(target, Redacted) }

func (n names) maskQuery(target, mask string) string {
	path, query, ok := strings.Cut(target, "?")
	if !ok {
		return target
	}
	return path + "?" + n.mask(query, mask)
}

// pairs masks the secret fields of a form.
func (n names) pairs(form string) string { return n.mask(form, Redacted) }

func (n names) mask(pairs, mask string) string {
	all := strings.Split(pairs, "&")
	for i, pair := range all {
		name, value, ok := strings.Cut(pair, "=")
		if plain, err := url.QueryUnescape(name); ok && value != Redacted && err == nil && n.has(plain) {
			all[i] = name + "=" + mask
		}
	}
	return strings.Join(all, "&")
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

// Conceal replaces in a request what only those see who ask for it. It reports whether there was any.
func (s *Store) Conceal(r *Request) (concealed bool) {
	hide := func(fields []Field) []Field {
		out := slices.Clone(fields)
		for i := range out {
			f := &out[i]
			before := f.Value
			if f.Secret && f.Value != Redacted {
				f.Value = Hidden
			} else if holdsURL(f.Name) {
				f.Value = s.secret.maskQuery(f.Value, Hidden)
			}
			concealed = concealed || f.Value != before
		}
		return out
	}

	text := func(t *string) {
		before := *t
		*t = s.secret.maskQuery(*t, Hidden)
		concealed = concealed || *t != before
	}

	form := func(fields []Field, c *Content) {
		if isForm(fields) {
			before := string(c.Data)
			after := s.secret.mask(before, Hidden)
			concealed = concealed || before != after
			c.Data = []byte(after)
		}
		c.Trailers = hide(c.Trailers)
	}

	form(r.Received, &r.In)
	form(r.Response, &r.Out)
	r.Received, r.Sent, r.Answered, r.Response = hide(r.Received), hide(r.Sent), hide(r.Answered), hide(r.Response)
	text(&r.Target)
	text(&r.SentTarget)
	return concealed
}
