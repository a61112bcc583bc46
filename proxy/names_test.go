package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/quic-go/quic-go"

	"padlock/config"
	"padlock/internal/servicetest"
	"padlock/proxy"
)

// guarded serves open.test and open.wild.test to anybody, and secret.test and *.wild.test to those with a client certificate.
func guarded(t *testing.T) (e *edge, alice tls.Certificate, ca *authority) {
	t.Helper()
	ca = newAuthority(t)
	e = startFile(t, `
sites:
  - {hosts: [localhost, open.test, open.wild.test], routes: [{to: %[1]q}]}
  - {hosts: [secret.test, "*.wild.test"], tls: {client_auth: {mode: require, ca: %[2]s}}, routes: [{to: %[1]q}]}
`, named(t, "app"), ca.file)
	return e, ca.client(t, 7, pkix.Name{CommonName: "alice"}), ca
}

// asked is what came of one request under a server name: its status, or the error.
func (e *edge) asked(t *testing.T, front, sni, host string, certificates ...tls.Certificate) string {
	t.Helper()
	change := func(c *tls.Config) { c.ServerName, c.InsecureSkipVerify, c.Certificates = sni, true, certificates }
	var transport http.RoundTripper
	switch front {
	case "h3":
		transport = e.three(t, change).Transport
	default:
		c := e.tls()
		change(c)
		c.NextProtos = []string{map[string]string{"h1": "http/1.1", "h2": "h2"}[front]}
		conn, err := tls.Dial("tcp", e.address, c)
		if err != nil {
			return err.Error()
		}
		defer conn.Close()
		one := &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }, ForceAttemptHTTP2: front == "h2"}
		one.Protocols = new(http.Protocols)
		one.Protocols.SetHTTP1(front == "h1")
		one.Protocols.SetHTTP2(front == "h2")
		defer one.CloseIdleConnections()
		transport = one
	}
	request, _ := http.NewRequest("GET", "https://localhost/", nil)
	request.Host = host
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return fmt.Sprint(response.StatusCode)
}

var fronts = []string{"h1", "h2", "h3"}

// A name is the same in whatever form it comes, for TLS, for routing and for policy: none opens a site that asks for client certificates, over
// a connection that was made without.
func TestNoFormOfANameOpensASiteWithClientCertificates(t *testing.T) {
	t.Parallel()
	e, alice, _ := guarded(t)
	forms := []string{
		"secret.test", "SECRET.test", "Secret.Test", "secret.test.", "SECRET.TEST.", "secret.test:443", "secret.test:8443", "secret.test.:443", "secret.test:", "a.wild.test", "A.WILD.TEST", "a.wild.test.", "a.wild.test:443", "secret.test:00443",
	}
	for _, front := range fronts {
		for _, host := range forms {
			for _, sni := range []string{"open.test", "OPEN.test", "open.wild.test"} {
				if got := e.asked(t, front, sni, host, alice); got != "421" {
					t.Errorf("%s: %s over a connection for %s: %s", front, host, sni, got)
				}
			}
			sni := "secret.test"
			if strings.Contains(strings.ToLower(host), "wild") {
				sni = "B.wild.test"
			}
			if got := e.asked(t, front, sni, host, alice); got != "200" {
				t.Errorf("%s: %s over a connection for %s, with a certificate: %s", front, host, sni, got)
			}
			if got := e.asked(t, front, sni, host); len(got) == len("200") { // TLS 1.3 tells only after the handshake, and the client may have gone on
				t.Errorf("%s: %s over a connection for %s, without a certificate: %s", front, host, sni, got)
			}
		}
		for _, host := range []string{"localhost", "open.test", "OPEN.TEST.:443", "open.wild.test"} {
			if got := e.asked(t, front, "open.test", host); got != "200" {
				t.Errorf("%s: %s: %s", front, host, got)
			}
			if got := e.asked(t, front, "secret.test", host, alice); got != "421" {
				t.Errorf("%s: %s over a connection for secret.test: %s", front, host, got)
			}
		}
		for _, host := range []string{"secret.test..", ".secret.test", "secret..test", "secret.test:x", "secret.test:443:443", "[secret.test]", "secret.test%00", "secret.test%2e", "a.b.wild.test", "wild.test", "xsecret.test", "secret.test.evil.test", "*.wild.test", "secret%2etest"} {
			if got := e.asked(t, front, "open.test", host, alice); got == "200" {
				t.Errorf("%s: %s is served", front, host)
			}
			if got := e.asked(t, front, "secret.test", host, alice); got == "200" {
				t.Errorf("%s: %s is served", front, host)
			}
		}
	}
}

// Names that are not here are refused while TLS is made, or told that they are not here; never are they given somebody else's site.
func TestUnknownNamesAreRefused(t *testing.T) {
	e, alice, _ := guarded(t)
	for _, front := range fronts {
		for _, sni := range []string{"other.example", "wild.test", "a.b.wild.test", "secret.test:443", "open.test.example"} {
			if got := e.asked(t, front, sni, "open.test", alice); !strings.Contains(got, "unrecognized name") {
				t.Errorf("%s: the server name %s: %s", front, sni, got)
			}
		}
		for _, host := range []string{"other.example", "127.0.0.1", "[::1]", "xn--nxasmq6b", "wild.test", "com"} {
			if got := e.asked(t, front, "open.test", host); got != "421" {
				t.Errorf("%s: the host %s: %s", front, host, got)
			}
		}
		// Without a server name a connection is as good as one for an open site, and no better.
		if got := e.asked(t, front, "", "secret.test", alice); got != "421" && !strings.Contains(got, "unrecognized name") {
			t.Errorf("%s: secret.test without a server name: %s", front, got)
		}
	}
	// Forms that a TLS library would not send: they are put into the hello by hand, so that the handshake cannot be completed.
	for _, sni := range []string{"secret.test.", "secret.tes\x00", "secret.te\r\n", "secret.te t", "[::1]:44443", "127.0.0.1:1"} {
		placeholder := "placeholder"[:min(11, len(sni))] + strings.Repeat("x", max(0, len(sni)-11))
		raw, err := net.Dial("tcp", e.address)
		if err != nil {
			t.Fatal(err)
		}
		err = tls.Client(&rewritten{Conn: raw, from: []byte(placeholder), to: []byte(sni)}, &tls.Config{ServerName: placeholder, InsecureSkipVerify: true}).Handshake()
		raw.Close()
		if err == nil || !strings.HasPrefix(err.Error(), "remote error: tls:") {
			t.Errorf("the server name %q: %v", sni, err)
		}
	}
}

// rewritten replaces bytes of what is written first.
type rewritten struct {
	net.Conn
	from, to []byte
	done     bool
}

func (c *rewritten) Write(p []byte) (int, error) {
	if c.done {
		return c.Conn.Write(p)
	}
	c.done = true
	_, err := c.Conn.Write(bytes.Replace(p, c.from, c.to, 1))
	return len(p), err
}

// pieces sends each TLS record's content as records of so many bytes, each in a segment of its own. After the first flight it changes nothing.
type pieces struct {
	net.Conn
	size int
	done bool
}

func (c *pieces) Write(p []byte) (int, error) {
	if c.done || c.size == 0 {
		return c.Conn.Write(p)
	}
	c.done = true
	content := p[5:]
	for len(content) > 0 {
		n := min(c.size, len(content))
		record := append([]byte{p[0], p[1], p[2], byte(n >> 8), byte(n)}, content[:n]...)
		if _, err := c.Conn.Write(record); err != nil {
			return 0, err
		}
		content = content[n:]
	}
	return len(p), nil
}

// dribble sends every byte in a segment of its own.
type dribble struct {
	net.Conn
	size int
}

func (c *dribble) Write(p []byte) (int, error) {
	for at := 0; at < len(p); at += c.size {
		if _, err := c.Conn.Write(p[at:min(at+c.size, len(p))]); err != nil {
			return at, err
		}
	}
	return len(p), nil
}

// A hello in pieces, of TLS or of TCP, is judged as one in one piece is.
func TestAHelloInPiecesIsJudgedAsAWhole(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	alice := ca.client(t, 7, pkix.Name{CommonName: "alice"})
	bytewise := serveTCP(t, func(c *net.TCPConn) { _, _ = io.WriteString(c, "service"); _, _ = io.Copy(io.Discard, c) })
	passed := start(t, named(t, "passed"), func(c *config.Config) { c.Sites[0].Hosts = []string{"passed.test"} })
	e := startFile(t, `
sites:
  - {hosts: [open.test], routes: [{to: %[1]q}]}
  - {hosts: [secret.test], tls: {client_auth: {mode: require, ca: %[2]s}}, routes: [{to: %[1]q}]}
  - {hosts: [tcp.test], tcp: {to: %[3]q, alpn: [mqtt]}}
  - {hosts: [passed.test], tcp: {to: %[4]q, passthrough: true}}
`, named(t, "app"), ca.file, bytewise, passed.address)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, size := range []int{0, 1, 16, 100} {
			for how, wrap := range map[string]func(net.Conn) net.Conn{
				"records":  func(c net.Conn) net.Conn { return &pieces{Conn: c, size: size} },
				"segments": func(c net.Conn) net.Conn { return &dribble{c, max(size, 1)} },
				"both":     func(c net.Conn) net.Conn { return &pieces{Conn: &dribble{c, 7}, size: size} },
			} {
				for _, test := range []struct {
					sni, alpn    string
					certificates []tls.Certificate
					want         string
				}{
					{"open.test", "http/1.1", nil, "200"}, {"secret.test", "http/1.1", nil, ""}, {"secret.test", "http/1.1", []tls.Certificate{alice}, "200"}, {"tcp.test", "mqtt", nil, "service"}, {"passed.test", "http/1.1", nil, "200"},
					{"other.test", "http/1.1", nil, "unrecognized name"}, {"tcp.test", "http/1.1", nil, "no application protocol"}, {"open.test", "mqtt", nil, "no application protocol"},
				} {
					got := answerInPieces(t, e, wrap, &tls.Config{ServerName: test.sni, NextProtos: []string{test.alpn}, Certificates: test.certificates, InsecureSkipVerify: true, MaxVersion: version})
					if !strings.Contains(got, test.want) || test.want == "" && strings.HasPrefix(got, "HTTP/") {
						t.Errorf("TLS %x, %s of %d: %s by %s with %d certificates: %.200q, not %s", version, how, size, test.sni, test.alpn, len(test.certificates), got, test.want)
					}
				}
			}
		}
	}
}

func answerInPieces(t *testing.T, e *edge, wrap func(net.Conn) net.Conn, c *tls.Config) string {
	t.Helper()
	raw, err := net.Dial("tcp", e.address)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	conn := tls.Client(wrap(raw), c)
	if err := conn.Handshake(); err != nil {
		return err.Error()
	}
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", c.ServerName); err != nil {
		return err.Error()
	}
	answer := make([]byte, 4096)
	n, err := conn.Read(answer)
	if n == 0 {
		return err.Error()
	}
	return string(answer[:n])
}

// A client that offers none of a site's protocols gets the alert no_application_protocol, and no other protocol's site by mistake (ALPACA).
func TestProtocolsThatASiteDoesNotSpeakAreRefused(t *testing.T) {
	said := make(chan string, 10)
	service := serveTCP(t, func(c *net.TCPConn) {
		b := make([]byte, 100)
		n, _ := c.Read(b)
		said <- string(b[:n])
	})
	own := listen(t)
	own.Close() // for its port
	e := startFile(t, `
sites:
  - {hosts: [localhost, www.test], routes: [{to: %[1]q}]}
  - {hosts: [mqtt.test], tcp: {to: %[2]q, alpn: [mqtt]}}
  - {hosts: [mail.test], tcp: {to: %[2]q}}
`, named(t, "app"), service)
	for _, test := range []struct {
		sni    string
		offers []string
	}{
		{"www.test", []string{"mqtt"}}, {"www.test", []string{"ftp", "smtp", "imap"}}, {"www.test", []string{"h3"}}, {"www.test", []string{"h2c"}}, {"www.test", []string{"HTTP/1.1", "H2"}}, {"www.test", []string{"\x00"}},
		{"www.test", []string{"http/0.9"}}, {"mqtt.test", []string{"http/1.0"}},
		{"mqtt.test", []string{"http/1.1"}}, {"mqtt.test", []string{"h2", "http/1.1"}}, {"mqtt.test", []string{"h3"}}, {"www.test", []string{"acme-tls/1", "mqtt"}},
	} {
		_, err := tls.Dial("tcp", e.address, &tls.Config{ServerName: test.sni, NextProtos: test.offers, InsecureSkipVerify: true})
		if err == nil || !strings.Contains(err.Error(), "no application protocol") {
			t.Errorf("%s by %q: %v", test.sni, test.offers, err)
		}
	}
	for _, offers := range [][]string{{"http/1.1"}, {"h2"}, {"hq-interop"}, {"mqtt"}} {
		_, err := quic.DialAddr(t.Context(), e.address, &tls.Config{ServerName: "www.test", NextProtos: offers, InsecureSkipVerify: true}, servicetest.Patient(nil))
		var refused *quic.TransportError
		if !errors.As(err, &refused) || refused.ErrorCode != 0x100+120 {
			t.Errorf("QUIC by %q: %v", offers, err)
		}
	}
	if _, err := quic.DialAddr(t.Context(), e.address, &tls.Config{ServerName: "mqtt.test", NextProtos: []string{"h3"}, InsecureSkipVerify: true}, servicetest.Patient(nil)); err == nil {
		t.Error("QUIC for a service of TCP")
	}
	// A service is reached under its own name only: what a browser says to the web site never gets to it.
	for _, host := range []string{"mail.test", "mqtt.test"} {
		if got := e.asked(t, "h1", "www.test", host); got != "421" {
			t.Errorf("%s over a connection for www.test: %s", host, got)
		}
	}
	select {
	case text := <-said:
		t.Errorf("the service was told %q", text)
	default:
	}
}

// curl --http1.0 offers HTTP/1.0 alone by ALPN. It is HTTP, so it gets its answer, and its handshake is told as every other. Who offers more gets
// the better one.
func TestAClientThatOffersHTTP10AloneIsAnswered(t *testing.T) {
	t.Parallel()
	e := startFile(t, `sites: [{hosts: [localhost], routes: [{to: %q}]}]`, named(t, "app"))
	for offers, want := range map[string]string{"http/1.0": "http/1.0", "http/1.0 http/1.1": "http/1.1", "http/1.0 h2": "h2", "http/0.9 http/1.0": "http/1.0"} {
		conn, err := tls.Dial("tcp", e.address, &tls.Config{RootCAs: e.roots, ServerName: "localhost", NextProtos: strings.Fields(offers)})
		if err != nil {
			t.Fatalf("%s: %v", offers, err)
		}
		defer conn.Close()
		if got := conn.ConnectionState().NegotiatedProtocol; got != want {
			t.Errorf("%s: %s was chosen", offers, got)
		}
		if want != "http/1.0" {
			continue
		}
		_, _ = io.WriteString(conn, "GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
		answer, err := io.ReadAll(conn)
		if err != nil || !strings.Contains(string(answer), " 200 ") || !strings.HasSuffix(string(answer), "app GET /") {
			t.Errorf("%s: %q, %v", offers, answer, err)
		}
	}
}

// A client that connects to an address sends no server name: it gets the policy of the site that has the address, whatever listener it has come by,
// and that policy alone.
func TestASiteNamedByAnAddressHasItsPolicy(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	e := startFile(t, `
sites:
  - {hosts: [localhost], routes: [{to: %[1]q}]}
  - {hosts: [127.0.0.1, "::1", secret.test], tls: {client_auth: {mode: require, ca: %[2]s}}, routes: [{to: %[1]q}]}
`, named(t, "app"), ca.file)
	alice := ca.client(t, 7, pkix.Name{CommonName: "alice"})
	wide, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	e.server.Add(proxy.Listener{Listener: wide, Address: ":0"})
	_, port, _ := net.SplitHostPort(wide.Addr().String())

	for _, address := range []string{e.address, "127.0.0.1:" + port, "[::1]:" + port} {
		if conn, err := net.Dial("tcp", address); err != nil { // a machine without IPv6
			t.Log(err)
			continue
		} else {
			conn.Close()
		}
		e.address = address
		host, _, _ := net.SplitHostPort(address)
		written := host
		if strings.Contains(host, ":") {
			written = "[" + host + "]"
		}
		for _, front := range fronts {
			if got := e.asked(t, front, host, written, alice); got != "200" {
				t.Errorf("%s %s with a certificate: %s", front, address, got)
			}
			if got := e.asked(t, front, host, "secret.test", alice); got != "200" {
				t.Errorf("%s %s, the same site by its name: %s", front, address, got)
			}
			if got := e.asked(t, front, host, written); len(got) == len("200") {
				t.Errorf("%s %s without a certificate: %s", front, address, got)
			}
			if got := e.asked(t, front, host, "localhost", alice); got != "421" {
				t.Errorf("%s %s, an open site over a connection to the address: %s", front, address, got)
			}
			if got := e.asked(t, front, "localhost", written, alice); got != "421" {
				t.Errorf("%s %s, the address over a connection to the open site: %s", front, address, got)
			}
			if got := e.asked(t, front, "localhost", "localhost"); got != "200" {
				t.Errorf("%s %s, the open site: %s", front, address, got)
			}
		}
	}
}

// The same holds for services that are not HTTP, and for those whose TLS padlock does not end.
func TestAServiceNamedByAnAddress(t *testing.T) {
	t.Parallel()
	app := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "app") }))
	t.Cleanup(app.Close)
	for name, tcp := range map[string]string{"tls": "{to: \"tls://%s\", insecure_skip_verify: true}", "passthrough": "{to: %s, passthrough: true}"} {
		e := startFile(t, "sites:\n  - {hosts: [localhost], routes: [{respond: {body: other}}]}\n  - {hosts: [127.0.0.1], tcp: "+tcp+"}\n", app.Listener.Addr().String())
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
		if _, got := fetch(t, client, "GET", "https://"+e.address+"/"); got != "app" {
			t.Errorf("%s: %s", name, got)
		}
	}
}
