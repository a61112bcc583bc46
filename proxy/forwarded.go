package proxy

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"strings"

	"padlock/proxy/message"
)

// ours are the fields by which backends learn about the client. A client's own are a claim, not a fact, so they are dropped.
var ours = message.NewNames(
	"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Server", "X-Forwarded-Ssl",
	"X-Forwarded-Prefix", "X-Forwarded-User", "Forwarded", "X-Real-IP", "True-Client-IP", "X-Client-IP", "X-Cluster-Client-IP", "X-Original-Forwarded-For",
	"X-Forwarded-Client-Cert", "X-SSL-Client-Cert", "X-Client-Cert", "Client-Cert", "Client-Cert-Chain", "X-SSL-Client-Verify",
	"X-SSL-Client-Subject", "X-SSL-Client-Issuer", "X-SSL-Client-Serial", "X-SSL-Client-SHA256", "X-SSL-Client-SAN", "X-SSL-Client-CN", "X-SSL-Client-DN",
	"Padlock-Handshake", "Host", "Transfer-Encoding")

// spoofs reports whether a client's field stands for one of ours, also under an alias:
// CGI-like backends read X_Forwarded_For and X.Forwarded.For as the same variable.
func spoofs(name string) bool {
	if !strings.ContainsAny(name, "_.") {
		return ours.Has(name)
	}
	name = strings.NewReplacer("_", "-", ".", "-").Replace(name)
	return ours.Has(name) || message.Is(name, "Content-Length")
}

// prepare turns a client's request into the one for the backend. It refuses upgrades other than a WebSocket's.
func prepare(x *exchange) bool {
	r := x.request
	if r.Upgrade != "" && r.Upgrade != "websocket" && r.Proto == "HTTP/1.1" {
		r.Upgrade = "" // h2c and the like: ignored, as RFC 9110 section 7.8 allows
	}
	if r.Upgrade != "" && (r.Upgrade != "websocket" || r.Method != "GET" || r.Body != nil) {
		return false
	}
	teTrailers := r.Fields.HasToken("TE", "trailers")
	r.Fields.RemoveHopByHop()
	r.Fields.DelFunc(spoofs)
	if teTrailers {
		r.Fields.Add("Te", "trailers") // the one TE value that we honour ourselves; gRPC insists on it
	}
	peer, t := r.Conn.Client, &x.told
	r.Fields.Add("X-Forwarded-For", appended(t.chain, peer))
	r.Fields.Add("X-Forwarded-Proto", cmp.Or(t.proto, r.Scheme))
	r.Fields.Add("X-Forwarded-Host", cmp.Or(t.host, r.Host))
	if t.port != "" {
		r.Fields.Add("X-Forwarded-Port", t.port)
	}
	if x.route.handshake {
		r.Fields.Add("Padlock-Handshake", handshakeField(r.Conn))
	}
	if x.route.forwarded {
		r.Fields.Add("Forwarded", appended(t.forwarded, forwardedElement(peer, r.Host, r.Scheme)))
	}
	r.Fields = append(r.Fields, r.Conn.Identity...)
	if x.user != "" {
		r.Fields.Del("Authorization") // it was for us
		r.Fields.Add("X-Forwarded-User", x.user)
	}
	x.site.fields.request.apply(x, &r.Fields)
	x.route.fields.request.apply(x, &r.Fields)
	return true
}

// appended is a list with one item more.
func appended(list, item string) string {
	if list == "" {
		return item
	}
	return list + ", " + item
}

// forwardedElement is RFC 7239 section 4: an IPv6 address goes in brackets and quotes.
func forwardedElement(client, host, proto string) string {
	if strings.Contains(client, ":") {
		client = `"[` + client + `]"`
	}
	return "for=" + client + `;host="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(host) + `";proto=` + proto
}

// handshakeField tells a target of the handshake that the request came by, as a dictionary (RFC 9651 section 3.2).
func handshakeField(c *message.Conn) string {
	var b strings.Builder
	fmt.Fprintf(&b, "id=%d", c.Handshake)
	if c.TLS == nil {
		return b.String()
	}
	text := func(key, value string) {
		if value != "" {
			b.WriteString(", " + key + "=" + fieldString(value))
		}
	}
	text("version", tls.VersionName(c.TLS.Version))
	text("cipher", tls.CipherSuiteName(c.TLS.CipherSuite))
	if c.TLS.CurveID != 0 {
		text("group", c.TLS.CurveID.String())
	}
	text("ja4", c.JA4)
	if c.TLS.DidResume {
		b.WriteString(", resumed")
	}
	if len(c.TLS.PeerCertificates) > 0 {
		text("client", c.TLS.PeerCertificates[0].Subject.String())
	}
	return b.String()
}

// fieldString is a structured field's string (RFC 9651 section 3.3.3), which holds ASCII only: the rest, and %, is percent-encoded.
func fieldString(s string) string {
	b := []byte{'"'}
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c > '~' || c == '%':
			b = fmt.Appendf(b, "%%%02X", c)
		default:
			b = append(b, c)
		}
	}
	return string(append(b, '"'))
}
