package handshake

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"padlock/handshake/wire"
)

// message makes one handshake message a stage.
func (d *dissector) message(from Side, at time.Duration, m wire.Message, label Label) {
	s := Stage{From: from, At: at, Size: m.Size(), Label: label}
	switch m.Type {
	case wire.ClientHelloType:
		d.clientHello(&s, m)
	case wire.ServerHelloType:
		d.serverHello(&s, m)
	case wire.EncryptedExtensionsType:
		d.encryptedExtensions(&s, m)
	case wire.CertificateRequestType:
		d.certificateRequest(&s, m)
	case wire.CertificateType:
		d.certificateMessage(&s, m.Body)
	case wire.CompressedCertificateType:
		d.compressedCertificate(&s, m)
	case wire.CertificateStatusType:
		s.Name, s.Text = "certificate_status", "the CA's word that the certificate is not revoked"
	case wire.CertificateVerifyType:
		certificateVerify(&s, m)
	case wire.ServerKeyExchangeType:
		d.serverKeyExchange(&s, m)
	case wire.ServerHelloDoneType:
		s.Name, s.Text = "server_hello_done", "your turn"
	case wire.ClientKeyExchangeType:
		s.Name, s.Text = "client_key_exchange", "my half of the key agreement"
	case wire.NewSessionTicketType:
		newSessionTicket(&s, m)
	case wire.KeyUpdateType:
		s.Name, s.Text = "key_update", "I go on with fresh keys"
	case wire.FinishedType:
		d.markFinished(from)
		s.Name = "finished"
	default:
		s.Name, s.Text = fmt.Sprintf("message_%d", m.Type), "a message of a type that padlock does not know"
	}
	d.stage(s)
}

// afterthoughts words what depends on messages of the other side, which are read later, or on the order of both.
// The first Finished asks, the second answers; whose is first depends on version and resumption.
func (d *dissector) afterthoughts() {
	finished := []string{"check that our keys agree", "they do; from here on everything is encrypted"}
	rsa := d.rsaKeyExchange()
	if rsa {
		finished[0] = "we have both made the master key from the pre-master secret; check that ours are the same"
	}

	for i := range d.event.Stages {
		switch s := &d.event.Stages[i]; {
		case s.Name == "finished" && len(finished) > 0:
			// A remark may stand there already.
			s.Text = finished[0] + s.Text
			finished = finished[1:]
		case s.Name == "client_key_exchange" && rsa:
			s.Text = "the pre-master secret, encrypted with your certificate's public key: only its private key opens it"
			s.fields = []slog.Attr{slog.Bool("forward_secrecy", false)}
		}
	}
}

func (d *dissector) clientHello(s *Stage, m wire.Message) {
	s.Name = "client_hello"
	h, err := wire.ParseClientHello(m.Body)
	if err != nil {
		s.Text = "a hello that does not parse"
		return
	}
	d.helloStage(s, h, m.Fragments, 't')
	// These fields alias memory that is wiped after the handshake.
	h.Random, h.SessionID, h.PointFormats = nil, nil, nil
}

// helloStage words a hello; the transport is JA4's letter for it.
func (d *dissector) helloStage(s *Stage, h *wire.ClientHello, fragments int, transport byte) {
	again := d.hello != nil
	d.hello = h
	e := d.event
	name := d.recorder.privacy.name(h.ServerName)
	if e.SNI == "" {
		e.SNI = name
	}

	e.Offered = e.Offered || offersTicket(h)
	wants := "I name no host"
	if h.ServerName != "" {
		wants = "I want " + name
	}

	versions := names(clientVersions(h), wire.VersionName)
	suites := count(h.CipherSuites)
	switch {
	case again:
		s.Text = "here is a key share for the group that you asked for"
	case clientVersions(h)[0] == 0x0300:
		s.Text = "I speak SSL 3.0, " + strconv.Itoa(suites) + " cipher suites; " + wants
	default:
		s.Text = "I speak TLS " + list(versions) + ", " + strconv.Itoa(suites) + " cipher suites; " + wants
		e.JA3, e.JA4 = h.JA3(), h.JA4(transport)
	}

	if offersTicket(h) {
		s.Text += "; I hold a ticket"
	}
	if h.ExternalPSK {
		s.Text += "; I hold a key that we agreed on before (PSK)"
	}

	s.hello = &helloFields{h, name, fragments}
}

// offersTicket reports whether a client wants to resume a session.
func offersTicket(h *wire.ClientHello) bool { return h.PSK && !h.ExternalPSK || h.Ticket }

// list reads "1.3, 1.2 and 1.1".
func list(words []string) string {
	if last := len(words) - 1; last > 0 {
		return strings.Join(words[:last], ", ") + " and " + words[last]
	}
	return strings.Join(words, "")
}

func clientVersions(h *wire.ClientHello) []uint16 {
	if len(h.Versions) > 0 {
		return h.Versions
	}
	return []uint16{h.LegacyVersion}
}

// browser reports whether a hello is like those of browsers, which send values that mean nothing, and ECH whether or
// not there is any. They connect in advance; programs do not.
func browser(h *wire.ClientHello) bool {
	// Inside QUIC only the numbers are known.
	return h != nil && (grease(h) || h.ECH || slices.Contains(h.Extensions, encryptedHello))
}

func grease(h *wire.ClientHello) bool {
	return count(h.CipherSuites) < len(h.CipherSuites) || count(h.Extensions) < len(h.Extensions)
}

func (d *dissector) serverHello(s *Stage, m wire.Message) {
	s.Name = "server_hello"
	h, err := wire.ParseServerHello(m.Body)
	if err != nil {
		s.Text = "a hello that does not parse"
		return
	}

	suite := wire.SuiteName(h.CipherSuite)
	s.fields = append(make([]slog.Attr, 0, 5),
		slog.String("version", wire.VersionName(h.Version)), slog.String("cipher_suite", suite), slog.Bool("resumed", h.PSK),
		slog.Any("extensions", registered{h.Extensions, wire.ExtensionName}))
	if h.Group != 0 {
		s.fields = append(s.fields, slog.String("group", wire.GroupName(h.Group)))
	}

	if h.Retry {
		d.event.Retried = true
		s.Name, s.Text = "hello_retry_request", "hello again, please: with a key share for "+wire.GroupName(h.Group)
		return
	}

	d.chosen = h
	d.tls13 = h.Version >= 0x0304
	d.event.Version, d.event.CipherSuite = h.Version, suite
	s.Text = "TLS " + wire.VersionName(h.Version) + " with " + suite
	if h.Group != 0 {
		d.event.Group = wire.GroupName(h.Group)
		s.Text += "; keys agreed by " + d.event.Group
	}

	if h.PSK || !d.tls13 && d.state.DidResume {
		s.Text += "; your ticket is good, so no certificate is needed"
	}

	if h.ALPN != "" {
		d.event.ALPN = Escape(h.ALPN)
		s.Text += "; we will talk " + d.event.ALPN
	}
}

func (d *dissector) encryptedExtensions(s *Stage, m wire.Message) {
	s.Name, s.Text = "encrypted_extensions", "no further terms"
	// TLS 1.3 encrypts the choice (RFC 8446 section 4.3.1), which ServerHello has in TLS 1.2.
	alpn, extensions, err := wire.ParseEncryptedExtensions(m.Body)
	if err != nil {
		return
	}
	s.fields = append(make([]slog.Attr, 0, 2), slog.Any("extensions", registered{extensions, wire.ExtensionName}))
	if alpn != "" {
		d.event.ALPN = Escape(alpn)
		s.Text = "we will talk " + d.event.ALPN
		s.fields = append(s.fields, slog.String("alpn", d.event.ALPN))
	}
}

func (d *dissector) certificateRequest(s *Stage, m wire.Message) {
	d.requested = true
	s.Name, s.Text = "certificate_request", "show me a certificate of your own"
	r, err := wire.ParseCertificateRequest(m.Body, d.tls13)
	if err != nil {
		return
	}
	d.authorities = r.Authorities
	var authorities []string
	for _, der := range r.Authorities {
		authorities = append(authorities, distinguishedName(der))
	}

	if len(authorities) > 0 {
		s.Text += ", issued by " + strings.Join(authorities[:min(2, len(authorities))], " or ")
		// A list of public CAs has more than a hundred, and the story has one line for them.
		if more := len(authorities) - 2; more > 0 {
			s.Text += fmt.Sprintf(" or %d more", more)
		}
	}

	s.fields = []slog.Attr{slog.Any("authorities", authorities), slog.Any("signature_algorithms", registered{r.SignatureAlgorithms, wire.SchemeName})}
}

func distinguishedName(der []byte) string {
	var sequence pkix.RDNSequence
	if _, err := asn1.Unmarshal(der, &sequence); err != nil {
		return "a name that does not parse"
	}
	var name pkix.Name
	name.FillFromRDNSequence(&sequence)
	if name.CommonName != "" {
		return Escape(name.CommonName)
	}
	return Escape(name.String())
}

func (d *dissector) compressedCertificate(s *Stage, m wire.Message) {
	s.Name = "certificate"
	c, err := wire.ParseCompressedCertificate(m.Body)
	if err != nil {
		s.Text = "a compressed certificate that does not parse"
		return
	}

	if body, err := c.Decompress(); err == nil {
		d.certificateMessage(s, body)
	} else {
		s.Text = "a certificate"
	}

	s.Name = "compressed_certificate"
	s.Text += fmt.Sprintf(" (compressed by %s from %d bytes)", c.Name(), c.UncompressedSize)
	s.fields = append(s.fields, slog.String("compression", c.Name()), slog.Int("uncompressed_bytes", c.UncompressedSize))
}

func (d *dissector) certificateMessage(s *Stage, body []byte) {
	s.Name = "certificate"
	parsed, err := wire.ParseCertificate(body, d.tls13)
	if err != nil {
		s.Text = "a certificate that does not parse"
		return
	}

	var c *Certificate
	if s.From == Server && d.event.Certificate != nil {
		// What we chose is what we sent.
		c = d.event.Certificate
	} else if s.From == Client {
		c = describeClient(parsed.Chain)
	} else {
		c = describe(parsed.Chain, extras{staple: parsed.StapleSize > 0, timestamps: parsed.SCTs > 0})
	}

	switch {
	case len(parsed.Chain) == 0:
		s.Text = "I have no certificate"
		return
	case c == nil:
		s.Text = "a certificate that does not parse"
		return
	}

	s.Text = c.text
	// With its capacity cut: certificates are described once, and shared by all handshakes that show them.
	s.fields = append(c.fields[:len(c.fields):len(c.fields)], slog.Int("ocsp_staple_bytes", parsed.StapleSize), slog.Int("scts", parsed.SCTs))
	if s.From == Client {
		d.event.ClientCertificate = c
	} else {
		d.event.Certificate = c
	}
}

func certificateText(c *Certificate) string {
	text := c.Subject
	if text == "" {
		text = "no name"
	}
	if c.Organization != "" {
		text += ", " + c.Organization
	}
	return text + ", issued by " + c.Issuer + ", valid until " + c.NotAfter.UTC().Format(time.DateOnly)
}

func certificateVerify(s *Stage, m wire.Message) {
	s.Name, s.Text = "certificate_verify", "here is the proof that I hold its private key"
	if scheme, err := wire.ParseCertificateVerify(m.Body); err == nil {
		s.Text += " (" + wire.SchemeName(scheme) + ")"
		s.fields = []slog.Attr{slog.String("signature_algorithm", wire.SchemeName(scheme))}
	}
}

func (d *dissector) serverKeyExchange(s *Stage, m wire.Message) {
	s.Name, s.Text = "server_key_exchange", "my half of the key agreement, signed"
	group, scheme, err := wire.ParseServerKeyExchange(m.Body)
	if err != nil {
		return
	}
	d.event.Group = wire.GroupName(group)
	s.Text = fmt.Sprintf("my half of the key agreement by %s, signed (%s)", d.event.Group, wire.SchemeName(scheme))
	s.fields = []slog.Attr{slog.String("group", d.event.Group), slog.String("signature_algorithm", wire.SchemeName(scheme))}
}

// rsaKeyExchange reports whether the client chooses the key alone and encrypts it to the certificate (RFC 5246 section
// 7.4.7.1).
func (d *dissector) rsaKeyExchange() bool {
	return d.chosen != nil && !d.tls13 && strings.HasPrefix(d.event.CipherSuite, "TLS_RSA_")
}

func newSessionTicket(s *Stage, m wire.Message) {
	s.Name, s.Text = "new_session_ticket", "a ticket to resume this session with next time"
	if t, err := wire.ParseNewSessionTicket(m.Body); err == nil {
		s.fields = []slog.Attr{slog.Int("lifetime_s", int(t.Lifetime)), slog.Int("ticket_bytes", t.Size)}
	}
}

// registered is a list of numbers from an IANA registry. The names are only looked up where they are shown.
type registered struct {
	values []uint16
	name   func(uint16) string
}

// count and names leave out GREASE, which says nothing about the client.
func count(values []uint16) (n int) {
	for _, v := range values {
		if !wire.GREASE(v) {
			n++
		}
	}
	return n
}

func names(values []uint16, name func(uint16) string) []string {
	out := make([]string, 0, len(values))
	for _, v := range values {
		if !wire.GREASE(v) {
			out = append(out, name(v))
		}
	}
	return out
}

func escaped(values []string) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = Escape(v)
	}
	return out
}
