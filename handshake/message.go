package handshake

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"padlock/handshake/wire"
)

// message tells one handshake message as a stage.
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
		s.Name, s.Text = "certificate_request", "show me a certificate of your own"
	case wire.CertificateType:
		d.certificateMessage(&s, m)
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
		s.Name, s.Text = "new_session_ticket", "a ticket to resume this session with next time"
	case wire.FinishedType:
		d.markFinished(from)
		s.Name, s.Text = "finished", finishedText(from)
	default:
		s.Name, s.Text = fmt.Sprintf("message_%d", m.Type), "a message of a type that padlock does not know"
	}
	d.stage(s)
}

func finishedText(from Side) string {
	if from == Server {
		return "check that our keys agree"
	}
	return "they do; from here on everything is encrypted"
}

func (d *dissector) clientHello(s *Stage, m wire.Message) {
	s.Name = "client_hello"
	h, err := wire.ParseClientHello(m.Body)
	if err != nil {
		s.Text = "a hello that does not parse"
		return
	}
	again := d.hello != nil
	d.hello = h
	if d.event.SNI == "" {
		d.event.SNI = Escape(h.ServerName)
	}
	wants := "I name no host"
	if h.ServerName != "" {
		wants = "I want " + Escape(h.ServerName)
	}
	s.Text = fmt.Sprintf("I speak TLS %s, %d cipher suites; %s", offeredVersions(h), count(h.CipherSuites), wants)
	if again {
		s.Text = "here is a key share for the group that you asked for"
	}
	if h.PSK || h.Ticket {
		s.Text += "; I hold a ticket"
	}
	s.Fields = []slog.Attr{
		slog.String("sni", Escape(h.ServerName)),
		slog.Any("versions", names(clientVersions(h), wire.VersionName)),
		slog.Int("cipher_suites", count(h.CipherSuites)),
		slog.Any("groups", names(h.Groups, wire.GroupName)),
		slog.Any("key_shares", names(h.KeyShares, wire.GroupName)),
		slog.Any("signature_algorithms", names(h.SignatureAlgorithms, wire.SchemeName)),
		slog.Any("alpn", escaped(h.ALPN)),
		slog.Bool("resumption_offered", h.PSK || h.Ticket),
		slog.Bool("early_data", h.EarlyData),
		slog.Bool("ech", h.ECH),
		slog.Int("fragments", m.Fragments),
	}
}

func clientVersions(h *wire.ClientHello) []uint16 {
	if len(h.Versions) > 0 {
		return h.Versions
	}
	return []uint16{h.LegacyVersion}
}

// offeredVersions reads "1.3, 1.2 and 1.1"; an old hello names only the highest.
func offeredVersions(h *wire.ClientHello) string {
	versions := names(clientVersions(h), wire.VersionName)
	if last := len(versions) - 1; last > 0 {
		return strings.Join(versions[:last], ", ") + " and " + versions[last]
	}
	return strings.Join(versions, "")
}

func (d *dissector) serverHello(s *Stage, m wire.Message) {
	s.Name = "server_hello"
	h, err := wire.ParseServerHello(m.Body)
	if err != nil {
		s.Text = "a hello that does not parse"
		return
	}
	suite := tls.CipherSuiteName(h.CipherSuite)
	s.Fields = []slog.Attr{
		slog.String("version", wire.VersionName(h.Version)), slog.String("cipher_suite", suite), slog.Bool("resumed", h.PSK),
	}
	if h.Group != 0 {
		s.Fields = append(s.Fields, slog.String("group", wire.GroupName(h.Group)))
	}
	if h.Retry {
		d.event.Retried = true
		s.Name, s.Text = "hello_retry_request", "hello again, please: with a key share for "+wire.GroupName(h.Group)
		return
	}
	d.tls13 = h.Version == tls.VersionTLS13
	d.event.Version, d.event.CipherSuite = h.Version, suite
	d.state.CipherSuite = h.CipherSuite // after a failure crypto/tls may not say
	s.Text = fmt.Sprintf("TLS %s with %s", wire.VersionName(h.Version), suite)
	if h.Group != 0 {
		d.event.Group = wire.GroupName(h.Group)
		s.Text += "; keys agreed by " + d.event.Group
	}
	if h.PSK {
		s.Text += "; your ticket is good, so no certificate is needed"
	}
}

func (d *dissector) encryptedExtensions(s *Stage, m wire.Message) {
	s.Name, s.Text = "encrypted_extensions", "no further terms"
	alpn, _, err := wire.ParseEncryptedExtensions(m.Body)
	if err == nil && alpn != "" {
		d.event.ALPN = Escape(alpn)
		s.Text = "we will talk " + d.event.ALPN
		s.Fields = []slog.Attr{slog.String("alpn", d.event.ALPN)}
	}
}

func (d *dissector) certificateMessage(s *Stage, m wire.Message) {
	s.Name = "certificate"
	chain, err := wire.ParseCertificate(m.Body, d.tls13)
	c := describe(chain)
	switch {
	case err != nil || (len(chain) > 0 && c == nil):
		s.Text = "a certificate that does not parse"
	case c == nil:
		s.Text = "I have no certificate"
	default:
		s.Text = certificateText(c)
		s.Fields = []slog.Attr{
			slog.String("subject", c.Subject), slog.String("organization", c.Organization), slog.Any("names", c.Names),
			slog.String("issuer", c.Issuer), slog.Time("not_after", c.NotAfter), slog.Int("chain", c.ChainLength),
		}
		if s.From == Client {
			d.event.ClientCertificate = c
		} else {
			d.event.Certificate = c
		}
	}
}

func certificateText(c *Certificate) string {
	text := c.Subject
	if c.Organization != "" {
		text += ", " + c.Organization
	}
	return fmt.Sprintf("%s, issued by %s, valid until %s", text, c.Issuer, c.NotAfter.UTC().Format(time.DateOnly))
}

func certificateVerify(s *Stage, m wire.Message) {
	s.Name, s.Text = "certificate_verify", "here is the proof that I hold its private key"
	if scheme, err := wire.ParseCertificateVerify(m.Body); err == nil {
		s.Text += " (" + wire.SchemeName(scheme) + ")"
		s.Fields = []slog.Attr{slog.String("signature_algorithm", wire.SchemeName(scheme))}
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
	s.Fields = []slog.Attr{slog.String("group", d.event.Group), slog.String("signature_algorithm", wire.SchemeName(scheme))}
}

// count and names leave out GREASE, which says nothing about the client.
func count(values []uint16) int { return len(names(values, func(uint16) string { return "" })) }

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
