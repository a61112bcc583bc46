package daemon

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"padlock/certs"
	"padlock/certs/acme"
	"padlock/certs/storage"
	"padlock/config"
	"padlock/console"
)

// certificateService has the certificates that are served, and keeps them fresh: those of CAs, those of files and
// those of the local CA. open, run, stop and close are called in this order, each once at most; prepare only between
// run and stop.
type certificateService struct {
	log        *slog.Logger
	current    atomic.Pointer[snapshot]
	store      storage.Store                // nil: it cannot be used, and the local CA does without
	client     certs.Client                 // nil: nothing has been managed yet
	challenges atomic.Pointer[certs.Client] // the same, for handshakes and requests of a CA
	manager    *certs.Manager               // nil with client
	addresses  [2]string                    // of HTTP and HTTPS, where the CA comes to
	// Whether a client should be shown another certificate of the local CA than before; nil: none.
	renewLeaf func(net.Addr) bool

	sticky sharedSecrets // which the key of sticky cookies is still to be given to; nil: none

	running      sync.WaitGroup
	ctx          context.Context // of what runs
	cancel       context.CancelFunc
	unwatchFiles context.CancelFunc
}

// sharedSecrets take what nodes share besides certificates.
type sharedSecrets interface {
	SetTicketKeys(keys [][32]byte) // of session tickets
	SetStickyKey(key [32]byte)     // of sticky cookies
}

// newCertificateService serves nothing before it is opened.
func newCertificateService(first *snapshot, log *slog.Logger) *certificateService {
	c := &certificateService{log: log}
	c.current.Store(first)
	return c
}

// GetCertificate implements proxy.CertificateSource.
func (c *certificateService) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	source := c.current.Load().source
	// Browsers remember an exception for a certificate. A new leaf makes them judge the root again once it is
	// trusted.
	if c.renewLeaf != nil && c.renewLeaf(hello.Conn.RemoteAddr()) {
		source.Forget(hello)
	}
	return source.GetCertificate(hello)
}

// Private implements proxy.PrivateSource.
func (c *certificateService) Private(name string, to net.Addr) bool {
	return c.current.Load().source.Private(name, to)
}

// AnswerHTTP implements proxy.Challenges.
func (c *certificateService) AnswerHTTP(w http.ResponseWriter, r *http.Request) bool {
	client := c.challenges.Load()
	return client != nil && (*client).AnswerHTTP(w, r)
}

// ChallengeCertificate implements proxy.Challenges.
func (c *certificateService) ChallengeCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if client := c.challenges.Load(); client != nil {
		return (*client).ChallengeCertificate(hello)
	}
	return nil, nil
}

// open opens the storage and makes the client, for a proxy that listens on these addresses. What it has opened is
// closed by close, also after an error.
func (c *certificateService) open(ctx context.Context, http, https []net.Listener) error {
	s := c.current.Load()
	c.addresses = [2]string{address(http), address(https)}
	// A key in the configuration has to be usable even where nothing is encrypted with it yet.
	if _, err := storageKey(s.cfg); err != nil {
		return err
	}

	var err error
	if c.store, err = OpenStore(ctx, s.cfg, c.log); err != nil {
		// The local CA works from memory. Certificates of CAs that cannot be stored would be ordered again at each
		// start.
		if s.manages() || storage.IsRemote(s.cfg.Storage) {
			return err
		}
		c.log.Warn("the storage cannot be used; the local CA does without", "error", err)
	}

	if c.store != nil {
		if err := CheckStore(ctx, s.cfg, c.store); err != nil {
			return err
		}
	}

	// Imported certificates need the storage, so names are taken from the managed ones only now.
	s.addImported(ctx, c.store, nil)
	if s.manages() {
		if err := c.openClient(s); err != nil {
			return err
		}
	}
	c.current.Store(s.published(c.manager))
	return nil
}

// openClient makes the client and the manager, which does not run yet.
func (c *certificateService) openClient(s *snapshot) (err error) {
	cfg := s.cfg.Certificates
	o := acme.Options{Config: cfg, Store: c.store, Log: c.log, HTTP: c.addresses[0], HTTPS: c.addresses[1]}
	if c.client, err = newClient(o); err != nil {
		return err
	}
	c.challenges.Store(&c.client)

	preflight := acme.NewPreflight(cfg, c.addresses[0], c.addresses[1])
	c.manager = certs.NewManager(c.client, certs.ManagerOptions{Names: s.managed, OnDemand: cfg.OnDemand, Preflight: preflight.Check, Log: c.log})
	c.warnEphemeral(s.cfg)
	return nil
}

// warnEphemeral warns of a storage that every new container would begin without, and so run into the CA's limits.
func (c *certificateService) warnEphemeral(cfg *config.Config) {
	if !storage.IsRemote(cfg.Storage) && ephemeral(cfg.Storage) {
		c.log.Warn("the storage ends with this container: every new one would order its certificates again, which CAs limit",
			"storage", cfg.Storage, "remedy", "mount a volume there, or use Redis or PostgreSQL (storage)")
	}
}

func address(listeners []net.Listener) string {
	if len(listeners) == 0 {
		return ""
	}
	return listeners[0].Addr().String()
}

// run keeps everything fresh until stop.
func (c *certificateService) run(ctx context.Context, to sharedSecrets) {
	// Handshakes continue after the context ends, while open requests are finished.
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s := c.current.Load()
	c.watchFiles(s.files)
	// A full disk at the start must not keep padlock from serving local names.
	c.storeLocalCA(s)
	if c.manager != nil {
		c.running.Go(func() { c.manager.Run(c.ctx) })
	}

	if c.store == nil {
		return
	}

	// The keys come from the storage in milliseconds. Waiting for them a moment lets the first clients resume
	// later.
	c.awaitFirst(sharedPatience, func(done func()) {
		certs.NewTickets(c.store, func(keys [][32]byte) { to.SetTicketKeys(keys); done() }, c.log).Run(c.ctx)
	})
	c.sticky = to
	c.shareSticky(s, sharedPatience)
}

// stop returns when nothing runs any more. Certificates are served on.
func (c *certificateService) stop() {
	c.cancel()
	c.running.Wait()
}

func (c *certificateService) close() {
	if c.client != nil {
		c.client.Close()
	}
	if c.store != nil {
		if err := c.store.Close(); err != nil {
			c.log.Warn("closing the storage", "error", err)
		}
	}
}

// prepare makes certificates for another configuration, which publish makes those that are served. It waits for no CA.
func (c *certificateService) prepare(ctx context.Context, cfg *config.Config) (publish func(), err error) {
	before := c.current.Load()
	next, err := c.next(before, cfg)
	if err == nil {
		err = next.checkCoverage()
	}
	if err != nil {
		return nil, err
	}
	// The storage may be away: what was imported before then stays in use.
	next.addImported(ctx, c.store, before.files)
	return func() { c.publish(before, next) }, nil
}

// next is for the local CA that is in memory, if it is nowhere else.
func (c *certificateService) next(before *snapshot, cfg *config.Config) (*snapshot, error) {
	if unstored, _ := before.local.Unstored(); unstored {
		return storedSnapshot(cfg, before.local, before.files, c.log)
	}
	return loadSnapshot(cfg, before.files, c.log)
}

func (c *certificateService) publish(before, next *snapshot) {
	// OCSP responses of files that stayed are kept, or must-staple certificates would be served without one for a
	// while.
	next.files.TakeStaples(before.files)
	if next.local != before.local {
		c.storeLocalCA(next)
	}

	switch {
	case c.manager != nil:
		c.manager.SetNames(next.managed)
	// The first managed name may come with a reload, for example of a container.
	case next.manages() && c.store != nil:
		if err := c.openClient(next); err != nil {
			c.log.Error("no certificates can be got from CAs", "error", err)
			break
		}
		c.running.Go(func() { c.manager.Run(c.ctx) })
	}

	c.current.Store(next.published(c.manager))
	c.shareSticky(next, 0)
	// The new snapshot is published before the old files are left: a change in between is seen by the new watch.
	c.unwatchFiles()
	c.watchFiles(next.files)
}

const (
	storeLocalEvery = 5 * time.Second // between attempts to store the local CA
	storeLocalWarn  = time.Minute
)

// storeLocalCA stores the local CA as soon as somebody has got a certificate of it and the disk lets it.
func (c *certificateService) storeLocalCA(s *snapshot) {
	if unstored, _ := s.local.Unstored(); !unstored {
		return
	}
	c.running.Go(func() {
		ticker := time.NewTicker(storeLocalEvery)
		defer ticker.Stop()

		for warned := time.Now(); ; {
			select {
			case <-c.ctx.Done():
				return
			case <-ticker.C:
			}

			unstored, used := s.local.Unstored()
			if !unstored {
				return
			}
			// As long as nobody has seen the root, a new start may as well make another.
			if !used {
				continue
			}

			err := s.local.Store()
			if err == nil {
				c.log.Info("the local CA is stored now", "fingerprint", s.local.Fingerprint())
				return
			}

			if time.Since(warned) > storeLocalWarn {
				warned = time.Now()
				s.warnUnstored(c.log, err)
			}
		}
	})
}

// sharedPatience is how long the start waits for each kind of key that nodes share: without those of tickets, the
// first clients make full handshakes, and the tickets that they get are good for nothing; without that of sticky
// cookies they do not find their targets again.
const sharedPatience = time.Second

// awaitFirst runs a function in the background, and returns when that has called done, or after some time.
func (c *certificateService) awaitFirst(patience time.Duration, run func(done func())) {
	first := make(chan struct{})
	c.running.Go(func() { run(sync.OnceFunc(func() { close(first) })) })
	select {
	case <-first:
	case <-time.After(patience):
	}
}

// shareSticky begins when the first site needs it.
func (c *certificateService) shareSticky(s *snapshot, patience time.Duration) {
	to := c.sticky
	if to == nil || !slices.ContainsFunc(s.cfg.Sites, givesCookies) {
		return
	}
	c.sticky = nil
	c.awaitFirst(patience, func(done func()) {
		certs.KeepSharedKey(c.ctx, c.store, "sticky", func(key [32]byte) { to.SetStickyKey(key); done() }, c.log)
	})
}

// givesCookies reports whether padlock signs cookies for a site.
func givesCookies(site config.Site) bool {
	return slices.ContainsFunc(site.Routes, func(r config.Route) bool { return r.Upstream.Sticky != "" || r.Percent > 0 })
}

func (c *certificateService) watchFiles(files *certs.Files) {
	ctx, cancel := context.WithCancel(c.ctx)
	c.unwatchFiles = cancel
	c.running.Go(func() { files.Watch(ctx) })
}

// config is what is served.
func (c *certificateService) config() *config.Config { return c.current.Load().cfg }

// status lists what is known of every certificate: those of CAs, those of files, and the local CA where it is used.
func (c *certificateService) status() []console.Certificate { return c.current.Load().source.Status() }

// unusable are files of certificates that cannot be used as they are now, each once.
func (c *certificateService) unusable() (names []string) {
	for _, u := range c.current.Load().source.Unusable() {
		if name := strings.ToValidUTF8(u.File, "\uFFFD"); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
