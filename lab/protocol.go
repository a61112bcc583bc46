package lab

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"

	"padlock/lab/pki"
	"padlock/lab/rogue"
)

// protocols are the endpoints with particular versions, suites, groups and extensions.
func protocols() []Endpoint {
	var all []Endpoint
	for _, list := range [][]Endpoint{versions(), suites(), groups(), applicationProtocols(), clientCertificates(), tickets()} {
		all = append(all, list...)
	}
	for i := range all {
		all[i].Group = Protocol
	}
	return all
}

func only(version uint16) func(*tls.Config) {
	return func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version }
}

const oldVersion = "Attacks of 2011 to 2014 (BEAST, Lucky 13, POODLE on TLS) work, and so do those on SHA-1 and MD5 in the handshake."

func versions() []Endpoint {
	return []Endpoint{
		{Name: "tls-1.0", Expect: MustRefuse, Wrong: "The server speaks TLS 1.0 alone.", Rule: "RFC 8996 section 4: must not be negotiated", Consequence: oldVersion, config: oldTLS(tls.VersionTLS10)},
		{Name: "tls-1.1", Expect: MustRefuse, Wrong: "The server speaks TLS 1.1 alone.", Rule: "RFC 8996 section 5: must not be negotiated", Consequence: oldVersion, config: oldTLS(tls.VersionTLS11)},
		{Name: "tls-1.2", Expect: MustAccept, Wrong: "Nothing: the server speaks TLS 1.2 alone.", Rule: "RFC 9325 section 3.1.1", Consequence: "The client fails at many servers.", config: only(tls.VersionTLS12)},
		{Name: "tls-1.3", Expect: ShouldAccept, Wrong: "Nothing: the server speaks TLS 1.3 alone.", Rule: "RFC 9325 section 3.1.1", Consequence: "The client fails at servers that have left TLS 1.2 behind.", config: only(tls.VersionTLS13)},
		{
			Name: "downgraded", Expect: MustRefuse, Wrong: "The server answers with TLS 1.2, and the end of its random says that it knows TLS 1.3: somebody between has changed the hello.", Rule: "RFC 8446 section 4.1.3: clients with TLS 1.3 must abort",
			Consequence: "An attacker on the path chooses an older version.", basis: "tls-1.2",
			needs: func(h *tls.ClientHelloInfo) string { return lacks(h, tls.VersionTLS13, tls.VersionTLS12) },
			config: func(c *tls.Config) {
				only(tls.VersionTLS12)(c)
				c.Rand = &sentinel{}
			},
		},
	}
}

// lacks says that a client does not offer a version that the endpoint needs.
func lacks(h *tls.ClientHelloInfo, versions ...uint16) string {
	for _, want := range versions {
		found := false
		for _, v := range h.SupportedVersions {
			found = found || v == want
		}
		if !found {
			return "the client does not offer " + tls.VersionName(want)
		}
	}
	return ""
}

// oldTLS has suites that these versions have, which crypto/tls else leaves out.
func oldTLS(version uint16) func(*tls.Config) {
	return func(c *tls.Config) {
		only(version)(c)
		c.NextProtos = []string{"http/1.1"}
		c.CipherSuites = []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
			tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA,
		}
	}
}

// sentinel is a source of randomness whose 32 bytes end as a server's of TLS 1.3 does that was made to speak TLS 1.2.
type sentinel struct{}

func (sentinel) Read(p []byte) (int, error) {
	n, err := io.ReadFull(rand.Reader, p)
	if len(p) == 32 {
		copy(p[24:], "DOWNGRD\x01")
	}
	return n, err
}

func suites() []Endpoint {
	suite := func(name string, expect Expectation, wrong, rule, consequence string, ids ...uint16) Endpoint {
		return Endpoint{Name: name, Expect: expect, Wrong: wrong, Rule: rule, Consequence: consequence, chains: []chain{rsaLeaf(2048, nil)}, config: func(c *tls.Config) {
			only(tls.VersionTLS12)(c)
			c.CipherSuites, c.NextProtos = ids, []string{"http/1.1"}
		}}
	}
	const few = "The client fails at some servers."
	ecdsa := func(e Endpoint) Endpoint {
		e.chains = one(leaf(nil))
		return e
	}
	return []Endpoint{
		suite("suite-aes128-gcm", MustAccept, "Nothing: TLS 1.2 with ECDHE and AES-128-GCM.", "RFC 9325 section 4.2", "The client fails at many servers.", tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
		suite("suite-aes256-gcm", ShouldAccept, "Nothing: TLS 1.2 with ECDHE and AES-256-GCM.", "RFC 9325 section 4.2", few, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
		suite("suite-chacha20", May, "TLS 1.2 with ECDHE and ChaCha20-Poly1305.", "RFC 7905", few, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
		suite("suite-cbc", May, "TLS 1.2 with ECDHE and AES-CBC with SHA-1.", "RFC 9325 section 4.1: prefer AEAD", "Implementations of CBC have leaked plaintext again and again (Lucky 13).", tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA),
		suite("suite-cbc-sha256", May, "TLS 1.2 with ECDHE and AES-CBC with SHA-256.", "RFC 9325 section 4.1: prefer AEAD", "Implementations of CBC have leaked plaintext again and again (Lucky 13).", tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256),
		ecdsa(suite("suite-ecdsa", ShouldAccept, "Nothing: TLS 1.2 with ECDHE, an ECDSA certificate, and an AEAD.", "RFC 9325 section 4.2", few, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256)),
		ecdsa(suite("suite-ecdsa-cbc", May, "TLS 1.2 with ECDHE, an ECDSA certificate, and AES-CBC.", "RFC 9325 section 4.1: prefer AEAD", "Implementations of CBC have leaked plaintext again and again (Lucky 13).", tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256)),
		suite("rsa-key-exchange", ShouldRefuse, "The secret is encrypted to the server's RSA key, without forward secrecy (AES-GCM).", "RFC 9325 section 4.1: should not be negotiated", "Whoever gets the key later reads all that was ever recorded; servers with a padding oracle (ROBOT) give it away at once.", tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384),
		suite("rsa-key-exchange-cbc", ShouldRefuse, "The secret is encrypted to the server's RSA key, without forward secrecy (AES-CBC).", "RFC 9325 section 4.1: should not be negotiated", "Whoever gets the key later reads all that was ever recorded.", tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA, tls.TLS_RSA_WITH_AES_128_CBC_SHA256),
		suite("suite-3des", ShouldRefuse, "TLS 1.2 with 3DES.", "RFC 9325 section 4.1: should not be negotiated; CVE-2016-2183", "After some hundred gigabytes, a watcher knows parts of the content, such as cookies (Sweet32).", tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA),
		suite("suite-rc4", MustRefuse, "TLS 1.2 with RC4.", "RFC 7465: must not be offered", "A watcher computes cookies and passwords from many connections.", tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA, tls.TLS_RSA_WITH_RC4_128_SHA),
	}
}

func groups() []Endpoint {
	group := func(name string, expect Expectation, wrong, rule, consequence string, ids ...tls.CurveID) Endpoint {
		return Endpoint{Name: name, Expect: expect, Wrong: wrong, Rule: rule, Consequence: consequence, config: curves(ids...)}
	}
	return []Endpoint{
		group("group-x25519", ShouldAccept, "Nothing: keys are agreed by X25519 alone.", "RFC 8446 section 9.1: should be supported", "The client fails at some servers.", tls.X25519),
		group("group-p256", MustAccept, "Nothing: keys are agreed by P-256 alone.", "RFC 8446 section 9.1: must be supported", "The client fails at servers that follow FIPS 140.", tls.CurveP256),
		group("hello-retry", ShouldAccept, "Nothing: keys are agreed by P-384 alone, for which most clients must send a second hello.", "RFC 8446 section 4.1.4", "The client fails at servers that prefer another group than it does.", tls.CurveP384),
		group("group-p521", May, "Keys are agreed by P-521 alone.", "RFC 8446 section 4.2.7", "Servers that have nothing else exclude clients.", tls.CurveP521),
		group("post-quantum", May, "Keys are agreed by X25519MLKEM768 alone.", "draft-ietf-tls-ecdhe-mlkem", "What a client without it sends today can be read once there are large quantum computers.", tls.X25519MLKEM768),
	}
}

func curves(ids ...tls.CurveID) func(*tls.Config) {
	return func(c *tls.Config) { c.CurvePreferences = ids }
}

func applicationProtocols() []Endpoint {
	return []Endpoint{
		{Name: "alpn-none", Expect: MustAccept, Wrong: "Nothing: the server does not know ALPN.", Rule: "RFC 7301 section 3.2", Consequence: "The client fails at simple servers.", config: func(c *tls.Config) { c.NextProtos = nil }},
		{Name: "alpn-http1", Expect: MustAccept, Wrong: "Nothing: the server speaks HTTP/1.1 alone.", Rule: "RFC 7301 section 3.2", Consequence: "The client fails at many servers.", config: func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }},
		{Name: "alpn-h2", Expect: May, Wrong: "The server speaks HTTP/2 alone.", Rule: "RFC 9113 section 3.2", Consequence: "Servers of gRPC exclude such clients.", config: func(c *tls.Config) { c.NextProtos = []string{"h2"} }, needs: func(h *tls.ClientHelloInfo) string {
			for _, p := range h.SupportedProtos {
				if p == "h2" {
					return ""
				}
			}
			return "the client does not offer HTTP/2"
		}},
		{
			// A client may look at the protocol once the handshake is complete, so Finished shows nothing.
			Name: "alpn-unoffered", Expect: ShouldRefuse, Wrong: "The server chooses a protocol that the client has not offered: postgresql.", Rule: "RFC 9325 section 3.7: clients should abort", Consequence: "Data for one service reaches another one that has a certificate for the same name (ALPACA).", basis: "tls-1.3-by-hand",
			rogue: plan(func(p *rogue.Plan) {
				p.Extensions = func([]rogue.Ext) []rogue.Ext { return []rogue.Ext{rogue.ALPN("postgresql")} }
			}),
		},
	}
}

func clientCertificates() []Endpoint {
	return []Endpoint{
		{
			Name: "client-certificate-optional", Expect: MustAccept, Wrong: "Nothing: the server asks for a client certificate, and needs none.", Rule: "RFC 8446 section 4.4.2: a client without one sends an empty list", Consequence: "The client fails at servers that offer a login by certificate.",
			config: func(c *tls.Config) { c.ClientAuth = tls.RequestClientCert },
		},
		{
			Name: "client-certificate-required", Expect: May, Wrong: "The server requires a client certificate.", Rule: "RFC 8446 section 4.4.2.4", Consequence: "A client that reports success without one has reported what did not happen.",
			config: func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert },
		},
		{
			Name: "client-certificate-other-ca", Expect: MustAccept, Wrong: "Nothing: the server asks for a client certificate of a CA that nobody has, and needs none.", Rule: "RFC 8446 section 4.2.4 and 4.4.2.3", Consequence: "The client fails at servers that offer a login by certificate to others.",
			config: func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequestClientCert, cas(1) },
		},
		{
			Name: "client-certificate-200-cas", Expect: ShouldAccept, large: true, Wrong: "Nothing: the server asks for a client certificate and names 200 CAs: 21 KB.", Rule: "RFC 8446 section 4.2.4", Consequence: "The client fails at servers of large organizations.",
			config: func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequestClientCert, cas(200) },
		},
	}
}

// cas are CAs of which only the names count.
func cas(n int) *x509.CertPool {
	pool := x509.NewCertPool()
	for i := range n {
		name := pkix.Name{Organization: []string{"A fairly long name of an organization, as such lists have them"}, CommonName: fmt.Sprintf("Client CA number %03d", i+1)}
		raw, err := pki.Name(name)
		if err != nil {
			panic(err) // the names are constants
		}
		pool.AddCert(&x509.Certificate{Raw: raw, RawSubject: raw})
	}
	return pool
}

func tickets() []Endpoint {
	return []Endpoint{
		{Name: "tickets", Expect: MustAccept, Wrong: "Nothing: the server gives tickets, and resumes.", Rule: "RFC 8446 section 4.6.1", Consequence: "The client fails at most servers.", config: func(c *tls.Config) { c.SessionTicketsDisabled = false }, resumes: true},
		{
			Name: "tickets-never-resume", Expect: MustAccept, Wrong: "Nothing: the server gives tickets, and takes none back: each connection has a full handshake.", Rule: "RFC 8446 section 4.6.1: a server may decline", Consequence: "The client fails when a server restarts.",
			config: neverResume,
		},
		{
			Name: "early-data-refused", Expect: MustAccept, Wrong: "Nothing: the server gives tickets for early data (0-RTT), and then refuses the early data. This is for clients over QUIC; for others there is early-data-refused-tcp.", Rule: "RFC 8446 section 4.2.10, RFC 9001 section 4.6.2: the client sends its request again", Consequence: "The client fails when a server restarts, or sends a request twice.",
			config: neverResume,
		},
		{
			Name: "early-data-refused-tcp", Expect: MustAccept, Wrong: "Nothing: over TCP, the server gives a ticket for early data (0-RTT), and refuses the early data of a second connection, and with it the ticket.", Rule: "RFC 8446 section 4.2.10: the client sends its request again", Consequence: "The client fails when a server restarts, or sends a request twice.", basis: byHandName,
			rogue: plan(func(p *rogue.Plan) {
				p.After = func(c *rogue.Conn) error {
					return c.Send(rogue.Message{Type: rogue.NewSessionTicket, Body: ticket(rogue.EarlyData(1 << 14))})
				}
			}),
		},
	}
}

// neverResume gives tickets under a key that is forgotten with the connection.
func neverResume(c *tls.Config) {
	var key [32]byte
	_, _ = rand.Read(key[:])
	c.SessionTicketsDisabled = false
	c.SetSessionTicketKeys([][32]byte{key})
}

// plan is a server of package rogue, with what the change makes of it.
func plan(change func(*rogue.Plan)) func(*pki.Maker) (*rogue.Plan, error) {
	return func(*pki.Maker) (*rogue.Plan, error) {
		p := &rogue.Plan{}
		change(p)
		return p, nil
	}
}

// signing is a server that proves to have its key in some other way.
func signing(how func(key crypto.Signer) rogue.Signature, make func(*pki.Maker) *tls.Certificate) func(*pki.Maker) (*rogue.Plan, error) {
	return func(m *pki.Maker) (*rogue.Plan, error) {
		c := make(m)
		if m.Err() != nil {
			return nil, m.Err()
		}
		return &rogue.Plan{Certificate: c, Sign: how(c.PrivateKey.(crypto.Signer))}, nil
	}
}
