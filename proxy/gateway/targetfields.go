package gateway

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"slices"
	"strings"

	"padlock/proxy/message"
	"padlock/proxy/sites"
)

// What underscores_in_headers says of fields whose names pass for others.
const (
	dropKnown = "drop_known" // those of the fields that padlock sets, removes or frames messages by
	dropAll   = "drop"
	dropNone  = "keep"
)

// unwanted reports whether a client's field does not get to the target: it claims what padlock says, or passes for a
// field that does.
func (x *Exchange) unwanted(name string) bool {
	// Of a key or a token in two spellings, the target might go by the one that was not verified.
	if x.route.CredentialAlias(name) {
		return true
	}

	// CGI programs cannot tell X-Real-IP from X_Real_IP, so both names count.
	plain, alias := message.Alias(name)
	// Whatever the configuration says about aliases, this is the name of the variable itself.
	if message.Variable(plain) {
		return alias || !x.forwarded.trusted || x.proof.holdsAny() && message.Is(plain, "Remote-User")
	}

	switch x.site.Aliases {
	case dropAll:
		if alias {
			return true
		}
	case dropKnown:
	default:
		plain, alias = name, false
	}

	switch {
	case message.ClaimsIdentity(plain):
		// A claim of the client must not stand next to a name that padlock has checked.
		return alias || !x.forwarded.trusted || x.proof.holdsAny()
	case message.Claims(plain), message.Is(plain, "Host"), message.Is(plain, "Transfer-Encoding"):
		return true
	case message.ClaimsAddress(plain), message.ClaimsRequest(plain):
		return alias || !x.forwarded.trusted
	case message.ClaimsMethod(plain):
		// The rules of a destination depend on the method: see readDestination.
		_, moves := x.request.Fields.Get("Destination")
		// A service has decided about the method that it was told.
		return len(x.site.Methods) > 0 || moves || x.proof.asked != nil
	}

	return alias && (message.Is(plain, "Content-Length") || message.HopByHop(plain))
}

// trailed is a request's content without the trailers that would not get to the target as fields of the head either.
type trailed struct {
	message.Body
	site  *sites.Site
	route *sites.Route
}

// Trailers implements message.Body.
func (b *trailed) Trailers() message.Fields {
	fields := b.Body.Trailers()
	// Some frameworks merge trailers into the header, where they would take the place of what was removed there.
	fields.DelFunc(b.unwanted)
	return fields
}

func (b *trailed) unwanted(name string) bool {
	plain, alias := message.Alias(name)
	if alias && b.site.Aliases == dropAll || (len(b.site.Methods) > 0 || b.route.ForwardAuth(b.site) != nil) && message.ClaimsMethod(plain) {
		return true
	}
	aliases := b.site.Aliases != dropNone
	return b.route.Vouched(name) || b.route.Credential(name) || b.site.Fields.Request.Owns(name, aliases) || b.route.Fields.Request.Owns(name, aliases)
}

// prepare turns a client's request into the one for the backend.
func (h *Gateway) prepare(_ *message.Context, x *Exchange) error {
	r := x.request
	// Read before the fields of the connection are removed, of which TE is one.
	teTrailers := r.Fields.HasToken("TE", "trailers")
	r.Fields.RemoveHopByHop()
	r.Fields.DelFunc(x.unwanted)
	r.Declared = slices.DeleteFunc(r.Declared, message.ForbiddenTrailer)
	if r.Body != nil && (x.site.Aliases == dropAll || len(x.site.Methods) > 0 || x.route.Guarded() || x.proof.asked != nil || !x.site.Fields.Request.Empty() || !x.route.Fields.Request.Empty()) {
		body := &trailed{r.Body, x.site, x.route}
		r.Body, r.Declared = body, slices.DeleteFunc(r.Declared, body.unwanted)
	}

	if teTrailers {
		// The one TE value that padlock honours itself. gRPC insists on it.
		r.Fields.Add("Te", "trailers")
	}

	// Added after the fields of the connection are removed: a client cannot have it removed by naming it in Connection.
	r.Fields.Add(loopField, h.self)
	x.named = true
	peer, t := r.Conn.Client, &x.forwarded
	x.introduce(&r.Fields)
	if prefix := t.prefix + x.route.PrefixTaken; prefix != "" {
		r.Fields.Add("X-Forwarded-Prefix", prefix)
	}
	if x.route.Handshake {
		r.Fields.Add("Padlock-Handshake", handshakeField(r.Conn))
	}
	if x.route.Forwarded {
		r.Fields.Add("Forwarded", appended(t.forwarded, forwardedElement(peer, r.Host, r.Scheme)))
	}

	r.Fields = append(r.Fields, r.Conn.Identity...)
	x.forwardTrace(&r.Fields)
	x.vouch(&r.Fields)
	aliases := x.site.Aliases != dropNone
	// Rules come last, so that they can change what padlock has added.
	x.site.Fields.Request.Apply(x, &r.Fields, aliases)
	x.route.Fields.Request.Apply(x, &r.Fields, aliases)
	return nil
}

// introduce adds the fields that tell who the client is and what it has asked for. It is called after the client's own
// were removed: what is there then is from padlock or a trusted proxy.
func (x *Exchange) introduce(fields *message.Fields) {
	r, t := x.request, &x.forwarded
	fields.Add("X-Forwarded-For", appended(t.chain, r.Conn.Client))
	fields.Add("X-Forwarded-Proto", cmp.Or(t.proto, r.Scheme))
	fields.Add("X-Forwarded-Host", cmp.Or(t.host, r.Host))
	fields.Add("X-Forwarded-Port", cmp.Or(t.port, sites.PortOf(cmp.Or(t.host, r.Host), cmp.Or(t.proto, r.Scheme))))
}

// vouch tells the target what access rules have found out about the client, and keeps from it what was for padlock.
func (x *Exchange) vouch(fields *message.Fields) {
	for _, name := range x.proof.spent {
		fields.Del(name)
	}
	if x.proof.cookie != "" {
		fields.DelCookie(x.proof.cookie)
	}
	if x.user != "" {
		fields.Add("X-Forwarded-User", x.user)
	}

	// Removed even where nothing takes their place: a target must not take the client's word for that of a service which
	// has said nothing.
	if x.route.Vouches() {
		fields.DelFunc(x.route.Vouched)
		*fields = append(*fields, x.proof.copied...)
	}
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

// handshakeField is the handshake that the request came by, for its target, as a dictionary (RFC 9651 section 3.2).
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

// fieldString is a structured field's string (RFC 9651 section 3.3.3), which holds ASCII only: the rest, and %, is
// percent-encoded.
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
