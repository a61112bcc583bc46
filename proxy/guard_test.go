package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"padlock/config"
	"padlock/internal/servicetest"
)

// held is something that a client keeps open.
type held struct {
	what   string
	over   chan struct{} // closed when the client finds its end
	echoes func() bool   // nil: it only listens
}

// hold keeps everything open that can be kept, as a client with a certificate or without one: for each site that is named, requests
// whose answer does not end over each protocol, an idle connection and a WebSocket; and a connection of TCP.
func hold(t *testing.T, e *edge, certificates []tls.Certificate, sites ...string) (all []held) {
	t.Helper()
	var reading sync.WaitGroup
	t.Cleanup(reading.Wait)
	with := func(name string, protocols ...string) *tls.Config {
		return &tls.Config{RootCAs: e.roots, ServerName: name, Certificates: certificates, NextProtos: protocols}
	}
	dial := func(c *tls.Config) *tls.Conn {
		conn, err := tls.Dial("tcp", e.address, c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	add := func(what string, r io.Reader, w io.Writer) {
		h, heard := held{what: what, over: make(chan struct{})}, make(chan byte, 1)
		reading.Go(func() {
			defer close(h.over)
			for one := make([]byte, 1); ; {
				if _, err := r.Read(one); err != nil {
					return
				}
				select {
				case heard <- one[0]:
				default:
				}
			}
		})
		if w != nil {
			h.echoes = func() bool {
				_, _ = w.Write([]byte("x"))
				select {
				case <-heard:
					return true
				case <-h.over:
				case <-time.After(10 * time.Second):
				}
				return false
			}
		}
		all = append(all, h)
	}

	for _, site := range sites {
		if site == "tcp.test" {
			conn := dial(with(site, "echo"))
			add(site, conn, conn)
			continue
		}
		for front, transport := range map[string]http.RoundTripper{
			"h1": &http.Transport{DialContext: e.dial, TLSClientConfig: with(site)},
			"h2": &http.Transport{DialContext: e.dial, TLSClientConfig: with(site), ForceAttemptHTTP2: true},
			"h3": &http3.Transport{TLSClientConfig: with(site), Dial: func(ctx context.Context, _ string, c *tls.Config, q *quic.Config) (*quic.Conn, error) {
				return quic.DialAddr(ctx, e.address, c, servicetest.Patient(q))
			}},
		} {
			request, _ := http.NewRequest("GET", "https://"+site+"/events", nil)
			response, err := transport.RoundTrip(request)
			if err != nil {
				t.Fatalf("%s, %s: %v", site, front, err)
			}
			t.Cleanup(func() { response.Body.Close() })
			if response.StatusCode != 200 {
				t.Fatalf("%s, %s: %s", site, front, response.Status)
			}
			add(site+", "+front, response.Body, nil)
		}
		conn := dial(with(site, "http/1.1"))
		r := bufio.NewReader(conn)
		_, _ = io.WriteString(conn, "GET /at-once HTTP/1.1\r\nHost: "+site+"\r\n\r\n")
		if response, err := http.ReadResponse(r, nil); err != nil || response.StatusCode != 200 {
			t.Fatalf("%s: %+v, %v", site, response, err)
		} else {
			_, _ = io.Copy(io.Discard, response.Body)
		}
		add(site+", an idle connection", r, nil)

		conn = dial(with(site, "http/1.1"))
		r = bufio.NewReader(conn)
		_, _ = io.WriteString(conn, strings.Replace(upgradeHead, "localhost", site, 1))
		if response, err := http.ReadResponse(r, nil); err != nil || response.StatusCode != 101 {
			t.Fatalf("%s: %+v, %v", site, response, err)
		}
		add(site+", a WebSocket", r, conn)
	}
	return all
}

// A connection is judged again when what judges it changes, and at the end of what its certificate proves: not the next request alone is
// refused, but whatever is open ends, over every protocol, in every mode that has let the client in. Who still passes stays.
func TestWhatAClientHasOpenEndsWithItsRight(t *testing.T) {
	t.Parallel()
	type scene struct {
		ca       *authority
		lists    string
		e        *edge
		reload   func(allow string)
		requires string
	}
	sites := []string{"localhost", "optional.test", "request.test", "tcp.test"}
	for _, c := range []struct {
		what       string
		expires    bool // alice's certificate, soon after she has come
		act        func(t *testing.T, s *scene)
		alice, bob bool // stay
		anonymous  bool // stays
	}{
		{"revoked", false, func(t *testing.T, s *scene) {
			s.ca.crl(t, s.lists, time.Now().Add(time.Hour), 10)
			s.reload("")
		}, false, true, true},
		{"another list without her", false, func(t *testing.T, s *scene) {
			s.ca.crl(t, s.lists, time.Now().Add(2*time.Hour), 12)
			s.reload("")
		}, true, true, true},
		{"the list expires", false, func(t *testing.T, s *scene) {
			s.ca.crl(t, s.lists, time.Now().Add(3*time.Second))
			s.reload("")
		}, false, false, true},
		{"her certificate expires", true, nil, false, true, true},
		{"another CA", false, func(t *testing.T, s *scene) {
			s.ca.replace(t)
			s.ca.crl(t, s.lists, time.Now().Add(time.Hour))
			s.reload("")
		}, false, false, true},
		{"her name is allowed no more", false, func(t *testing.T, s *scene) {
			s.reload("allow: {names: [bob.test]}")
		}, false, true, true},
		{"all must have a certificate", false, func(t *testing.T, s *scene) {
			s.requires = "require"
			s.reload("")
		}, true, true, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			s := &scene{ca: newAuthority(t), lists: filepath.Join(t.TempDir(), "revoked.crl"), requires: "optional-verify"}
			s.ca.crl(t, s.lists, time.Now().Add(time.Hour))
			certificate := func(serial int64, name string, lasts time.Duration) []tls.Certificate {
				return []tls.Certificate{s.ca.sign(t, &x509.Certificate{
					SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name + ".test"},
					ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, NotAfter: time.Now().Add(lasts),
				})}
			}
			app := backend(t, func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/events":
					_, _ = io.WriteString(w, "x")
					_ = http.NewResponseController(w).Flush()
					<-r.Context().Done()
				case "/ws":
					socketEcho(w, r)
				}
			})
			tcp := serveTCP(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
			text := func(allow string) string {
				site := func(host, mode, to string) string {
					if mode != "request" && allow != "" {
						mode += ", " + allow
					}
					return fmt.Sprintf("  - {hosts: [%s], tls: {client_auth: {ca: %s, crl: %s, mode: %s}}, %s}\n", host, s.ca.file, s.lists, mode, to)
				}
				routes := fmt.Sprintf("routes: [{to: %q}]", app)
				return "sites:\n" + site("localhost", "require", routes) + site("optional.test", s.requires, routes) +
					site("request.test", "request", routes) + site("tcp.test", s.requires, fmt.Sprintf("tcp: {to: %q, alpn: [echo]}", tcp))
			}
			s.e = startFile(t, "%s", text(""))
			s.reload = func(allow string) {
				parsed, err := config.Parse("padlock.yaml", []byte(text(allow)))
				if err != nil {
					t.Fatal(err)
				}
				changed := *s.e.config
				changed.Sites = parsed.Sites
				if err := s.e.server.Reload(&changed, nil); err != nil {
					t.Fatal(err)
				}
			}

			began := time.Now()
			his := hold(t, s.e, certificate(11, "bob", time.Hour), sites...)
			lasts := time.Hour
			if c.expires { // once all is held open, on a busy machine too
				lasts = 3*time.Second + 3*time.Since(began)
			}
			theirs := hold(t, s.e, nil, "optional.test", "request.test", "tcp.test")
			hers := hold(t, s.e, certificate(10, "alice", lasts), sites...)
			if c.act != nil {
				c.act(t, s)
			}
			limit, done := context.WithTimeout(t.Context(), min(lasts, time.Minute)+30*time.Second)
			defer done()
			ends := func(who string, all []held, stays func(h held) bool) {
				for _, h := range all {
					if stays(h) {
						continue
					}
					select {
					case <-h.over:
					case <-limit.Done():
						t.Errorf("%s: %s is still open", who, h.what)
						return
					}
				}
			}
			// Where nobody is refused, targets were told that a certificate is good: that is over when it is not, whatever its name.
			asked := func(h held) bool { return strings.HasPrefix(h.what, "request.test") }
			named := strings.Contains(c.what, "allowed")
			staysHers := func(h held) bool { return c.alice || named && asked(h) }
			staysHis := func(held) bool { return c.bob }
			staysTheirs := func(h held) bool { return c.anonymous || asked(h) }
			ends("alice", hers, staysHers)
			ends("bob", his, staysHis)
			ends("somebody", theirs, staysTheirs)
			stay := func(who string, all []held, stays func(h held) bool) {
				for _, h := range all {
					select {
					case <-h.over:
						if stays(h) {
							t.Errorf("%s: %s has ended", who, h.what)
						}
						continue
					default:
					}
					if stays(h) && h.echoes != nil && !h.echoes() {
						t.Errorf("%s: nothing comes back by %s", who, h.what)
					}
				}
			}
			stay("alice", hers, staysHers)
			stay("bob", his, staysHis)
			stay("somebody", theirs, staysTheirs)
		})
	}
}

// While another padlock takes over, what is open here is judged on: a revocation ends it, as long as others keep theirs.
func TestARightEndsWhileAnotherPadlockTakesOver(t *testing.T) {
	t.Parallel()
	ca, lists := newAuthority(t), filepath.Join(t.TempDir(), "revoked.crl")
	ca.crl(t, lists, time.Now().Add(time.Hour))
	e := startFile(t, "sites: [{hosts: [localhost], tls: {client_auth: {ca: %s, crl: %s, mode: require}}, routes: [{to: %q}]}]", ca.file, lists, socketTarget(t, ""))
	open := func(serial int64) (*tls.Conn, *bufio.Reader) {
		c := e.tls()
		c.NextProtos = []string{"http/1.1"}
		c.Certificates = []tls.Certificate{ca.sign(t, &x509.Certificate{
			SerialNumber: big.NewInt(serial), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, NotAfter: time.Now().Add(time.Hour),
		})}
		conn, err := tls.Dial("tcp", e.address, c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		_, _ = io.WriteString(conn, upgradeHead)
		r := bufio.NewReader(conn)
		if response, err := http.ReadResponse(r, nil); err != nil || response.StatusCode != 101 {
			t.Fatalf("%+v, %v", response, err)
		}
		return conn, r
	}
	hers, hears := open(10)
	his, hearing := open(11)

	e.server.HandOver(t.Context(), func() {})
	go func() { _ = e.stop() }()
	for late := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", e.address); err != nil {
			break
		} else if c.Close(); time.Now().After(late) {
			t.Fatal("connections are still taken")
		}
	}
	ca.crl(t, lists, time.Now().Add(time.Hour), 10)
	if n, err := io.Copy(io.Discard, hears); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("what was revoked is still open, %d bytes, %v", n, hers.RemoteAddr())
	}
	_, _ = io.WriteString(his, "x")
	if _, err := hearing.ReadByte(); err != nil {
		t.Errorf("the other: %v", err)
	}
	hers.Close()
	his.Close()
	if err := e.stop(); err != nil {
		t.Error(err)
	}
}

// A connection that comes while the lists change is judged by the new ones, whichever its handshake has seen.
func TestNoHandshakeOutrunsARevocation(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	lists := filepath.Join(t.TempDir(), "revoked.crl")
	ca.crl(t, lists, time.Now().Add(time.Hour))
	alice := []tls.Certificate{ca.client(t, 10, pkix.Name{CommonName: "alice"})}
	tcp := serveTCP(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	e := startFile(t, `sites: [{hosts: [tcp.test], tls: {client_auth: {mode: require, ca: %s, crl: %s}}, tcp: {to: %q, alpn: [echo]}}]`, ca.file, lists, tcp)

	var open, dialing sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		dialing.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				conn, err := tls.Dial("tcp", e.address, &tls.Config{RootCAs: e.roots, ServerName: "tcp.test", Certificates: alice, NextProtos: []string{"echo"}})
				if err != nil {
					continue
				}
				open.Go(func() { gone(t, conn); conn.Close() })
			}
		})
	}
	time.Sleep(100 * time.Millisecond) // handshakes are on their way
	ca.crl(t, lists, time.Now().Add(time.Hour), 10)
	if err := e.server.Reload(e.config, nil); err != nil {
		t.Error(err)
	}
	close(stop)
	dialing.Wait()
	open.Wait()
}
