package proxy_test

import (
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"padlock/internal/servicetest"
)

// once makes a connection, asks for a host, and tells the status (0 where there was none) and whether TLS was resumed.
func (e *edge) once(t *testing.T, front string, c *tls.Config, host string) (status int, resumed bool) {
	t.Helper()
	request, _ := http.NewRequest("GET", "https://"+host+"/", nil)
	var response *http.Response
	var err error
	if front == "h3" {
		transport := &http3.Transport{TLSClientConfig: c, Dial: func(ctx context.Context, _ string, c *tls.Config, q *quic.Config) (*quic.Conn, error) {
			return quic.DialAddr(ctx, e.address, c, servicetest.Patient(q))
		}}
		defer transport.Close()
		response, err = transport.RoundTrip(request)
	} else {
		transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("tcp", e.address) }, TLSClientConfig: c, ForceAttemptHTTP2: front == "h2"}
		defer transport.CloseIdleConnections()
		response, err = transport.RoundTrip(request)
	}
	if err != nil {
		return 0, false
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	time.Sleep(20 * time.Millisecond) // for the ticket, which TLS 1.3 brings when it likes
	return response.StatusCode, response.TLS.DidResume
}

// sharedSessions offers whatever session there is, whatever the server.
type sharedSessions struct{ tls.ClientSessionCache }

func (s sharedSessions) Get(string) (*tls.ClientSessionState, bool) {
	return s.ClientSessionCache.Get("")
}
func (s sharedSessions) Put(_ string, state *tls.ClientSessionState) {
	s.ClientSessionCache.Put("", state)
}

// A session ticket stands in for no client certificate: not one of another site, nor one from before the CA changed, for any way to ask
// for certificates and by any protocol.
func TestATicketOpensNoSiteWithClientCertificates(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"require", "optional-verify", "request"} {
		ca := newAuthority(t)
		alice := ca.client(t, 7, pkix.Name{CommonName: "alice"})
		e := startFile(t, `
sites:
  - {hosts: [localhost], routes: [{to: %[1]q}]}
  - {hosts: [secret.test], tls: {client_auth: {mode: %[2]s, ca: %[3]s}}, routes: [{to: %[1]q}]}
`, echoFields(t), mode, ca.file)
		with := func(sessions tls.ClientSessionCache, name string, version uint16, certificates ...tls.Certificate) *tls.Config {
			return &tls.Config{RootCAs: e.roots, ServerName: name, Certificates: certificates, ClientSessionCache: sessions, MaxVersion: version}
		}
		type ticket struct {
			front    string
			version  uint16
			sessions tls.ClientSessionCache
		}
		var before []ticket
		for _, front := range fronts {
			for version := uint16(tls.VersionTLS12); version <= tls.VersionTLS13; version++ {
				if front == "h3" && version == tls.VersionTLS12 {
					continue
				}
				sessions := sharedSessions{tls.NewLRUClientSessionCache(8)}
				if status, _ := e.once(t, front, with(sessions, "localhost", version), "localhost"); status != 200 {
					t.Fatalf("%s: %d", front, status)
				}
				if _, resumed := e.once(t, front, with(sessions, "localhost", version), "localhost"); !resumed {
					t.Errorf("%s %x: the open site does not resume", front, version)
				}
				status, resumed := e.once(t, front, with(sessions, "secret.test", version), "secret.test")
				if resumed || mode == "require" && status != 0 {
					t.Errorf("%s, %s %x: a ticket of the open site, without a certificate: %d, resumed %v", mode, front, version, status, resumed)
				}
				sessions = sharedSessions{tls.NewLRUClientSessionCache(8)}
				for range 2 {
					if status, resumed := e.once(t, front, with(sessions, "secret.test", version, alice), "secret.test"); status != 200 || resumed {
						t.Errorf("%s, %s %x: with a certificate: %d, resumed %v", mode, front, version, status, resumed)
					}
				}
				before = append(before, ticket{front, version, sessions})
			}
		}
		ca.replace(t)
		deadline := time.Now().Add(20 * time.Second)
		for mode != "request" { // in which nobody is refused
			if status, _ := e.once(t, "h1", with(nil, "secret.test", 0, alice), "secret.test"); status == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the CA has changed, and nobody noticed")
			}
			time.Sleep(50 * time.Millisecond)
		}
		for _, b := range before {
			status, resumed := e.once(t, b.front, with(b.sessions, "secret.test", b.version, alice), "secret.test")
			if resumed || mode != "request" && status != 0 {
				t.Errorf("%s, %s %x: after the CA changed: %d, resumed %v", mode, b.front, b.version, status, resumed)
			}
		}
	}
}

// A certificate that a client shows is told as good only while its CA is the site's.
func TestATargetIsNotToldOfACertificateWhoseCAHasGone(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	alice := ca.client(t, 7, pkix.Name{CommonName: "alice"})
	e := startFile(t, `sites: [{hosts: [localhost], tls: {client_auth: {mode: request, ca: %s}}, routes: [{to: %q}]}]`, ca.file, echoFields(t))
	verdict := func() (string, error) {
		c := e.tls()
		c.Certificates = []tls.Certificate{alice}
		client := &http.Client{Transport: &http.Transport{DialContext: e.dial, TLSClientConfig: c, DisableKeepAlives: true}}
		response, err := client.Get("https://localhost/")
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		_, after, _ := strings.Cut(string(body), "X-Ssl-Client-Verify: ")
		line, _, _ := strings.Cut(after, "\r\n")
		return line, err
	}
	if got, err := verdict(); got != "SUCCESS" {
		t.Fatalf("X-SSL-Client-Verify: %s, %v", got, err)
	}
	ca.replace(t)
	deadline := time.Now().Add(20 * time.Second)
	for {
		got, err := verdict()
		if err == nil && got != "SUCCESS" { // an error: the change has ended the connection, whose target was told SUCCESS
			if !strings.HasPrefix(got, "FAILED") {
				t.Errorf("X-SSL-Client-Verify: %s", got)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the CA has changed, and nobody noticed: %s, %v", got, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
