package handshake_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"padlock/handshake"
)

// server accepts connections, records them and echoes, as the proxy does.
type server struct {
	recorder *handshake.Recorder
	recent   *handshake.Recent
	address  string
	roots    *x509.CertPool
}

func start(t *testing.T, change func(*tls.Config)) *server {
	t.Helper()
	return startWith(t, change, handshake.Options{})
}

func startWith(t *testing.T, change func(*tls.Config), options handshake.Options) *server {
	t.Helper()
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost", Organization: []string{"Evil\x1b[31m Ltd"}},
		DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	s := &server{recent: handshake.NewRecent(16), roots: x509.NewCertPool()}
	s.roots.AddCert(leaf)
	options.Sinks = append([]handshake.Sink{s.recent}, options.Sinks...)
	s.recorder = handshake.NewRecorder(options)
	base := &tls.Config{NextProtos: []string{"h2", "http/1.1"}, GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if h.ServerName != "localhost" {
			return nil, nil
		}
		return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
	}}
	base.KeyLogWriter = s.recorder
	if change != nil {
		change(base)
	}
	listener := base.Clone()
	listener.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		c, _ := handshake.FromHello(h)
		return c.Hello(base), nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	t.Cleanup(func() { l.Close(); s.recorder.Close() })
	go func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(s.recorder.Wrap(raw), listener)
		}
	}()
	return s
}

func (s *server) serve(c *handshake.Conn, config *tls.Config) {
	defer c.Close()
	conn := tls.Server(c, config)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := conn.HandshakeContext(ctx)
	c.Done(conn.ConnectionState(), err)
	if err != nil {
		return
	}
	buffer := make([]byte, 16)
	n, err := conn.Read(buffer)
	if n > 0 {
		c.FirstByte()
		conn.Write(buffer[:n])
	} else {
		c.ReadError(err)
	}
}

func (s *server) event(t *testing.T, id uint64) *handshake.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	e, err := s.recent.Wait(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// dial makes a connection and an echo; its error is the client's.
func (s *server) dial(change func(*tls.Config)) error {
	config := &tls.Config{RootCAs: s.roots, ServerName: "localhost", NextProtos: []string{"h2"}}
	if change != nil {
		change(config)
	}
	conn, err := tls.Dial("tcp", s.address, config)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.Write([]byte("x"))
	_, err = conn.Read(make([]byte, 1))
	return err
}

func stages(e *handshake.Event) string {
	var names []string
	for _, s := range e.Stages {
		names = append(names, fmt.Sprintf("%s:%s:%s", s.From, s.Name, s.Label))
	}
	return strings.Join(names, " ")
}

const (
	hello13 = "client:client_hello:observed server:server_hello:observed server:encrypted_extensions:decrypted"
	flight  = " server:certificate:decrypted server:certificate_verify:decrypted"
	tail    = " server:finished:decrypted client:finished:decrypted client:first_byte:observed"
	ticket  = " server:finished:decrypted server:new_session_ticket:inferred client:finished:decrypted client:first_byte:observed"
)

func TestAFullTLS13HandshakeIsToldStageByStage(t *testing.T) {
	s := start(t, nil)
	if err := s.dial(nil); err != nil {
		t.Fatal(err)
	}
	e := s.event(t, 1)
	if got := stages(e); got != hello13+flight+tail {
		t.Errorf("stages:\n%s", got)
	}
	if e.Outcome != handshake.Complete || e.SNI != "localhost" || e.ALPN != "h2" || e.Group != "X25519MLKEM768" || e.Failure != nil {
		t.Errorf("%+v", e)
	}
	if e.Certificate == nil || strings.Contains(e.Certificate.Organization, "\x1b") || !strings.Contains(e.Certificate.Organization, "Ltd") {
		t.Errorf("certificate %+v", e.Certificate)
	}
}

func TestAResumedHandshakeShowsNoCertificate(t *testing.T) {
	s := start(t, nil)
	cache := tls.NewLRUClientSessionCache(1)
	for range 2 {
		if err := s.dial(func(c *tls.Config) { c.ClientSessionCache = cache }); err != nil {
			t.Fatal(err)
		}
	}
	if e := s.event(t, 2); !e.Resumed || stages(e) != hello13+ticket {
		t.Errorf("resumed %v:\n%s", e.Resumed, stages(e))
	}
}

func TestARetryAsksForAnotherKeyShare(t *testing.T) {
	s := start(t, func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP384} })
	if err := s.dial(func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP384} }); err != nil {
		t.Fatal(err)
	}
	e := s.event(t, 1)
	if want := "client:client_hello:observed server:hello_retry_request:observed " + hello13 + flight + tail; stages(e) != want || !e.Retried {
		t.Errorf("stages:\n%s", stages(e))
	}
}

func TestATLS12HandshakeIsReadFromTheWire(t *testing.T) {
	s := start(t, nil)
	if err := s.dial(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }); err != nil {
		t.Fatal(err)
	}
	e := s.event(t, 1)
	for _, want := range []string{"server:certificate:observed", "server:server_key_exchange:observed", "client:client_key_exchange:observed", "client:finished:observed", "server:finished:observed", "client:first_byte"} {
		if !strings.Contains(stages(e), want) {
			t.Errorf("%s is missing in\n%s", want, stages(e))
		}
	}
}

func TestFailuresNameWhoHungUpAndWhy(t *testing.T) {
	untrusted := func(c *tls.Config) { c.RootCAs = x509.NewCertPool() }
	for name, test := range map[string]struct {
		server, client func(*tls.Config)
		by             handshake.Side
		alert          int
		cause          string
	}{
		"untrusted":       {nil, untrusted, handshake.Client, 42, "could not verify"},
		"unknown name":    {nil, func(c *tls.Config) { c.ServerName = "other.test" }, handshake.Server, 112, "no certificate for the name"},
		"old client":      {func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, handshake.Server, 70, "TLS versions"},
		"no protocol":     {nil, func(c *tls.Config) { c.NextProtos = []string{"smtp"} }, handshake.Server, 120, "no application protocol"},
		"no certificate":  {func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert }, nil, handshake.Server, 116, "requires one"},
		"no common group": {func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP521} }, func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519} }, handshake.Server, 40, "no key-exchange group"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, test.server)
			if s.dial(test.client) == nil {
				t.Fatal("the client was content")
			}
			f := s.event(t, 1).Failure
			if f == nil || f.By != test.by || f.Alert != test.alert || !strings.Contains(f.Cause, test.cause) || f.Remedy == "" {
				t.Errorf("%+v", f)
			}
		})
	}
}

// splitting sends the first record in pieces of a few bytes, each a record of its own (RFC 8446 section 5.1).
type splitting struct {
	net.Conn
	size int
	sent bool
}

func (s *splitting) Write(p []byte) (int, error) {
	if s.sent || len(p) < 5 {
		return s.Conn.Write(p)
	}
	s.sent = true
	var out []byte
	for rest := p[5:]; len(rest) > 0; {
		n := min(s.size, len(rest))
		out = append(append(out, p[0], p[1], p[2], byte(n>>8), byte(n)), rest[:n]...)
		rest = rest[n:]
	}
	_, err := s.Conn.Write(out)
	return len(p), err
}

// A hello may come in any number of records. Where the first one does not even hold the client's random,
// the connection gets a key log of its own, and is told as completely.
func TestAFragmentedHelloIsPutTogether(t *testing.T) {
	s := start(t, nil)
	for i, size := range []int{20, 100, 1000} {
		raw, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		conn := tls.Client(&splitting{Conn: raw, size: size}, &tls.Config{RootCAs: s.roots, ServerName: "localhost"})
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Read(make([]byte, 1))
		conn.Close()
		e := s.event(t, uint64(i+1))
		if e.Outcome != handshake.Complete || !strings.Contains(stages(e), "certificate:decrypted") || e.JA4 == "" || e.SNI != "localhost" {
			t.Errorf("in pieces of %d: %s %s", size, e.Outcome, stages(e))
		}
	}
}

// Under encrypted client hello the wire shows the outer name, and padlock tells the inner one.
func TestEncryptedClientHelloIsToldByItsInnerName(t *testing.T) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	config := echConfig(key.PublicKey().Bytes(), "outer.example")
	s := start(t, func(c *tls.Config) {
		c.EncryptedClientHelloKeys = []tls.EncryptedClientHelloKey{{Config: config, PrivateKey: key.Bytes()}}
	})
	err = s.dial(func(c *tls.Config) {
		c.EncryptedClientHelloConfigList = append([]byte{byte(len(config) >> 8), byte(len(config))}, config...)
		c.MinVersion = tls.VersionTLS13
	})
	if err != nil {
		t.Fatal(err)
	}
	e := s.event(t, 1)
	if !e.ECH || e.SNI != "localhost" || !strings.Contains(e.Stages[0].Text, "outer.example") || !strings.Contains(stages(e), "certificate:decrypted") {
		t.Errorf("%v %s %q %s", e.ECH, e.SNI, e.Stages[0].Text, stages(e))
	}
}

// echConfig is one ECHConfig for X25519, HKDF-SHA256 and AES-128-GCM (RFC 9849 section 4).
func echConfig(public []byte, name string) []byte {
	contents := append([]byte{1, 0, 0x20, 0, byte(len(public))}, public...)
	contents = append(contents, 0, 4, 0, 1, 0, 1, 0, byte(len(name)))
	contents = append(append(contents, name...), 0, 0)
	return append([]byte{0xfe, 0x0d, byte(len(contents) >> 8), byte(len(contents))}, contents...)
}

// When our certificate source fails, the story carries its error.
func TestAFailureOnOurSideIsToldAsOurs(t *testing.T) {
	s := start(t, func(c *tls.Config) {
		c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("the disk is full") }
	})
	if s.dial(nil) == nil {
		t.Fatal("the client was content")
	}
	if f := s.event(t, 1).Failure; f == nil || f.By != handshake.Server || f.Alert != 80 || !strings.Contains(f.Cause, "the disk is full") {
		t.Errorf("%+v", f)
	}
}

func TestAClientThatLeavesIsToldFromOneThatNeverSpoke(t *testing.T) {
	s := start(t, nil)
	quiet, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	quiet.Close()
	if f := s.event(t, 1).Failure; f == nil || !strings.Contains(f.Cause, "without a byte") {
		t.Errorf("%+v", f)
	}
	conn, err := tls.Dial("tcp", s.address, &tls.Config{RootCAs: s.roots, ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if e := s.event(t, 2); e.Outcome != handshake.Silent || e.Failure == nil || e.Failure.By != handshake.Client {
		t.Errorf("%v %+v", e.Outcome, e.Failure)
	}
}

type panicking struct{}

func (panicking) Handshake(*handshake.Event) { panic("sink") }

func TestAPanickingSinkCostsARecordAndNothingElse(t *testing.T) {
	r := handshake.NewRecorder(handshake.Options{Sinks: []handshake.Sink{panicking{}}})
	a, b := net.Pipe()
	defer b.Close()
	c := r.Wrap(a)
	c.Done(tls.ConnectionState{}, io.EOF)
	c.Close()
	r.Close()
	if r.Dropped() != 1 {
		t.Errorf("dropped %d", r.Dropped())
	}
}

// blocked never returns until it is let go.
type blocked struct{ release chan struct{} }

func (b blocked) Handshake(*handshake.Event) { <-b.release }

// A sink that hangs and a queue that is full cost records, which are counted; connections go on as fast as ever.
func TestABlockedSinkAndAFullQueueDelayNoConnection(t *testing.T) {
	b := blocked{make(chan struct{})}
	s := startWith(t, nil, handshake.Options{Sinks: []handshake.Sink{b}, Workers: 1, Queue: 2})
	t.Cleanup(func() { close(b.release) }) // before the recorder is closed
	for range 10 {
		began := time.Now()
		if err := s.dial(nil); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("a connection took %v", took)
		}
	}
	if dropped := s.recorder.Dropped(); dropped == 0 || dropped > 10 {
		t.Errorf("%d records were dropped", dropped)
	}
}

// What identifies a person is left out of everything that is told, where that is asked for.
func TestPrivacyCoversEveryField(t *testing.T) {
	s := startWith(t, nil, handshake.Options{Privacy: handshake.Privacy{TruncateAddresses: true, HashNames: true}})
	if err := s.dial(nil); err != nil {
		t.Fatal(err)
	}
	e := s.event(t, 1)
	if e.Remote != "127.0.0.0:0" || !strings.HasPrefix(e.SNI, "name-") || strings.Contains(e.Stages[0].Text, "localhost") {
		t.Errorf("%s %s %s", e.Remote, e.SNI, e.Stages[0].Text)
	}
	if line := string(handshake.AppendJSON(nil, e)); strings.Contains(line, `"sni":"localhost"`) {
		t.Errorf("the name is still in %s", line)
	}
}

// Names, protocols and certificates are the peer's to choose. None of what they hold can steer a terminal or break out of a line.
func TestHostileTextIsEscapedInEveryFormat(t *testing.T) {
	var text bytes.Buffer
	sinks := []handshake.Sink{handshake.NewStory(&text, handshake.StoryOptions{}), handshake.NewLine(&text), handshake.NewJSON(&text)}
	s := startWith(t, func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert }, handshake.Options{Sinks: sinks, Workers: 1})
	evil := "\x1b[2J\r\nroot: \u202e\xff\""
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "\x1b[2J\r\nroot: \u202e\"", Organization: []string{"\x1b]0;x\a"}}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.dial(func(c *tls.Config) {
		c.NextProtos = []string{evil, "h2"}
		c.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	})
	_ = s.dial(func(c *tls.Config) { c.ServerName, c.InsecureSkipVerify = evil, true })
	for id := range uint64(2) {
		s.event(t, id+1)
	}
	s.recorder.Close()
	if got := text.String(); strings.ContainsAny(got, "\x1b\r\a\u202e") || !utf8.ValidString(got) || !strings.Contains(got, "u{1b}[2J") || strings.Contains(got, "\nroot:") {
		t.Errorf("%q", got)
	}
	for line := range strings.Lines(text.String()) {
		if strings.HasPrefix(line, "{") && !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
}

func TestTextFromTheWireCannotSteerATerminal(t *testing.T) {
	got := handshake.Escape("a\x1b[2J\n\xff\u202e" + `\`)
	if want := `a\u{1b}[2J\u{a}\xff\u{202e}\\`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
