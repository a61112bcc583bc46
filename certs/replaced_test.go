package certs_test

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"padlock/certs/acme"
	"padlock/certs/storage"
	"padlock/config"
	"padlock/internal/servicetest"
)

// before stands before a CA, and may answer in its place.
type before struct {
	mu     sync.Mutex
	answer func(w http.ResponseWriter, path string, payload []byte) bool // nil: the CA answers everything
	seen   []string                                                      // paths
}

func (b *before) set(answer func(w http.ResponseWriter, path string, payload []byte) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = answer
}

func (b *before) requests(prefix string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, path := range b.seen {
		if strings.HasPrefix(path, prefix) {
			n++
		}
	}
	return n
}

// stand puts a server before the CA, whose URLs lead to it from now on.
func stand(t *testing.T, ca *servicetest.CA) *before {
	t.Helper()
	b := &before{}
	target, err := url.Parse(ca.URL)
	if err != nil {
		t.Fatal(err)
	}
	target.Path = ""
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // of which the CA makes its URLs
		},
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, // it is this test's own
	}
	pair, err := tls.LoadX509KeyPair(ca.Root, filepath.Join(filepath.Dir(ca.Root), "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		var signed struct{ Payload string }
		_ = json.Unmarshal(body, &signed)
		payload, _ := base64.RawURLEncoding.DecodeString(signed.Payload)
		b.mu.Lock()
		b.seen = append(b.seen, r.URL.Path)
		answer := b.answer
		b.mu.Unlock()
		if answer == nil || !answer(w, r.URL.Path, payload) {
			proxy.ServeHTTP(w, r)
		}
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server.StartTLS()
	t.Cleanup(server.Close)
	ca.URL = server.URL + "/dir"
	return b
}

const orderPath = "/order-plz"

// A renewal names the certificate that it replaces (RFC 9773 section 5), to the CA that has issued it and to no other. A CA that refuses
// it for that gets the order without.
func TestARenewalSaysWhatItReplaces(t *testing.T) {
	t.Parallel()
	ca, second := servicetest.StartPebble(t, servicetest.PebbleOptions{}), servicetest.StartPebble(t, servicetest.PebbleOptions{})
	one, other := stand(t, ca), stand(t, second)
	var asked, refused, elsewhere atomic.Int32
	replaces := func(payload []byte) bool { return strings.Contains(string(payload), `"replaces"`) }
	one.set(func(w http.ResponseWriter, path string, payload []byte) bool {
		if path == orderPath && replaces(payload) {
			asked.Add(1)
		}
		return false
	})
	s := newSite(t, ca, func(c *config.Certificates) {
		http01(c)
		c.Issuers = append(c.Issuers, config.Issuer{Directory: second.URL, Root: second.Root})
	})
	s.ensure(t, "app.example.com", nil)
	if asked.Load() > 0 {
		t.Error("the first order replaces something")
	}
	s.renew(t, "app.example.com")
	if asked.Load() == 0 {
		t.Error("the renewal does not say what it replaces")
	}

	one.set(func(w http.ResponseWriter, path string, payload []byte) bool {
		if path != orderPath || !replaces(payload) {
			return false
		}
		refused.Add(1)
		problem(w, http.StatusForbidden, "unauthorized", "requester account did not request the certificate being replaced by this order")
		return true
	})
	s.renew(t, "app.example.com")
	if refused.Load() == 0 {
		t.Error("nothing was refused")
	}

	one.set(func(w http.ResponseWriter, path string, _ []byte) bool {
		if path != orderPath {
			return false
		}
		problem(w, http.StatusForbidden, "rejectedIdentifier", "not today")
		return true
	})
	other.set(func(_ http.ResponseWriter, path string, payload []byte) bool {
		if path == orderPath && replaces(payload) {
			elsewhere.Add(1)
		}
		return false
	})
	asked.Store(0)
	_ = s.client.Renew(t.Context(), "app.example.com") // validated on the first CA's ports, so the second may not reach us
	if other.requests(orderPath) == 0 || elsewhere.Load() > 0 {
		t.Errorf("%d orders at the second CA, %d of them with the certificate of the first", other.requests(orderPath), elsewhere.Load())
	}
}

// renew tries again, as Pebble refuses nonces at times.
func (s *site) renew(t *testing.T, name string) {
	t.Helper()
	var err error
	for range 5 {
		if err = s.client.Renew(t.Context(), name); err == nil {
			return
		}
	}
	t.Fatal(err)
}

func problem(w http.ResponseWriter, status int, kind, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"type": "urn:ietf:params:acme:error:" + kind, "detail": detail, "status": status})
}

// A CA that has lost its accounts, as one that was installed anew: each order goes on at once, with one new account for all of them.
func TestAnAccountThatTheCAHasForgottenIsRegisteredOnce(t *testing.T) {
	t.Parallel()
	for _, client := range []string{"certmagic", "autocert"} {
		ca := servicetest.StartPebble(t, servicetest.PebbleOptions{Environment: []string{"PEBBLE_WFE_NONCEREJECT=0"}})
		b := stand(t, ca)
		store, err := storage.Open(t.Context(), t.TempDir(), storage.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		s := siteOn(t, ca, store, func(c *config.Certificates) { http01(c); c.Client = client })
		names := []string{"one.example.com", "two.example.com", "three.example.com"}
		order := func(name string) (err error) {
			if client == "certmagic" {
				return s.client.Renew(t.Context(), name)
			}
			_, err = s.autocert.Ensure(t.Context(), "new-"+name, nil)
			return err
		}
		if err := order(names[0]); err != nil {
			t.Fatalf("%s: %v", client, err)
		}
		registered := b.requests("/sign-me-up")
		ca.Stop()
		ca.Start()

		var all sync.WaitGroup
		for _, name := range names {
			all.Go(func() {
				if err := order(name); err != nil {
					t.Errorf("%s: %s: %v", client, name, err)
				}
			})
		}
		all.Wait()
		if again := b.requests("/sign-me-up") - registered; again != 1 {
			t.Errorf("%s: %d registrations", client, again)
		}
		if client == "certmagic" {
			if keys, err := store.List(t.Context(), "set-aside", true); err != nil || len(keys) != 2 {
				t.Errorf("set aside: %v %v", keys, err)
			}
		}
		s.end()
	}
}

// What a CA asks for with Retry-After is obeyed: for the name where it is a limit, for every name where the CA is busy.
func TestRetryAfterIsObeyed(t *testing.T) {
	t.Parallel()
	ca := servicetest.StartPebble(t, servicetest.PebbleOptions{Environment: []string{"PEBBLE_WFE_NONCEREJECT=0"}})
	b := stand(t, ca)
	s := newSite(t, ca, http01)
	for _, c := range []struct {
		status int
		value  string
		json   bool
	}{
		{http.StatusTooManyRequests, "7200", true}, {http.StatusTooManyRequests, time.Now().Add(2 * time.Hour).UTC().Format(http.TimeFormat), true},
		{http.StatusTooManyRequests, "7200", false}, {http.StatusServiceUnavailable, "7200", true}, {http.StatusServiceUnavailable, "7200", false},
	} {
		name := "limited" + c.value[:1] + http.StatusText(c.status)[:3] + map[bool]string{true: "j", false: "t"}[c.json] + ".example.com"
		name = strings.ToLower(strings.ReplaceAll(name, " ", ""))
		b.set(func(w http.ResponseWriter, path string, _ []byte) bool {
			if path != orderPath {
				return false
			}
			w.Header().Set("Retry-After", c.value)
			if c.json {
				problem(w, c.status, map[bool]string{true: "rateLimited", false: "serverInternal"}[c.status == 429], "come again later")
			} else {
				http.Error(w, "come again later", c.status)
			}
			return true
		})
		count := b.requests(orderPath)
		_, err := s.client.Ensure(t.Context(), name, nil)
		var reason *acme.Error
		if !errors.As(err, &reason) || time.Until(reason.Wait) < 110*time.Minute || time.Until(reason.Wait) > 121*time.Minute {
			t.Errorf("%d %s: %v", c.status, c.value, err)
		}
		if sent := b.requests(orderPath) - count; sent != 1 {
			t.Errorf("%d %s: %d orders", c.status, c.value, sent)
		}

		b.set(nil)
		before := b.requests("/")
		if _, err := s.client.Ensure(t.Context(), name, nil); !errors.As(err, &reason) || time.Until(reason.Wait) < 50*time.Minute {
			t.Errorf("%d %s: again: %v", c.status, c.value, err)
		}
		_, err = s.client.Ensure(t.Context(), "other-"+name, nil)
		switch busy := c.status == http.StatusServiceUnavailable; {
		case !busy && err != nil:
			t.Errorf("%d %s: another name is kept waiting: %v", c.status, c.value, err)
		case busy && (err == nil || !strings.Contains(err.Error(), "busy") || b.requests("/") != before):
			t.Errorf("%d %s: %v, and %d requests to a CA that is busy", c.status, c.value, err, b.requests("/")-before)
		}
		if c.status == http.StatusServiceUnavailable && c.json {
			s.end()
			s = newSite(t, ca, http01) // knows of nothing
		}
	}
}
