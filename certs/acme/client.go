// Package acme gets certificates from CAs (RFC 8555), with certmagic or with autocert as the client, and keeps them
// in a storage.
//
//	client, err := acme.New(acme.Options{Config: cfg.Certificates, Store: store, Log: log})
//	bundle, err := client.Ensure(ctx, "app.example.com", nil)   // loads it, or orders it
//	bundle, err = client.Ensure(ctx, "app.example.com", bundle)   // at bundle.Due: renews it if it is time
//
// Nothing here runs by itself: whoever calls Ensure decides when, and tries again after an error.
package acme

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"

	"padlock/certs/acme/dns"
	"padlock/certs/storage"
	"padlock/config"
	"padlock/handshake"
	"padlock/internal/pemfile"
)

// Options of New. Config must have been validated.
type Options struct {
	Config config.Certificates
	Store  storage.Store
	Log    *slog.Logger
	// Where padlock listens for the CA's validations, as host:port. An empty HTTP means that http-01 cannot be answered.
	// Where nothing listens, as on the command line, certmagic does while an order lasts.
	HTTP, HTTPS string
	Solver      acmez.Solver // of dns-01; nil: the one that Config names

	// OCSPSoonest is the shortest time between two questions to an OCSP responder about one certificate; 0 means a minute.
	OCSPSoonest time.Duration
}

// Bundle is the certificates of one name, one for each key type. It is never changed once returned.
type Bundle struct {
	Pairs []*Pair
	Due   time.Time // when Ensure should look at them again
}

// Pair is a certificate with its key, ready to be served.
type Pair struct {
	*tls.Certificate
	Kind    string // key type
	Issuer  string // its place in the storage
	Renewal time.Time
	Revoked bool // says the CA's OCSP responder

	ari     acme.RenewalInfo
	ca      string // directory that issued it
	ariNext time.Time
	ocsp    stapling

	generation string // of the storage, when it was found there; "": unknown
}

// concurrent orders of one process. Each has clients of its own, so that what they log can be told apart.
const concurrent = 8

// Client orders and renews with certmagic. It is safe for use from many goroutines.
type Client struct {
	o     Options
	log   *slog.Logger
	roots map[string]*x509.CertPool // by directory
	cache *certmagic.Cache          // certmagic wants one; what is served is not kept in it
	slots chan *slot
	front *certmagic.Config // answers challenges
	later later

	lineage generation
}

// slot has all that one order at a time needs.
type slot struct {
	client  *Client
	order   *order
	configs map[variant]*certmagic.Config
	issuers map[variant][]certmagic.Issuer // all that are configured; an order may leave some out
}

// variant of a certificate: what its order depends on.
type variant struct {
	kind    string
	address bool
}

// New reads the roots of private CAs, and makes the solver of dns-01 from its environment.
func New(o Options) (*Client, error) {
	o.OCSPSoonest = cmp.Or(o.OCSPSoonest, time.Minute)
	c := &Client{o: o, log: o.Log, roots: map[string]*x509.CertPool{}, slots: make(chan *slot, concurrent)}
	for _, issuer := range o.Config.Issuers {
		if issuer.Root == "" {
			continue
		}
		pool, err := pemfile.LoadPool(issuer.Root)
		if err != nil {
			return nil, fmt.Errorf("reading the root of %s: %w", &issuer, err)
		}
		c.roots[issuer.URL(o.Config.Staging)] = pool
	}

	if o.Config.DNS.Provider != "" && o.Solver == nil {
		solver, err := newDNSSolver(o.Config.DNS, o.Store, o.Log)
		if err != nil {
			return nil, err
		}
		c.o.Solver = solver
	}

	// certmagic insists on a cache. It stays empty: padlock serves certificates itself.
	c.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return c.front, nil },
		// Counts as the time between two looks at a certificate, which bounds how short it may live.
		RenewCheckInterval: time.Second,
		Logger:             zap.NewNop(),
	})

	for range concurrent {
		c.slots <- c.newSlot()
	}
	// One more configuration, of no order, answers challenges that other nodes have offered.
	c.front = c.newConfig(&slot{client: c}, variant{kind: o.Config.KeyTypes[0]})
	// Other nodes may listen on port 80 while the CA follows a redirect to HTTPS here, so every issuer answers.
	for _, issuer := range c.front.Issuers {
		issuer.(*certmagic.ACMEIssuer).DisableHTTPChallenge = !slices.Contains(o.Config.Challenges, "http-01")
	}

	return c, nil
}

// Close ends what certmagic runs.
func (c *Client) Close() { c.cache.Stop() }

func (c *Client) newSlot() *slot {
	s := &slot{client: c, configs: map[variant]*certmagic.Config{}, issuers: map[variant][]certmagic.Issuer{}}
	for _, kind := range c.o.Config.KeyTypes {
		for _, address := range []bool{false, true} {
			v := variant{kind, address}
			s.configs[v] = c.newConfig(s, v)
			s.issuers[v] = s.configs[v].Issuers
		}
	}
	return s
}

func (c *Client) newConfig(s *slot, v variant) *certmagic.Config {
	storage := c.atomicStore(v.kind)
	storage.forget = s.forget
	cfg := certmagic.New(c.cache, certmagic.Config{
		Storage:            storage,
		KeySource:          certmagic.StandardKeyGenerator{KeyType: certmagic.KeyType(v.kind)},
		RenewalWindowRatio: c.o.Config.RenewRatio,
		// Padlock staples itself, off the path of orders.
		OCSP:    certmagic.OCSPConfig{DisableStapling: true},
		OnEvent: s.event,
		// Empty, as nil would mean certmagic's own issuers.
		Issuers: []certmagic.Issuer{},
		Logger:  zap.New(core{s}),
	})

	for _, issuer := range c.o.Config.Issuers {
		cfg.Issuers = append(cfg.Issuers, c.newIssuer(cfg, issuer, v))
	}
	return cfg
}

// noEmail is an address that certmagic takes for none, and does not ask the terminal about.
const noEmail = " "

func (c *Client) newIssuer(cfg *certmagic.Config, issuer config.Issuer, v variant) *certmagic.ACMEIssuer {
	directory := issuer.URL(c.o.Config.Staging)
	template := certmagic.ACMEIssuer{
		CA: directory, Email: c.o.Config.Email, Agreed: true, Profile: issuer.Profile,
		DisableHTTPChallenge:    !slices.Contains(c.o.Config.Challenges, "http-01") || c.o.HTTP == "",
		DisableTLSALPNChallenge: !slices.Contains(c.o.Config.Challenges, "tls-alpn-01"),
		DNS01Solver:             c.o.Solver,
		TrustedRoots:            c.roots[directory],
		CertObtainTimeout:       3 * time.Minute,
		HTTPProxy:               c.proxy,
		Logger:                  cfg.Logger,
	}
	// Without an address, certmagic asks for one on the terminal.
	if template.Email == "" {
		template.Email = noEmail
	}

	if v.address && issuer.Profile == "" && (issuer.Name == "letsencrypt" || issuer.Name == "letsencrypt-staging") {
		// The only profile in which Let's Encrypt signs for IP addresses.
		template.Profile = "shortlived"
	}
	if issuer.EAB.KID != "" {
		template.ExternalAccount = &acme.EAB{KeyID: issuer.EAB.KID, MACKey: issuer.EAB.HMACKey}
	}

	if issuer.PreferredChain != "" {
		template.PreferredChains.RootCommonName = []string{issuer.PreferredChain}
	}

	// Where padlock listens already, certmagic finds the port in use and leaves answering to it.
	template.ListenHost, template.AltTLSALPNPort = hostPort(c.o.HTTPS)
	if _, port := hostPort(c.o.HTTP); port > 0 {
		template.AltHTTPPort = port
	}

	return certmagic.NewACMEIssuer(cfg, template)
}

// Ensure returns what should be served for a name: what is held, or what the storage has meanwhile, or what a CA has
// issued. After an error, what it returns besides is still to be served, if it is not nil.
func (c *Client) Ensure(ctx context.Context, name string, bundle *Bundle) (*Bundle, error) {
	next := &Bundle{Due: time.Now().Add(lookAgain)}
	var errs []error
	for i, kind := range c.o.Config.KeyTypes {
		var have *Pair
		if bundle != nil {
			have = bundle.pair(kind)
		}
		pair, err := c.ensure(ctx, name, kind, have)
		if err != nil {
			errs = append(errs, err)
		}

		if pair == nil {
			// Without the first key type there is nothing for clients that support only that. The others are
			// optional.
			if i == 0 && len(errs) == 0 {
				errs = append(errs, fmt.Errorf("certificate for %s: %w", name, fs.ErrNotExist))
			}
			continue
		}

		next.Pairs = append(next.Pairs, pair)
		// The earliest event decides when to look again: renewal, renewal information, or the OCSP response.
		next.Due = earliest(next.Due, pair.Renewal, pair.ariNext, pair.ocsp.next)
	}

	if len(next.Pairs) == 0 {
		next = nil
	}
	return next, errors.Join(errs...)
}

// Load returns what the storage has for a name, fs.ErrNotExist if that is nothing. It orders nothing.
func (c *Client) Load(ctx context.Context, name string) (*Bundle, error) {
	bundle := &Bundle{Due: time.Now().Add(lookAgain)}
	for _, kind := range c.o.Config.KeyTypes {
		pair, err := c.load(ctx, name, kind, nil)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}

		bundle.Pairs = append(bundle.Pairs, pair)
		bundle.Due = earliest(bundle.Due, pair.Renewal)
	}

	if len(bundle.Pairs) == 0 {
		return nil, &fs.PathError{Op: "loading", Path: name, Err: fs.ErrNotExist}
	}
	return bundle, nil
}

// lookAgain bounds how long a certificate that another node has renewed goes unnoticed.
const lookAgain = time.Minute

func (h *Bundle) pair(kind string) *Pair {
	for _, p := range h.Pairs {
		if p.Kind == kind {
			return p
		}
	}
	return nil
}

func earliest(times ...time.Time) time.Time {
	first := times[0]
	for _, t := range times {
		if !t.IsZero() && t.Before(first) {
			first = t
		}
	}
	return first
}

func (c *Client) ensure(ctx context.Context, name, kind string, have *Pair) (*Pair, error) {
	pair, err := c.load(ctx, name, kind, have)
	if errors.Is(err, fs.ErrNotExist) {
		// The storage may have lost what is still served. Putting it back costs the CA nothing.
		back, failed := c.giveBack(ctx, name, kind, have)
		if failed != nil {
			return have, failed
		}
		if back {
			pair, err = c.load(ctx, name, kind, have)
		}
	}

	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = c.order(ctx, name, kind, nil)
	case err != nil:
		// The storage cannot be reached: what is held is served on.
		return have, err
	default:
		pair = c.refresh(ctx, name, pair)
		if !pair.Revoked && time.Now().Before(pair.Renewal) {
			return pair, nil
		}
		err = c.order(ctx, name, kind, pair)
	}

	if err != nil {
		if pair == nil {
			pair = have
		}
		return pair, err
	}

	// Loaded from the storage rather than taken from the order, as another node may have been the one that ordered.
	fresh, err := c.load(ctx, name, kind, pair)
	if err != nil {
		return pair, err
	}
	fresh = c.refresh(ctx, name, fresh)
	return fresh, c.current(name, fresh)
}

// skew is how far CAs and their clients may be apart, as CAs date certificates back for them.
const skew = 5 * time.Minute

// current refuses to go on ordering when a new certificate is no better than the one before. It is served all the same.
func (c *Client) current(name string, p *Pair) error {
	now := time.Now()
	// Ordering again at once would fetch the next one that is revoked, and use the CA's limits up.
	if p.Revoked {
		return &Error{
			Name: name, Refused: true, Cause: "the CA's OCSP responder says that a new certificate is revoked",
			Remedy: "ask the CA, or choose another (certificates.issuers); the certificate is served meanwhile",
		}
	}

	if selected := p.ari.SelectedTime; now.After(p.Renewal) && !selected.IsZero() && now.After(selected) {
		return &Error{
			Name: name, Refused: true, Cause: "the CA wants a certificate that it has just issued to be renewed at once (ARI)",
			Remedy: "ask the CA, or choose another (certificates.issuers); the certificate is served meanwhile",
		}
	}

	if now.Before(p.Renewal) && !p.Leaf.NotBefore.After(now.Add(skew)) {
		return nil
	}
	return &Error{
		Name: name, Refused: true,
		Cause: fmt.Sprintf("a new certificate is valid from %s to %s, and this machine's clock says %s",
			p.Leaf.NotBefore.UTC().Format(time.RFC3339), p.Leaf.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339)),
		Remedy: "set this machine's clock (timedatectl, NTP); the certificate is served meanwhile",
	}
}

// order gets a certificate from the first issuer that gives one, under the lock of its name: of several nodes one
// orders, and the others find what it got.
func (c *Client) order(ctx context.Context, name, kind string, replace *Pair) error {
	var s *slot
	select {
	// certmagic's log is the only source of an order's stages, so each order has a configuration to itself.
	case s = <-c.slots:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { c.slots <- s }()
	if err := c.mendAccounts(ctx); err != nil {
		return fmt.Errorf("certificate for %s: %w", name, err)
	}

	replaces := replace != nil
	for attempt := 0; ; attempt++ {
		err := c.try(ctx, s, name, kind, replace, replaces)
		switch o := s.order; {
		// Both remedies below are tried once each. A third failure has another reason.
		case err == nil || ctx.Err() != nil || attempt == 2:
			return Translate(name, err)
		case o.forgotten:
			// An account that the CA has forgotten is registered again once; the order is then repeated with it.
		case o.refused:
			// RFC 9773 section 5: a CA may refuse the replacement, for example where another account ordered the
			// certificate that is replaced.
			replaces = false
		default:
			return err
		}
	}
}

// try asks the issuers once.
func (c *Client) try(ctx context.Context, s *slot, name, kind string, replace *Pair, replaces bool) error {
	s.order = &order{log: c.log, name: name, begin: time.Now(), replace: replace, store: c.atomicStore(kind), later: &c.later}
	cfg, err := c.prepare(s, variant{kind, certmagic.SubjectIsIP(name)}, replaces)
	if err != nil {
		return err
	}

	ctx, s.order.abandon = context.WithCancel(ctx)
	defer s.order.abandon()

	if replace == nil {
		err = cfg.ObtainCertSync(ctx, name)
	} else {
		// Whether it is time has been decided; event sees to it that nobody was faster.
		err = cfg.RenewCertSync(ctx, name, true)
	}

	if refused := cfg.Storage.(*atomicStore).whyRefused(); refused != nil {
		// certmagic repeats only the text of the error; this one can still be matched with errors.As.
		err = refused
	}
	if errors.Is(err, errAlreadyReplaced) {
		err = nil
	}

	return s.order.end(err)
}

// prepare chooses the issuers of an order: all that have not asked to be left alone.
func (c *Client) prepare(s *slot, v variant, replaces bool) (*certmagic.Config, error) {
	o, cfg := s.order, s.configs[v]
	cfg.Issuers = []certmagic.Issuer{}
	var soonest time.Time
	for i, issuer := range s.issuers[v] {
		// A CA that has asked to be left alone is skipped, while the next issuer is asked at once.
		if until := c.later.of(left(issuer.IssuerKey(), o.name)); !until.IsZero() {
			if soonest.IsZero() || until.Before(soonest) {
				soonest = until
			}
			continue
		}

		// certmagic sends no replaces (RFC 9773 section 5) to what it takes for a test CA. Another CA than the one that has
		// issued the certificate would refuse it.
		one := issuer.(*certmagic.ACMEIssuer)
		one.TestCA = one.CA
		if replaces && one.IssuerKey() == o.replace.Issuer {
			one.TestCA, o.replaces = "", one.IssuerKey()
		}

		cfg.Issuers = append(cfg.Issuers, issuer)
		o.issuers = append(o.issuers, asked{issuer.IssuerKey(), c.o.Config.Issuers[i].String()})
	}

	if len(cfg.Issuers) == 0 {
		return nil, &Error{Name: o.name, Refused: true, Wait: soonest, Cause: "the CA has asked to be left alone (Retry-After)", Remedy: "padlock waits"}
	}

	return cfg, nil
}

// Renew replaces what the storage holds for a name, whether it is time or not.
func (c *Client) Renew(ctx context.Context, name string) error {
	for _, kind := range c.o.Config.KeyTypes {
		pair, err := c.load(ctx, name, kind, nil)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := c.order(ctx, name, kind, pair); err != nil {
			return err
		}
	}
	return nil
}

// Revoke asks the CAs to revoke what the storage holds for a name, for one of the reasons of RFC 5280 section 5.3.1,
// and quarantines it.
func (c *Client) Revoke(ctx context.Context, name string, reason int) error {
	found := false
	for _, kind := range c.o.Config.KeyTypes {
		v := c.atomicStore(kind)
		cfg := c.newConfig(&slot{client: c}, variant{kind, certmagic.SubjectIsIP(name)})
		for _, issuer := range cfg.Issuers {
			resource, err := v.resource(ctx, issuer.IssuerKey(), name)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}

			found = true
			// PreCheck settles the account that is used, which the order needs.
			err = issuer.(certmagic.PreChecker).PreCheck(ctx, []string{name}, false)
			if err == nil {
				err = issuer.(certmagic.Revoker).Revoke(ctx, resource, reason)
			}
			if err != nil {
				return fmt.Errorf("revoking the certificate of %s: %s", name, handshake.Escape(err.Error()))
			}

			if err := v.quarantine(ctx, issuer.IssuerKey(), name, "revoked"); err != nil {
				return err
			}
		}
	}

	if !found {
		return fmt.Errorf("certificate for %s: %w", name, fs.ErrNotExist)
	}
	return nil
}

// AnswerHTTP answers a CA's request of http-01 for any node's order, and reports whether it was one.
func (c *Client) AnswerHTTP(w http.ResponseWriter, r *http.Request) bool {
	// Any issuer will do: all of them put their challenges in the same place.
	issuer := c.front.Issuers[0].(*certmagic.ACMEIssuer)
	if !issuer.HandleHTTPChallenge(w, r) {
		return false
	}
	validated(c.log, "http-01", r.Host, r.RemoteAddr)
	return true
}

// ChallengeCertificate answers a CA's handshake of tls-alpn-01 (RFC 8737) for any node's order.
func (c *Client) ChallengeCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	certificate, err := c.front.GetCertificate(hello)
	if err == nil {
		validated(c.log, "tls-alpn-01", hello.ServerName, hello.Conn.RemoteAddr().String())
	}
	return certificate, err
}

func hostPort(address string) (string, int) {
	host, port, err := splitHostPort(address)
	if err != nil {
		return "", 0
	}
	n, _ := strconv.Atoi(port)
	return host, n
}

func newDNSSolver(d config.DNS, store storage.Store, log *slog.Logger) (acmez.Solver, error) {
	return dns.New(dns.Options{Provider: d.Provider, Resolvers: d.Resolvers, Timeout: d.Timeout, Locker: store, Log: log})
}
