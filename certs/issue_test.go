package certs_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"padlock/certs"
	"padlock/certs/acme"
	"padlock/certs/storage"
	"padlock/config"
	"padlock/internal/servicetest"
)

// site is what a padlock has of one CA, with listeners where the CA validates.
type site struct {
	client   *acme.Client
	autocert *acme.Autocert // in its place, where that is configured
	address  string
	end      func() // before the test does
}

func newSite(t *testing.T, ca *servicetest.CA, change func(*config.Certificates), names ...string) *site {
	t.Helper()
	store, err := storage.Open(t.Context(), t.TempDir(), storage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return siteOn(t, ca, store, change, names...)
}

func siteOn(t *testing.T, ca *servicetest.CA, store storage.Store, change func(*config.Certificates), names ...string) *site {
	t.Helper()
	c := config.Default().Certificates
	c.Issuers = []config.Issuer{{Directory: ca.URL, Root: ca.Root}}
	if change != nil {
		change(&c)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	s := &site{address: net.JoinHostPort("127.0.0.1", strconv.Itoa(ca.TLS))}
	var err error
	o := acme.Options{Config: c, Store: store, Log: log, HTTP: net.JoinHostPort("127.0.0.1", strconv.Itoa(ca.HTTP)), HTTPS: s.address, OCSPSoonest: time.Second}
	var client certs.Client
	if c.Client == "autocert" {
		s.autocert, err = acme.NewAutocert(o)
		client = s.autocert
	} else {
		s.client, err = acme.New(o)
		client = s.client
	}
	if err != nil {
		t.Fatal(err)
	}
	manager := certs.NewManager(client, certs.ManagerOptions{Names: names, Log: log})
	source := certs.New(certs.Options{Manager: manager})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); manager.Run(ctx) }()
	secure, err := tls.Listen("tcp", s.address, &tls.Config{GetCertificate: source.GetCertificate})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := secure.Accept()
			if err != nil {
				return
			}
			go func() { defer conn.Close(); _ = conn.(*tls.Conn).Handshake() }()
		}
	}()
	plain, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(ca.HTTP)))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !client.AnswerHTTP(w, r) {
			http.NotFound(w, r)
		}
	})}
	go func() { _ = server.Serve(plain) }()
	s.end = sync.OnceFunc(func() { cancel(); <-ended; server.Close(); secure.Close(); client.Close() })
	t.Cleanup(s.end)
	return s
}

func http01(c *config.Certificates) { c.Challenges = []string{"http-01"} }

// ensure asks until there is an answer without an error: Pebble refuses a nonce now and then.
func (s *site) ensure(t *testing.T, name string, held *acme.Bundle) *acme.Bundle {
	t.Helper()
	var err error
	for range 5 {
		var next *acme.Bundle
		if next, err = s.client.Ensure(t.Context(), name, held); err == nil {
			return next
		}
	}
	t.Fatal(err)
	return nil
}

// An address has a certificate, for six days, which is served without a server name.
func TestACertificateForAnAddressInAProfile(t *testing.T) {
	t.Parallel()
	ca := servicetest.StartPebble(t, servicetest.PebbleOptions{Profile: "shortlived"})
	s := newSite(t, ca, func(c *config.Certificates) {
		http01(c)
		c.Issuers[0].Profile = "shortlived"
	}, "127.0.0.1")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.IssuingRoot())
	var err error
	for range 20 {
		var conn *tls.Conn
		if conn, err = tls.Dial("tcp", s.address, &tls.Config{RootCAs: roots}); err == nil { // the name is the address: no SNI
			leaf := conn.ConnectionState().PeerCertificates[0]
			conn.Close()
			if days := leaf.NotAfter.Sub(leaf.NotBefore).Hours() / 24; days < 5.9 || days > 6.1 || len(leaf.DNSNames) > 0 {
				t.Errorf("%.1f days, names %v", days, leaf.DNSNames)
			}
			return
		}
		time.Sleep(time.Second)
	}
	t.Fatal(err)
}

// Of the chains that a CA offers, the one is served that leads to the preferred root.
func TestThePreferredChain(t *testing.T) {
	t.Parallel()
	ca := servicetest.StartPebble(t, servicetest.PebbleOptions{Environment: []string{"PEBBLE_ALTERNATE_ROOTS=2"}})
	block, _ := pem.Decode(ca.AlternateRoot(2))
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, ca, func(c *config.Certificates) {
		http01(c)
		c.Issuers[0].PreferredChain = root.Subject.CommonName
	})
	chain := s.ensure(t, "app.example.com", nil).Pairs[0].Certificate.Certificate
	last, err := x509.ParseCertificate(chain[len(chain)-1])
	if err != nil {
		t.Fatal(err)
	}
	if last.Issuer.CommonName != root.Subject.CommonName {
		t.Errorf("the chain leads to %s instead of %s", last.Issuer.CommonName, root.Subject.CommonName)
	}
}

// The CA moves a renewal (ARI) to a window that has begun: the next look renews, long before the lifetime would ask for it.
func TestRenewalInformationMovesARenewal(t *testing.T) {
	t.Parallel()
	ca := servicetest.StartPebble(t, servicetest.PebbleOptions{})
	store, err := storage.Open(t.Context(), t.TempDir(), storage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	s := siteOn(t, ca, store, http01)
	held := s.ensure(t, "app.example.com", nil)
	first := held.Pairs[0]
	if until := time.Until(first.Renewal); until < 24*time.Hour {
		t.Fatalf("the renewal is due in %s", until)
	}
	window, _ := json.Marshal(map[string]any{"suggestedWindow": map[string]string{
		"start": time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), "end": time.Now().Add(-time.Minute).UTC().Format(time.RFC3339),
	}, "explanationURL": "https://example.com/why"})
	ca.Manage("/set-renewal-info/", map[string]string{
		"certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: first.Leaf.Raw})), "ariResponse": string(window),
	})
	// A padlock that starts asks at once; one that runs asks when the CA has told it to.
	second := s.ensure(t, "app.example.com", nil).Pairs[0]
	if second.Leaf.Equal(first.Leaf) {
		t.Error("the certificate was not renewed")
	}
	if until := time.Until(second.Renewal); until < 24*time.Hour {
		t.Errorf("the next renewal is due in %s", until)
	}
}

// Where there is an OCSP responder its answer is stapled, and a revocation is noticed and the certificate replaced.
func TestStaplingAndARevocation(t *testing.T) {
	t.Parallel()
	responder := servicetest.StartResponder(t)
	ca := servicetest.StartPebble(t, servicetest.PebbleOptions{Responder: responder.URL, RSA: true})
	responder.For(ca)
	responder.Valid = 4 * time.Second
	s := newSite(t, ca, http01)
	held := s.ensure(t, "app.example.com", nil)
	first := held.Pairs[0]
	if len(first.OCSPStaple) == 0 {
		t.Error("no response is stapled")
	}
	responder.Revoke(first.Leaf.SerialNumber)
	for deadline := time.Now().Add(60 * time.Second); held.Pairs[0].Leaf.Equal(first.Leaf); {
		if time.Now().After(deadline) {
			t.Fatal("the revoked certificate is still served")
		}
		time.Sleep(min(time.Until(held.Due), time.Second)) // as the manager does
		held = s.ensure(t, "app.example.com", held)
	}
}
