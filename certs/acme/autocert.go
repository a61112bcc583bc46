package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	xacme "golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"padlock/certs/storage"
	"padlock/internal/pemfile"
)

// Autocert orders with golang.org/x/crypto/acme/autocert, which renews by itself at a third of the lifetime.
type Autocert struct {
	o       Options
	client  func() *xacme.Client // a new one, which does not know its account yet
	eab     *xacme.ExternalAccountBinding
	current atomic.Pointer[managing]
	cache   *autocertCache
}

// managing is autocert's manager, which keeps its account for good.
type managing struct {
	*autocert.Manager
	answer http.Handler // nil: http-01 cannot be answered
}

// NewAutocert makes the other client. Configurations that it cannot serve do not validate.
func NewAutocert(o Options) (*Autocert, error) {
	issuer := o.Config.Issuers[0]
	directory := issuer.URL(o.Config.Staging)
	var outgoing *http.Client
	if issuer.Root != "" {
		pool, err := pemfile.LoadPool(issuer.Root)
		if err != nil {
			return nil, fmt.Errorf("reading the root of %s: %w", &issuer, err)
		}

		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
		outgoing = &http.Client{Transport: transport}
	}

	a := &Autocert{
		o: o, cache: &autocertCache{store: o.Store, prefix: autocertArea + place(directory) + "/", held: map[string]*time.Timer{}},
		client: func() *xacme.Client {
			return &xacme.Client{DirectoryURL: directory, UserAgent: "padlock", HTTPClient: outgoing}
		},
	}

	if issuer.EAB.KID != "" {
		key, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(issuer.EAB.HMACKey, "="))
		if err != nil {
			return nil, errors.New("the HMAC key of the external account binding is not base64url")
		}
		a.eab = &xacme.ExternalAccountBinding{KID: issuer.EAB.KID, Key: key}
	}

	a.current.Store(a.manage())
	return a, nil
}

func (a *Autocert) manage() *managing {
	m := &managing{Manager: &autocert.Manager{
		Prompt: autocert.AcceptTOS, Cache: a.cache, Client: a.client(), Email: a.o.Config.Email, ExternalAccountBinding: a.eab,
		// The caller of Ensure has decided that the name gets a certificate.
		HostPolicy: func(context.Context, string) error { return nil },
	}}
	if slices.Contains(a.o.Config.Challenges, "http-01") && a.o.HTTP != "" {
		m.answer = m.HTTPHandler(http.NotFoundHandler())
	}
	return m
}

func place(directory string) string {
	u, err := url.Parse(directory)
	if err != nil {
		return "ca"
	}
	return strings.Trim(strings.NewReplacer("/", "-", ":", "-").Replace(u.Host+u.Path), "-")
}

// Close has nothing to end: autocert's timers end with the process.
func (a *Autocert) Close() {}

// Ensure implements what Client.Ensure does.
func (a *Autocert) Ensure(_ context.Context, name string, bundle *Bundle) (*Bundle, error) {
	current := a.current.Load()
	pair, err := a.certificate(current, name)
	if p, ok := findProblem(err); ok && p.kind == "accountDoesNotExist" {
		// Its key is registered again by the first of those who find out.
		if a.current.CompareAndSwap(current, a.manage()) {
			a.o.Log.Warn("the CA does not know the account any more; it is registered again", "name", name)
		}
		pair, err = a.certificate(a.current.Load(), name)
	}

	if err != nil {
		return bundle, Translate(name, err)
	}

	if bundle != nil && bundle.Pairs[0].Leaf.Equal(pair.Leaf) {
		pair = bundle.Pairs[0].Certificate
	} else {
		a.o.Log.Info("certificate order", "name", name, "stage", stageCertificate, "issuer", a.o.Config.Issuers[0].String())
	}

	return a.hold(pair), nil
}

func (a *Autocert) certificate(from *managing, name string) (*tls.Certificate, error) {
	defer a.cache.release(name)
	return from.GetCertificate(&tls.ClientHelloInfo{
		ServerName: name, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
		SupportedCurves: []tls.CurveID{tls.CurveP256}, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
	})
}

// Load implements what Client.Load does.
func (a *Autocert) Load(ctx context.Context, name string) (*Bundle, error) {
	data, _, err := a.cache.load(ctx, name)
	if err != nil {
		return nil, err
	}
	if data == nil {
		return nil, &fs.PathError{Op: "loading", Path: name, Err: fs.ErrNotExist}
	}
	pair, err := pemfile.Pair("", data, "", data)
	if err != nil {
		return nil, err
	}
	return a.hold(&pair), nil
}

func (a *Autocert) hold(pair *tls.Certificate) *Bundle {
	p := &Pair{Certificate: pair, Kind: "p256", Issuer: place(a.o.Config.Issuers[0].URL(a.o.Config.Staging)), Renewal: autocertRenewal(pair.Leaf)}
	due := time.Now().Add(lookAgain)
	if lifetime := pair.Leaf.NotAfter.Sub(pair.Leaf.NotBefore); lifetime < time.Hour {
		due = time.Now().Add(lifetime / 30)
	}
	return &Bundle{Pairs: []*Pair{p}, Due: due}
}

const autocertArea = "autocert/"

// autocertRenewal is autocert's own rule.
func autocertRenewal(leaf *x509.Certificate) time.Time {
	return leaf.NotAfter.Add(-leaf.NotAfter.Sub(leaf.NotBefore) / 3)
}

var errAutocertRenews = errors.New("client autocert renews and forgets by itself; client certmagic can")

// Renew implements what Client.Renew does.
func (a *Autocert) Renew(context.Context, string) error { return errAutocertRenews }

// Revoke implements what Client.Revoke does.
func (a *Autocert) Revoke(context.Context, string, int) error { return errAutocertRenews }

// AnswerHTTP implements what Client.AnswerHTTP does.
func (a *Autocert) AnswerHTTP(w http.ResponseWriter, r *http.Request) bool {
	answer := a.current.Load().answer
	if answer == nil || !strings.HasPrefix(r.URL.Path, "/.well-known/acme-challenge/") {
		return false
	}
	if _, err := a.cache.Get(r.Context(), path.Base(r.URL.Path)+"+http-01"); err != nil {
		return false // no node has offered it
	}
	answer.ServeHTTP(w, r)
	validated(a.o.Log, "http-01", r.Host, r.RemoteAddr)
	return true
}

// ChallengeCertificate implements what Client.ChallengeCertificate does.
func (a *Autocert) ChallengeCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	certificate, err := a.current.Load().GetCertificate(hello)
	if err == nil {
		validated(a.o.Log, "tls-alpn-01", hello.ServerName, hello.Conn.RemoteAddr().String())
	}
	return certificate, err
}

// autocertCache is the storage as autocert's Cache. Who asks for a certificate that is missing or due gets the lock
// of its name with the answer, and gives it back with what it puts there: so of several nodes one orders, and the
// others wait for what it gets.
type autocertCache struct {
	store  storage.Store
	prefix string

	mu   sync.Mutex
	held map[string]*time.Timer
}

// longest is for how long autocert works on one order.
const longest = 10 * time.Minute

// Get implements autocert.Cache.
func (c *autocertCache) Get(ctx context.Context, key string) ([]byte, error) {
	data, fresh, err := c.load(ctx, key)
	if fresh || err != nil || !isName(key) {
		return data, err
	}
	if err := c.lock(ctx, key); err != nil {
		return nil, err
	}

	data, fresh, err = c.load(ctx, key)
	if fresh {
		c.release(key)
	}
	if err == nil && data == nil {
		err = autocert.ErrCacheMiss
	}

	return data, err
}

// lock keeps a lock that this process has already.
func (c *autocertCache) lock(ctx context.Context, key string) error {
	c.mu.Lock()
	_, ours := c.held[key]
	c.mu.Unlock()
	if ours {
		return nil
	}
	if err := c.store.Lock(ctx, lockOf(key)); err != nil {
		return err
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	c.held[key] = time.AfterFunc(longest, func() { c.release(key) })
	return nil
}

// load reports besides whether a certificate is far from its end. One that cannot be used is as if it were not there.
func (c *autocertCache) load(ctx context.Context, key string) (data []byte, fresh bool, err error) {
	data, err = c.store.Load(ctx, c.prefix+key)
	if errors.Is(err, fs.ErrNotExist) {
		if isName(key) {
			// Get reports the miss, once it holds the lock.
			return nil, false, nil
		}
		return nil, false, autocert.ErrCacheMiss
	}

	if err != nil || !isName(key) {
		return data, false, err
	}

	pair, bad := pemfile.Pair("", data, "", data)
	if bad != nil {
		return nil, false, nil
	}
	lifetime := pair.Leaf.NotAfter.Sub(pair.Leaf.NotBefore)
	// autocert renews at a third, with a tenth of that as jitter.
	return data, time.Until(pair.Leaf.NotAfter) > lifetime*11/30, nil
}

// isName tells a certificate's key from those of accounts and tokens.
func isName(key string) bool { return !strings.Contains(key, "+") }

// Put implements autocert.Cache.
func (c *autocertCache) Put(ctx context.Context, key string, data []byte) error {
	if isName(key) {
		defer c.release(key)
	}
	return c.store.Store(ctx, c.prefix+key, data)
}

// Delete implements autocert.Cache.
func (c *autocertCache) Delete(ctx context.Context, key string) error {
	return c.store.Delete(ctx, c.prefix+key)
}

func (c *autocertCache) release(key string) {
	c.mu.Lock()
	timer, ours := c.held[key]
	delete(c.held, key)
	c.mu.Unlock()
	if !ours {
		return
	}
	timer.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	// A lock that was lost has been reported by its storage.
	_ = c.store.Unlock(ctx, lockOf(key))
}
