package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"
)

// serveTCP runs a service that is not HTTP; it returns its address.
func serveTCP(t *testing.T, serve func(*net.TCPConn)) string {
	t.Helper()
	l := listen(t)
	var open sync.WaitGroup
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(3 * time.Minute))
				serve(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() { l.Close(); open.Wait() })
	return l.Addr().String()
}

func (e *edge) dialTLS(t *testing.T, name string) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", e.address, &tls.Config{RootCAs: e.roots, ServerName: name})
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	t.Cleanup(func() { c.Close() })
	return c
}

// Bytes go both ways as they are, an end of one direction leaves the other open, and a server may speak first.
func TestAServiceIsForwardedByteByByte(t *testing.T) {
	digest := serveTCP(t, func(c *net.TCPConn) {
		_, _ = io.WriteString(c, "hello\n")
		all, err := io.ReadAll(c) // until the client ends its half
		fmt.Fprintf(c, "%d %v\n", len(all), err)
		_, _ = c.Write(all)
	})
	e := startFile(t, `
sites:
  - {hosts: [tcp.localhost], tcp: {to: %q}}
  - {hosts: [localhost], routes: [{to: %q}]}
`, digest, named(t, "app"))
	content := make([]byte, 3<<20)
	_, _ = rand.Read(content)
	c := e.dialTLS(t, "tcp.localhost")
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); line != "hello\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if _, err := c.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if line, err := r.ReadString('\n'); line != fmt.Sprintf("%d <nil>\n", len(content)) {
		t.Fatalf("%q, %v", line, err)
	}
	if back, err := io.ReadAll(r); err != nil || !bytes.Equal(back, content) {
		t.Fatalf("%d bytes came back: %v", len(back), err)
	}
	if response, body := fetch(t, e.clients(t)["h2"], "GET", "https://localhost/"); response.StatusCode != 200 {
		t.Errorf("HTTP beside it: %s %s", response.Status, body)
	}
	// A name of TCP is none of HTTP, whatever connection asks for it.
	if status, _ := e.ask(t, e.tls(), "localhost", "tcp.localhost"); status != 421 {
		t.Errorf("HTTP for the service's name: %d", status)
	}
	soonIn(t, e, `"msg":"connection","server_name":"tcp.localhost","bytes_in":3145728,"bytes_out":`)
}

// soonIn waits for the access log, which is written in the background.
func soonIn(t *testing.T, e *edge, text string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(e.access.String(), text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the access log has no %s:\n%s", text, e.access.String())
		}
	}
}

func TestAServiceEndsWhatIsIdleAndRefusesWhatIsTooMuch(t *testing.T) {
	t.Parallel()
	echo := serveTCP(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	e := startFile(t, `
sites: [{hosts: [tcp.localhost], tcp: {to: %q, idle: 1s, connections: 2}}]
`, echo)
	one, two := e.dialTLS(t, "tcp.localhost"), e.dialTLS(t, "tcp.localhost")
	for range 8 { // it is not idle as long as anything passes
		if _, err := io.WriteString(one, "x"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(one, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
	}
	if _, err := two.Read(make([]byte, 1)); err == nil {
		t.Fatal("an idle connection brought a byte")
	}
	soonIn(t, e, "nothing has passed for too long")
	three := e.dialTLS(t, "tcp.localhost")
	_, _ = io.WriteString(three, "x")
	if _, err := io.ReadFull(three, make([]byte, 1)); err != nil {
		t.Fatalf("the place of the idle one: %v", err)
	}
	four := e.dialTLS(t, "tcp.localhost")
	if _, err := four.Read(make([]byte, 1)); err == nil {
		t.Fatal("more connections than allowed")
	}
	soonIn(t, e, "as many connections as it may")
}

// One client that takes every connection that a service may have, and keeps them open, does not keep others out; what others have, it does
// not push out, nor more of its own.
func TestOneClientDoesNotTakeEveryConnectionOfAService(t *testing.T) {
	t.Parallel()
	echo := serveTCP(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	e := startFile(t, `
sites: [{hosts: [tcp.localhost], tcp: {to: %q, connections: 4}}]
`, echo)
	open := func(address string) *tls.Conn {
		c := tls.Client(from(t, address, e.address), &tls.Config{RootCAs: e.roots, ServerName: "tcp.localhost"})
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		return c
	}
	echoes := func(c *tls.Conn) error {
		if _, err := io.WriteString(c, "x"); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	}

	var held []*tls.Conn
	for range 4 {
		c := open("127.0.0.2")
		if err := echoes(c); err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	if err := echoes(open("127.0.0.2")); err == nil {
		t.Error("more connections than there may be")
	}
	first, second := open("127.0.0.3"), open("127.0.0.4")
	for _, c := range []*tls.Conn{first, second} {
		if err := echoes(c); err != nil {
			t.Fatalf("one client has all: %v", err)
		}
	}
	soonIn(t, e, "made room for a client with fewer")
	if err := echoes(open("127.0.0.2")); err == nil {
		t.Error("a client with many gets one of another's")
	}
	left := 0
	for _, c := range append(held, first, second) {
		if echoes(c) == nil {
			left++
		}
	}
	if left != 4 || echoes(first) != nil || echoes(second) != nil {
		t.Errorf("%d are open, of 4", left)
	}
}

// Of two targets the dead one costs no client its connection; balance and health are those of HTTP.
func TestAServiceGoesToATargetThatAnswers(t *testing.T) {
	answer := func(name string) func(*net.TCPConn) {
		return func(c *net.TCPConn) { _, _ = io.WriteString(c, name) }
	}
	dead := listen(t)
	dead.Close()
	e := startFile(t, `
sites: [{hosts: [tcp.localhost], tcp: {to: [%q, %q, %q], health: {interval: 100ms, fall: 1}}}]
`, serveTCP(t, answer("one")), serveTCP(t, answer("two")), dead.Addr())
	count := map[string]int{}
	for range 20 {
		name, err := io.ReadAll(e.dialTLS(t, "tcp.localhost"))
		if err != nil {
			t.Fatal(err)
		}
		count[string(name)]++
	}
	if count["one"]+count["two"] != 20 || count["one"] < 5 || count["two"] < 5 {
		t.Errorf("the targets got %v", count)
	}
}

// A target that wants to know gets the client's address, and with version 2 all of its TLS.
func TestAServiceIsToldOfTheClientByThePROXYProtocol(t *testing.T) {
	headers := make(chan *proxyproto.Header, 1)
	told := serveTCP(t, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		h, err := proxyproto.Read(r)
		if err != nil {
			t.Error(err)
		}
		headers <- h
		_, _ = io.Copy(c, r)
	})
	ca := newAuthority(t)
	e := startFile(t, `
sites:
  - {hosts: [one.localhost], tcp: {to: %[1]q, proxy_protocol: v1}}
  - {hosts: [two.localhost], tls: {client_auth: {mode: optional-verify, ca: %[2]s}}, tcp: {to: %[1]q, proxy_protocol: v2, alpn: [mqtt]}}
`, told, ca.file)
	for _, name := range []string{"one.localhost", "two.localhost"} {
		c, err := tls.Dial("tcp", e.address, &tls.Config{
			RootCAs: e.roots, ServerName: name, NextProtos: []string{"mqtt"}, Certificates: []tls.Certificate{ca.client(t, 5, pkix.Name{CommonName: "alice"})},
		})
		if err != nil {
			t.Fatal(err)
		}
		h := <-headers
		if h.SourceAddr.String() != c.LocalAddr().String() || h.DestinationAddr.String() != c.RemoteAddr().String() {
			t.Errorf("%s: %v to %v", name, h.SourceAddr, h.DestinationAddr)
		}
		if _, err := io.WriteString(c, "ping"); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			t.Error(err)
		}
		c.Close()
		if name == "one.localhost" {
			continue
		}
		tlvs, err := h.TLVs()
		if err != nil {
			t.Fatal(err)
		}
		facts := map[proxyproto.PP2Type]string{}
		for _, tlv := range tlvs {
			facts[tlv.Type] = string(tlv.Value)
			if tlv.Type != proxyproto.PP2_TYPE_SSL {
				continue
			}
			ssl, err := tlvparse.SSL(tlv)
			if err != nil {
				t.Fatal(err)
			}
			version, _ := ssl.SSLVersion()
			cipher, _ := ssl.SSLCipher()
			who, _ := ssl.ClientCN()
			if !ssl.ClientSSL() || !ssl.Verified() || !ssl.ClientCertConn() || version != "TLSv1.3" || cipher != "TLS_AES_128_GCM_SHA256" || who != "alice" {
				t.Errorf("TLS: %+v, %s, %s, %s", ssl, version, cipher, who)
			}
		}
		if facts[proxyproto.PP2_TYPE_ALPN] != "mqtt" || facts[proxyproto.PP2_TYPE_AUTHORITY] != "two.localhost" {
			t.Errorf("ALPN and name: %q", facts)
		}
	}
}

// TLS that is the target's affair goes by its server name, through padlock, which has no certificate for it.
func TestTLSIsPassedThroughByName(t *testing.T) {
	app := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "own TLS") }))
	defer app.Close()
	e := startFile(t, `
sites:
  - {hosts: [own.example], tcp: {to: %q, passthrough: true}}
  - {hosts: [localhost], routes: [{to: %q}]}
`, strings.TrimPrefix(app.URL, "https://"), named(t, "app"))
	c, err := tls.Dial("tcp", e.address, &tls.Config{ServerName: "own.example", InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	if !c.ConnectionState().PeerCertificates[0].Equal(app.Certificate()) {
		t.Error("the certificate is not the target's")
	}
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: own.example\r\nConnection: close\r\n\r\n")
	if all, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(all), "own TLS") {
		t.Errorf("%q, %v", all, err)
	}
	c.Close()
	for name, client := range e.clients(t) { // beside it TLS is padlock's, whose first bytes were looked at
		if _, body := fetch(t, client, "GET", "https://localhost/"); !strings.HasPrefix(body, "app GET") {
			t.Errorf("%s beside it: %s", name, body)
		}
	}
	// A hello in many records and segments is read all the same.
	raw, err := net.Dial("tcp", e.address)
	if err != nil {
		t.Fatal(err)
	}
	slow := tls.Client(&trickle{Conn: raw}, &tls.Config{ServerName: "own.example", InsecureSkipVerify: true})
	if err := slow.Handshake(); err != nil || !slow.ConnectionState().PeerCertificates[0].Equal(app.Certificate()) {
		t.Errorf("byte by byte: %v", err)
	}
	slow.Close()
	soonIn(t, e, `"server_name":"own.example"`)
}

// trickle cuts the first record into records of 50 bytes, and sends them byte by byte.
type trickle struct {
	net.Conn
	begun bool
}

func (c *trickle) Write(p []byte) (int, error) {
	if c.begun {
		return c.Conn.Write(p)
	}
	c.begun = true
	var out []byte
	for rest := p[5:]; len(rest) > 0; {
		n := min(50, len(rest))
		out = append(append(out, 22, 3, 1, 0, byte(n)), rest[:n]...)
		rest = rest[n:]
	}
	for i := range out {
		if _, err := c.Conn.Write(out[i : i+1]); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// PostgreSQL's clients ask in plaintext for TLS; others on the same port do not, and what is smuggled in before TLS is lost.
func TestTLSBeginsAfterAnSSLRequest(t *testing.T) {
	echo := serveTCP(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	e := startFile(t, `
sites:
  - {hosts: [db.localhost], tcp: {to: %q, starttls: postgres}}
  - {hosts: [localhost], routes: [{to: %q}]}
`, echo, named(t, "app"))
	const ssl, gss = "\x00\x00\x00\x08\x04\xd2\x16\x2f", "\x00\x00\x00\x08\x04\xd2\x16\x30"
	begin := func(name, before, answer, behind string, protocols ...string) (*tls.Conn, error) {
		raw, err := net.Dial("tcp", e.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { raw.Close() })
		_ = raw.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(raw, before+behind)
		got := make([]byte, len(answer))
		if _, err := io.ReadFull(raw, got); err != nil || string(got) != answer {
			return nil, fmt.Errorf("answered %q, %w", got, err)
		}
		c := tls.Client(raw, &tls.Config{RootCAs: e.roots, ServerName: name, NextProtos: protocols})
		if err := c.Handshake(); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(c, "query"); err != nil {
			return nil, err
		}
		_, err = io.ReadFull(c, make([]byte, 5))
		return c, err
	}
	for what, try := range map[string]func() (*tls.Conn, error){
		"SSLRequest": func() (*tls.Conn, error) { return begin("db.localhost", ssl, "S", "") },
		"direct TLS": func() (*tls.Conn, error) { return begin("db.localhost", "", "", "", "postgresql") },
	} {
		if _, err := try(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	// GSSAPI is declined, and then the client asks for TLS.
	raw, err := net.Dial("tcp", e.address)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	answer := make([]byte, 1)
	_, _ = io.WriteString(raw, gss)
	if _, err := io.ReadFull(raw, answer); err != nil || answer[0] != 'N' {
		t.Fatalf("to a request for GSSAPI: %q, %v", answer, err)
	}
	_, _ = io.WriteString(raw, ssl)
	if _, err := io.ReadFull(raw, answer); err != nil || answer[0] != 'S' {
		t.Fatalf("to a request for TLS: %q, %v", answer, err)
	}
	if c, err := begin("db.localhost", ssl, "S", "\x00\x00\x00\x08\x00\x03\x00\x00smuggled"); err == nil {
		t.Errorf("what was sent before TLS came through: %v", c.ConnectionState().ServerName)
	}
	if _, err := begin("localhost", ssl, "S", ""); err == nil {
		t.Error("HTTP was served behind an SSLRequest")
	}
	if _, body := fetch(t, e.clients(t)["h2"], "GET", "https://localhost/"); !strings.HasPrefix(body, "app GET") {
		t.Errorf("HTTP beside it: %s", body)
	}
}

// lastRead keeps the first byte of what was read last.
type lastRead struct {
	net.Conn
	head byte
}

const recordTypeAlert = 21

func (c *lastRead) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.head = p[0]
	}
	return n, err
}

// A client that dies takes its connection to the target along, and the other way round.
func TestAServiceIsCutWhenEitherSideIs(t *testing.T) {
	ended := make(chan error, 1)
	service := serveTCP(t, func(c *net.TCPConn) {
		command := make([]byte, 3)
		_, _ = io.ReadFull(c, command)
		if string(command) == "die" {
			_ = c.SetLinger(0)
			return
		}
		_, err := c.Read(command)
		ended <- err
	})
	e := startFile(t, `
sites: [{hosts: [tcp.localhost], tcp: {to: %q}}]
`, service)
	raw, err := net.Dial("tcp", e.address)
	if err != nil {
		t.Fatal(err)
	}
	last := &lastRead{Conn: raw} // TLS 1.2, in which an alert can be told from data by its type
	dying := tls.Client(last, &tls.Config{RootCAs: e.roots, ServerName: "tcp.localhost", MaxVersion: tls.VersionTLS12})
	_, _ = io.WriteString(dying, "die")
	if n, err := dying.Read(make([]byte, 1)); n > 0 || err == nil || last.head == recordTypeAlert {
		t.Errorf("the target was reset, and the client saw a proper end: %v, record of type %d", err, last.head)
	}
	c := e.dialTLS(t, "tcp.localhost")
	_, _ = io.WriteString(c, "run")
	c.NetConn().(*net.TCPConn).SetLinger(0)
	c.NetConn().Close()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the target got a byte more")
		}
	case <-time.After(10 * time.Second):
		t.Error("the target was never told that its client is gone")
	}
}
