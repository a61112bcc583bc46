package proxy

import (
	"crypto/tls"
	"errors"
	"slices"
	"strconv"
	"strings"

	"padlock/config"
	"padlock/config/template"
	"padlock/proxy/message"
	"padlock/proxy/paths"
)

// fieldRules change fields: first they remove, then replace, then set, then add.
type fieldRules struct {
	request, response fieldChanges
	altSvc            bool // a target's Alt-Svc is kept
}

type fieldChanges struct {
	remove   []fieldName
	replace  []fieldReplacement
	set, add []fieldTemplate
}

// fieldReplacement puts a text into the place of another, wherever that stands in a field's value.
type fieldReplacement struct {
	fieldName
	from, to template.Template
}

// fieldName is a name, and what backends of CGI's kind make of it.
type fieldName struct{ name, plain string }

func newFieldName(name string) fieldName {
	plain, _ := message.Alias(name)
	return fieldName{name, plain}
}

// is reports whether another name is this one, or with aliases passes for it.
func (n *fieldName) is(other string, aliases bool) bool {
	if aliases {
		other, _ = message.Alias(other)
		return message.Is(other, n.plain)
	}
	return message.Is(other, n.name)
}

// del removes every line of the name, and of its aliases where a client must not pass them off for it.
func (n *fieldName) del(f *message.Fields, aliases bool) {
	f.DelFunc(func(other string) bool { return n.is(other, aliases) })
}

type fieldTemplate struct {
	fieldName
	value template.Template
	fixed string // the value, where nothing varies
	vary  bool
	leads *redirect // where a Location that varies leads to; nil: the value is any text
}

func newFieldRules(c *config.HeaderRules) fieldRules {
	compile := func(r *config.FieldRules) fieldChanges {
		changes := fieldChanges{set: fieldTemplates(r.Set), add: fieldTemplates(r.Add)}
		for _, name := range r.Remove {
			changes.remove = append(changes.remove, newFieldName(name))
		}
		for _, v := range r.Replace {
			from, _ := template.Parse(v.From) // were validated
			to, _ := template.Parse(v.To)
			changes.replace = append(changes.replace, fieldReplacement{newFieldName(v.Name), from, to})
		}
		return changes
	}
	keep := slices.ContainsFunc(c.Response.Keep, func(name string) bool { return message.Is(name, "Alt-Svc") })
	return fieldRules{compile(&c.Request), compile(&c.Response.FieldRules), keep}
}

func fieldTemplates(values config.FieldValues) (all []fieldTemplate) {
	for _, v := range values {
		parsed, _ := template.Parse(v.Value) // was validated
		fixed, ok := parsed.Fixed()
		field := fieldTemplate{fieldName: newFieldName(v.Name), value: parsed, fixed: fixed, vary: !ok}
		if message.Is(v.Name, "Location") && field.vary {
			field.leads = newRedirect(&config.Redirect{To: v.Value})
		}
		all = append(all, field)
	}
	return all
}

// apply changes fields; aliases tells whether to change what passes for them as well.
func (c *fieldChanges) apply(x *exchange, f *message.Fields, aliases bool) {
	for i := range c.remove {
		c.remove[i].del(f, aliases)
	}
	for i := range c.replace {
		c.replace[i].apply(x, *f, aliases)
	}
	for i := range c.set {
		c.set[i].del(f, aliases) // all of them first: a name may be set to several values
	}
	for _, list := range [...][]fieldTemplate{c.set, c.add} {
		for i := range list {
			value := list[i].fixed
			switch {
			case list[i].leads != nil:
				value, _ = x.location(list[i].leads)
			case list[i].vary:
				value = x.expand(list[i].value)
			}
			f.Add(list[i].name, value)
		}
	}
}

func (r *fieldReplacement) apply(x *exchange, f message.Fields, aliases bool) {
	for i := range f {
		if r.is(f[i].Name, aliases) {
			f[i].Value = strings.ReplaceAll(f[i].Value, x.expand(r.from), x.expand(r.to))
		}
	}
}

// owns reports whether a field is the configuration's: it takes it away, or says what it is. Then no trailer has it either, as some readers
// make one list of head and trailers.
func (c *fieldChanges) owns(name string, aliases bool) bool {
	for i := range c.remove {
		if c.remove[i].is(name, aliases) {
			return true
		}
	}
	for i := range c.replace {
		if c.replace[i].is(name, aliases) {
			return true
		}
	}
	for i := range c.set {
		if c.set[i].is(name, aliases) {
			return true
		}
	}
	return false
}

func (c *fieldChanges) empty() bool { return len(c.remove)+len(c.replace)+len(c.set) == 0 }

// withoutOurs are fields that come before or behind a response, without those that padlock, the site and the route decide about.
func (x *exchange) withoutOurs(fields message.Fields) message.Fields {
	if x.site == nil || len(fields) == 0 {
		return fields
	}
	if !x.keepsAltSvc() {
		fields.Del("Alt-Svc")
	}
	fields.DelFunc(func(name string) bool {
		return x.site.fields.response.owns(name, false) || x.route != nil && x.route.fields.response.owns(name, false)
	})
	return fields
}

// keepsAltSvc reports whether a target's Alt-Svc gets to the client. It names ports of the target, which are others of padlock's (RFC 7838).
func (x *exchange) keepsAltSvc() bool {
	return x.site.fields.altSvc || x.route != nil && x.route.fields.altSvc
}

// expand fills a template in.
func (x *exchange) expand(t template.Template) string {
	var room [128]byte
	b := room[:0]
	for text, variable := range t.Parts {
		if text != "" {
			b = append(b, text...)
		} else {
			b = x.variable(b, variable)
		}
	}
	return string(b)
}

// variable appends what a variable stands for.
func (x *exchange) variable(b []byte, v template.Variable) []byte {
	r := x.request
	switch v {
	case template.ClientIP:
		return append(b, r.Client...)
	case template.Host:
		return append(b, x.name...)
	case template.Method:
		return append(b, r.Method...)
	case template.Scheme:
		return append(b, r.Scheme...)
	case template.Path:
		return append(b, x.path.Raw...)
	case template.Query:
		return append(b, x.path.Query...)
	case template.URI:
		return append(b, x.path.Text...)
	case template.RequestID:
		return appendID(b, x.id)
	case template.Handshake:
		return strconv.AppendUint(b, r.Conn.Handshake, 10)
	}
	if r.Conn.TLS == nil {
		return b
	}
	switch v {
	case template.TLSVersion:
		return append(b, tls.VersionName(r.Conn.TLS.Version)...)
	case template.TLSCipher:
		return append(b, tls.CipherSuiteName(r.Conn.TLS.CipherSuite)...)
	case template.SNI:
		return append(b, printable(r.Conn.TLS.ServerName)...)
	case template.Subject:
		if len(r.Conn.TLS.VerifiedChains) > 0 {
			return append(b, printable(r.Conn.TLS.PeerCertificates[0].Subject.String())...)
		}
	}
	return b
}

// printable keeps what is not a client's to choose freely out of fields: a field's value holds no control characters.
func printable(s string) string {
	if message.FieldValue(s) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

func appendID(b []byte, id uint64) []byte {
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, "0123456789abcdef"[id>>shift&15])
	}
	return b
}

// redirect answers with another address.
type redirect struct {
	status            int
	origin, reference template.Template
}

func newRedirect(c *config.Redirect) *redirect {
	to, _ := template.Parse(c.To) // was validated
	origin, reference, _ := to.URL()
	return &redirect{c.Status, origin, reference}
}

// location is where a redirect leads. It is false where that is no host, as a client may have had a hand in it.
func (x *exchange) location(to *redirect) (string, bool) {
	return paths.Location(x.expand(to.origin), x.expand(to.reference))
}

// redirect answers with a Location, if there is one.
func (x *exchange) redirect(status int, location string, ok bool) {
	if !ok {
		fail(x, 500, "The address that this one leads to is malformed", "")
		return
	}
	x.respond(status, message.Fields{{Name: "Location", Value: location}}, nil)
}

// respond sends a whole response.
func (x *exchange) respond(status int, fields message.Fields, body []byte) {
	x.finish(&fields)
	length := int64(len(body))
	if status == 204 || status == 304 {
		length = -1
	}
	if err := x.w.Head(status, fields, length); err != nil {
		x.unwritable(500, "The answer to this cannot be written", err)
		return
	}
	if x.request.Method != "HEAD" && len(body) > 0 {
		_, _ = x.w.Write(body)
	}
}

// unwritable answers in the place of a response that a writer has refused, without what the configuration adds.
func (x *exchange) unwritable(status int, text string, err error) {
	var refused *message.Unwritable
	if !errors.As(err, &refused) || x.bare {
		return
	}
	x.err, x.bare = "the response: "+err.Error(), true
	fail(x, status, text, "")
}

// finish changes the fields of a response as the site and the route say.
func (x *exchange) finish(f *message.Fields) {
	if x.site == nil || x.bare {
		return
	}
	if x.site.hsts != "" {
		if _, ok := f.Get("Strict-Transport-Security"); !ok {
			f.Add("Strict-Transport-Security", x.site.hsts)
		}
	}
	if !x.keepsAltSvc() {
		f.Del("Alt-Svc")
	}
	if other := x.request.Conn.AltSvc; other != "" {
		if x.request.Conn.Bound() || f.AuthenticatesConnection() {
			f.Set("Alt-Svc", "clear") // what authenticates a connection needs HTTP/1.1 (RFC 7838 section 3)
		} else if _, kept := f.Get("Alt-Svc"); !kept {
			f.Add("Alt-Svc", other)
		}
	}
	x.site.fields.response.apply(x, f, false)
	if x.route != nil {
		x.route.fields.response.apply(x, f, false)
	}
}
