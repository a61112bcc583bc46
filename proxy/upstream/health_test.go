package upstream

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"padlock/config"
)

// lines is a log that can be waited on.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func newLines() *lines { return &lines{more: make(chan struct{})} }

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.more)
	l.more = make(chan struct{})
	return l.text.Write(p)
}

// wait returns the first line that has all of the words.
func (l *lines) wait(t *testing.T, words ...string) string {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		l.mu.Lock()
		text, more := l.text.String(), l.more
		l.mu.Unlock()
	search:
		for line := range strings.Lines(text) {
			for _, word := range words {
				if !strings.Contains(line, word) {
					continue search
				}
			}
			return line
		}
		select {
		case <-more:
		case <-timeout:
			t.Fatalf("no line has %q:\n%s", words, text)
		}
	}
}

func (l *lines) count(word string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), word)
}

// expired is a server whose certificate was valid until an hour ago, and a file with what it is signed by.
func expired(t *testing.T) (url, ca string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(-time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	server.StartTLS()
	t.Cleanup(server.Close)
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return server.URL, ca
}

// A target that becomes unhealthy, and healthy again, is one line of the log each, with the reason; the reason stands where its state does, and in
// the error of a request that finds no target.
func TestWhyATargetIsUnhealthyIsTold(t *testing.T) {
	listen := func(t *testing.T) net.Listener {
		t.Helper()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	refused := "127.0.0.1:1"
	silent := listen(t).Addr().String() // the kernel accepts, and nobody answers
	closing := listen(t)
	go func() {
		for {
			c, err := closing.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1024))
			c.Close()
		}
	}()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	own := filepath.Join(t.TempDir(), "own.pem")
	if err := os.WriteFile(own, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	outdated, outdatedCA := expired(t)
	demanding := httptest.NewUnstartedServer(http.NotFoundHandler())
	demanding.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	demanding.StartTLS()
	t.Cleanup(demanding.Close)

	choosy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "app.test" {
			w.WriteHeader(400)
		}
	}))
	t.Cleanup(choosy.Close)

	for name, c := range map[string]struct {
		target string
		u      config.Upstream
		want   string
	}{
		"choosy":       {choosy.URL, config.Upstream{}, "with status 400, and health.status is 200-399; if it answers its own hosts alone, name one in health.host: it was asked as 127.0.0.1:"},
		"refused":      {"http://" + refused, config.Upstream{}, "connection refused: nothing listens there"},
		"tcp":          {"tcp://" + refused, config.Upstream{}, "connection refused: nothing listens there"},
		"h2c":          {"h2c://" + refused, config.Upstream{}, "connection refused: nothing listens there"},
		"socket":       {"unix:" + filepath.Join(t.TempDir(), "none.sock"), config.Upstream{}, "the socket does not exist"},
		"closed":       {"http://" + closing.Addr().String(), config.Upstream{}, "it closed the connection without an answer"},
		"silent":       {"http://" + silent, config.Upstream{}, "it did not answer within 200ms"},
		"silent TLS":   {"tls://" + silent, config.Upstream{}, "it did not answer within 200ms"},
		"silent h2c":   {"h2c://" + silent, config.Upstream{}, "it did not answer within 200ms"},
		"status":       {secure.URL, config.Upstream{Insecure: true}, "it answers /up with status 404, and health.status is 200-399"},
		"authority":    {secure.URL, config.Upstream{}, "its certificate is signed by an unknown authority"},
		"name":         {secure.URL, config.Upstream{CA: own, ServerName: "other.test"}, "its certificate is for another name"},
		"expired":      {outdated, config.Upstream{CA: outdatedCA}, "its certificate has expired: it was valid until 20"},
		"expired, tls": {strings.Replace(outdated, "https", "tls", 1), config.Upstream{CA: outdatedCA}, "its certificate has expired: it was valid until 20"},
		"demanding":    {demanding.URL, config.Upstream{Insecure: true}, "it refused the TLS handshake: "},
		"no TLS":       {"https://" + serve(t, "a").address, config.Upstream{}, "it speaks something else than TLS there"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, log := c.u, newLines()
			target, err := config.ParseTarget(c.target)
			if err != nil {
				t.Fatal(err)
			}
			u.To = []config.Backend{{Target: target}}
			u.Health = &config.Health{Path: "/up", Status: "200-399", Interval: 100 * time.Millisecond, Timeout: 200 * time.Millisecond, Rise: 2, Fall: 2}
			if !strings.HasPrefix(name, "silent") {
				u.Health.Timeout = 20 * time.Second // of a busy machine
			}
			targets := &Targets{Log: slog.New(slog.NewTextHandler(log, nil))}
			g, err := targets.Group(&u, config.Timeouts{Connect: 20 * time.Second, ResponseHeader: config.Patience(20 * time.Second)})
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			log.wait(t, "target is unhealthy", target.String(), c.want)
			if counts := targets.Counts(); counts[0].Healthy || !strings.Contains(counts[0].Reason, c.want) {
				t.Errorf("%+v", counts)
			}
			var a Attempt
			if target.Scheme == "tcp" || target.Scheme == "tls" {
				_, err = g.Dial(nil, request("192.0.2.1"), &a)
			} else {
				_, err = g.ask(request("192.0.2.1"), &a)
			}
			if !errors.Is(err, ErrUnhealthy) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the request's error is %v", err)
			}
		})
	}
}

func TestATargetThatRecoversIsToldOnce(t *testing.T) {
	t.Parallel()
	a, log := serve(t, "a"), newLines()
	a.sick.Store(true)
	target, _ := config.ParseTarget("http://" + a.address)
	u := config.Upstream{To: []config.Backend{{Target: target}}, Health: &config.Health{
		Path: "/up", Status: "200-399", Interval: 100 * time.Millisecond, Timeout: 20 * time.Second, Rise: 2, Fall: 2,
	}}
	targets := &Targets{Log: slog.New(slog.NewTextHandler(log, nil))}
	g, err := targets.Group(&u, config.Timeouts{Connect: 20 * time.Second, ResponseHeader: config.Patience(20 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	log.wait(t, "target is unhealthy", "it answers /up with status 500, and health.status is 200-399", "checks=2")
	for asked := a.asked.Load(); a.asked.Load() < asked+3; time.Sleep(10 * time.Millisecond) {
	}
	a.sick.Store(false)
	log.wait(t, "target is healthy again", "unhealthy_for=")
	if n := log.count("unhealthy:"); n != 1 {
		t.Errorf("it was told %d times", n)
	}
	if counts := targets.Counts(); !counts[0].Healthy || counts[0].Reason != "" {
		t.Errorf("%+v", counts)
	}
}

// Requests that fail in a row are told once, with the reason, and so is their end.
func TestFailingRequestsAreTold(t *testing.T) {
	t.Parallel()
	log := newLines()
	var broken atomic.Bool
	broken.Store(true)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			conn, _, _ := http.NewResponseController(w).Hijack()
			conn.Close()
			return
		}
		_, _ = io.WriteString(w, "a")
	}))
	defer server.Close()
	target, _ := config.ParseTarget(server.URL)
	u := config.Upstream{To: []config.Backend{{Target: target}}, PassiveHealth: config.PassiveHealth{Failures: 3, Cooldown: time.Minute}, Retry: config.Retry{Attempts: 1}}
	targets := &Targets{Log: slog.New(slog.NewTextHandler(log, nil))}
	g, err := targets.Group(&u, config.Timeouts{Connect: 20 * time.Second, ResponseHeader: config.Patience(20 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	ask := func() {
		var a Attempt
		_, _ = g.ask(request("192.0.2.1"), &a)
		a.End()
	}
	for range 20 {
		ask()
	}
	log.wait(t, "requests to the target fail", target.String(), "it closed the connection without an answer", "failures=3")
	if counts := targets.Counts(); !counts[0].Ejected || counts[0].Reason != "it closed the connection without an answer" {
		t.Errorf("%+v", counts)
	}
	broken.Store(false)
	ask()
	log.wait(t, "requests to the target succeed again")
	broken.Store(true)
	for range 20 { // soon again: not told
		ask()
	}
	if n := log.count("fail:"); n != 1 {
		t.Errorf("it was told %d times", n)
	}
}
