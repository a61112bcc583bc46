package gateway

import (
	"crypto/tls"
	"strconv"

	"padlock/config/template"
	"padlock/proxy/message"
	"padlock/proxy/paths"
	"padlock/proxy/sites"
)

// withoutOurs are fields that come before or behind a response, without those that padlock, the site and the route
// decide about.
func (x *Exchange) withoutOurs(fields message.Fields) message.Fields {
	if x.site == nil || len(fields) == 0 {
		return fields
	}
	if !x.keepsAltSvc() {
		fields.Del("Alt-Svc")
	}
	shares := x.cors() != nil
	fields.DelFunc(func(name string) bool {
		return shares && ofCORS(name) || x.site.Fields.Response.Owns(name, false) || x.route != nil && x.route.Fields.Response.Owns(name, false)
	})
	return fields
}

// keepsAltSvc reports whether a target's Alt-Svc gets to the client. It names ports of the target, which are others of
// padlock's (RFC 7838).
func (x *Exchange) keepsAltSvc() bool {
	return x.site.Fields.AltSvc || x.route != nil && x.route.Fields.AltSvc
}

// Expand fills a template in.
func (x *Exchange) Expand(t template.Template) string {
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
func (x *Exchange) variable(b []byte, v template.Variable) []byte {
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
	case template.User:
		return append(b, sites.Printable(x.user)...)
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
		return append(b, sites.Printable(r.Conn.TLS.ServerName)...)
	case template.Subject:
		if len(r.Conn.TLS.VerifiedChains) > 0 {
			return append(b, sites.Printable(r.Conn.TLS.PeerCertificates[0].Subject.String())...)
		}
	}

	return b
}

func appendID(b []byte, id uint64) []byte {
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, "0123456789abcdef"[id>>shift&15])
	}
	return b
}

// Location is where a redirect leads. It is false where that is no host, as a client may have had a hand in it.
func (x *Exchange) Location(to *sites.Redirect) (string, bool) {
	return paths.Location(x.Expand(to.Origin), x.Expand(to.Reference))
}
