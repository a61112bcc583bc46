package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
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
	"padlock/certs/localca"
	"padlock/certs/storage"
	"padlock/config"
	"padlock/console"
	"padlock/internal/hint"
	"padlock/internal/regular"
	"padlock/proxy"
)

// keeper is all that has certificates, and what keeps them fresh. Start runs it, and Close ends it.
type keeper struct {
	cfg       *config.Config
	log       *slog.Logger
	local     *localca.CA
	files     *certs.Files
	names     []string // managed
	store     storage.Store
	client    certs.Client // nil when nothing has been managed yet
	answering atomic.Pointer[certs.Client]
	manager   *certs.Manager
	source    atomic.Pointer[certs.Source]
	known     atomic.Pointer[known] // of the same
	addresses [2]string             // HTTP and HTTPS, as the client was told
	waits     func(net.Addr) bool   // whether a client should be shown another certificate of the local CA than before; nil: none

	shared sharedSecrets // to whom the key of sticky cookies is still to be given; nil: nobody

	running  sync.WaitGroup
	ctx      context.Context // of what runs
	stop     context.CancelFunc
	stopFile context.CancelFunc // ends the watch of files
}

// GetCertificate implements proxy.CertificateSource.
func (k *keeper) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	source := k.source.Load()
	if k.waits != nil && k.waits(hello.Conn.RemoteAddr()) {
		source.Forget(hello)
	}
	return source.GetCertificate(hello)
}

// Private implements proxy.PrivateSource.
func (k *keeper) Private(name string, to net.Addr) bool { return k.source.Load().Private(name, to) }

// AnswerHTTP implements proxy.Challenges.
func (k *keeper) AnswerHTTP(w http.ResponseWriter, r *http.Request) bool {
	client := k.answering.Load()
	return client != nil && (*client).AnswerHTTP(w, r)
}

// ChallengeCertificate implements proxy.Challenges.
func (k *keeper) ChallengeCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if client := k.answering.Load(); client != nil {
		return (*client).ChallengeCertificate(hello)
	}
	return nil, nil
}

// newKeeper reads what this machine has, and finds what a configuration needs besides. It reaches no network.
func newKeeper(cfg *config.Config, log *slog.Logger) (*keeper, error) {
	return newKeeperAfter(nil, cfg, log)
}

// newKeeperAfter is newKeeper where the files before may be served on.
func newKeeperAfter(before *certs.Files, cfg *config.Config, log *slog.Logger) (*keeper, error) {
	local, err := localca.Peek(cfg.StateDirectory(), localca.Options{Organization: cfg.Organization})
	if err != nil {
		return nil, forOwner(cfg, err)
	}
	if file, shared := local.Shared(); shared {
		log.Warn("padlock's group can read the key of the local CA: let nobody else be in that group", "file", file)
	}
	return newKeeperStoring(cfg, local, before, log)
}

// newKeeperStoring writes the local CA besides, where it is not stored and a site needs it. What cannot be written now is tried again by
// keepLocal.
func newKeeperStoring(cfg *config.Config, local *localca.CA, before *certs.Files, log *slog.Logger) (*keeper, error) {
	k, err := newKeeperWith(cfg, local, before, log)
	if err != nil {
		return nil, err
	}
	if !k.needsLocal() {
		if err := tryDirectory(cfg.StateDirectory()); !storage.IsRemote(cfg.Storage) && errors.Is(err, fs.ErrPermission) {
			return nil, forOwner(cfg, fmt.Errorf("the storage cannot be written to: %w", err))
		}
		return k, nil
	}
	if err := local.Store(); regular.Unwritable(err) {
		k.tellUnstored(err)
	} else if err != nil {
		return nil, forOwner(cfg, err)
	}
	return k, nil
}

// needsLocal reports whether clients get certificates of the local CA, or are asked to trust it.
func (k *keeper) needsLocal() bool {
	listed := certs.New(certs.Options{Files: k.files})
	return k.cfg.TrustPage || slices.ContainsFunc(k.cfg.Sites, func(site config.Site) bool {
		return !site.Passthrough() && slices.ContainsFunc(site.Hosts, func(host string) bool {
			return host == "*" || k.local.Permits(host) && !slices.Contains(k.names, host) && !listed.Listed(host)
		})
	})
}

func (k *keeper) tellUnstored(err error) {
	k.log.Warn("the local CA cannot be stored, and is in memory until it can; a new start would make another", "storage", k.cfg.StateDirectory(), "error", err,
		"remedy", "free some space there, or make it writable")
}

const (
	localEvery  = 5 * time.Second // between attempts to store the local CA
	localRemind = time.Minute
)

// keepLocal stores the local CA as soon as somebody has got a certificate of it and the disk lets it.
func (k *keeper) keepLocal(local *localca.CA) {
	if unstored, _ := local.Unstored(); !unstored {
		return
	}
	k.running.Go(func() {
		ticker := time.NewTicker(localEvery)
		defer ticker.Stop()
		for told := time.Now(); ; {
			select {
			case <-k.ctx.Done():
				return
			case <-ticker.C:
			}
			unstored, asked := local.Unstored()
			if !unstored {
				return
			}
			if !asked {
				continue
			}
			err := local.Store()
			if err == nil {
				k.log.Info("the local CA is stored now", "fingerprint", local.Fingerprint())
				return
			}
			if time.Since(told) > localRemind {
				told = time.Now()
				k.tellUnstored(err)
			}
		}
	})
}

func newKeeperWith(cfg *config.Config, local *localca.CA, before *certs.Files, log *slog.Logger) (*keeper, error) {
	k := &keeper{cfg: cfg, log: log, local: local}
	var err error
	if k.files, err = certs.NewFilesAfter(before, cfg.Certificates.Files, log); err != nil {
		return nil, hint.Add(err, "correct the files, or leave them out: padlock gets certificates by itself")
	}
	listed := certs.New(certs.Options{Files: k.files})
	for i, site := range cfg.Sites {
		if site.Passthrough() {
			continue
		}
		for j, host := range site.Hosts {
			if !cfg.Certificates.Managed(host) || listed.Listed(host) || !config.IsLocal(host) && k.local.Permits(host) {
				continue // padlock trust --allow chose the local CA for it
			}
			if reason := cfg.Certificates.Unobtainable(host); reason != "" {
				return nil, config.Errors{{Path: fmt.Sprintf("sites[%d].hosts[%d]", i, j), Message: reason}}
			}
			if cfg.Certificates.OnDemand == nil || !strings.HasPrefix(host, "*.") || cfg.Certificates.DNS.Provider != "" {
				k.names = append(k.names, host)
			}
		}
	}
	return k, nil
}

// open opens the storage and makes the client, for a proxy that listens on these addresses.
func (k *keeper) open(ctx context.Context, http, https []net.Listener) error {
	k.addresses = [2]string{address(http), address(https)}
	if _, err := storageKey(k.cfg); err != nil { // whoever gives one wants the storage, and nothing beside it
		return err
	}
	var err error
	if k.store, err = OpenStore(ctx, k.cfg, k.log); err != nil {
		if k.manages() || storage.IsRemote(k.cfg.Storage) {
			return err
		}
		k.log.Warn("the storage cannot be used; the local CA does without", "error", err)
	}
	if k.store != nil {
		if err := CheckStore(ctx, k.cfg, k.store); err != nil {
			return err
		}
	}
	k.leaveImported(ctx, nil)
	if k.manages() {
		if err := k.openClient(); err != nil {
			return err
		}
		k.warnEphemeral()
	}
	k.publish()
	return nil
}

// manages reports whether certificates of CAs are asked for.
func (k *keeper) manages() bool { return len(k.names) > 0 || k.cfg.Certificates.OnDemand != nil }

// leaveImported takes names that have an imported certificate away from those that are managed.
func (k *keeper) leaveImported(ctx context.Context, before *certs.Files) {
	if k.store != nil {
		k.files.AddImported(ctx, k.store, before)
		listed := certs.New(certs.Options{Files: k.files})
		k.names = slices.DeleteFunc(k.names, listed.Listed)
	}
}

func (k *keeper) publish() {
	hosts := ownHosts(k.cfg)
	source := certs.New(certs.Options{
		Files: k.files, Manager: k.manager, Local: k.local, Serves: serves(k.cfg), Names: func(host string) bool { return hosts[host] },
	})
	k.known.Store(&known{k.cfg, source, k.local.Root()})
	k.source.Store(source)
}

// proxy is a server with these certificates.
func (k *keeper) proxy(ctx context.Context, http, https []net.Listener, deps proxy.Dependencies) (*proxy.Server, error) {
	if err := k.open(ctx, http, https); err != nil {
		return nil, err
	}
	deps.Certificates, deps.Challenges = k, k
	return proxy.New(k.cfg, deps)
}

// next is newKeeper with the local CA that is in memory, if it is nowhere else.
func (k *keeper) next(cfg *config.Config) (*keeper, error) {
	if unstored, _ := k.local.Unstored(); unstored {
		return newKeeperStoring(cfg, k.local, k.files, k.log)
	}
	return newKeeperAfter(k.files, cfg, k.log)
}

// reload prepares certificates for another configuration, which apply makes those that are served. It waits for no CA.
func (k *keeper) reload(ctx context.Context, cfg *config.Config) (apply func(), err error) {
	next, err := k.next(cfg)
	if err != nil {
		return nil, err
	}
	if err := covered(cfg, next); err != nil {
		return nil, err
	}
	next.store = k.store
	next.leaveImported(ctx, k.files)
	return func() {
		next.files.TakeStaples(k.files)
		if next.local != k.local {
			k.keepLocal(next.local)
		}
		k.cfg, k.local, k.files, k.names = cfg, next.local, next.files, next.names
		switch {
		case k.manager != nil:
			k.manager.SetNames(k.names)
		case k.manages() && k.store != nil:
			if err := k.openClient(); err != nil {
				k.log.Error("no certificates can be got from CAs", "error", err)
				break
			}
			k.warnEphemeral()
			k.running.Go(func() { k.manager.Run(k.ctx) })
		}
		k.publish()
		k.shareSticky(0)
		k.stopFile()
		k.watchFiles()
	}, nil
}

func (k *keeper) openClient() (err error) {
	c := k.cfg.Certificates
	o := acme.Options{Config: c, Store: k.store, Log: k.log, HTTP: k.addresses[0], HTTPS: k.addresses[1]}
	if k.client, err = newClient(o); err != nil {
		return err
	}
	k.answering.Store(&k.client)
	adviser := acme.NewAdviser(c, k.addresses[0], k.addresses[1])
	k.manager = certs.NewManager(k.client, certs.ManagerOptions{Names: k.names, OnDemand: c.OnDemand, Advise: adviser.Advise, Log: k.log})
	return nil
}

func address(listeners []net.Listener) string {
	if len(listeners) == 0 {
		return ""
	}
	return listeners[0].Addr().String()
}

// sharedSecrets take what nodes share besides certificates.
type sharedSecrets interface {
	SetTicketKeys(keys [][32]byte) // of session tickets
	SetStickyKey(key [32]byte)     // of sticky cookies
}

// start keeps everything fresh until Close.
func (k *keeper) start(ctx context.Context, to sharedSecrets) {
	k.ctx, k.stop = context.WithCancel(context.WithoutCancel(ctx)) // handshakes go on while open requests end
	k.watchFiles()
	k.keepLocal(k.local)
	if k.manager != nil {
		k.running.Go(func() { k.manager.Run(k.ctx) })
	}
	if k.store != nil {
		k.await(sharedPatience, func(told func()) {
			certs.NewTickets(k.store, func(keys [][32]byte) { to.SetTicketKeys(keys); told() }, k.log).Run(k.ctx)
		})
		k.shared = to
		k.shareSticky(sharedPatience)
	}
}

// sharedPatience is how long the start waits for each kind of key that nodes share: without those of tickets, the first clients make full
// handshakes, and the tickets that they get are good for nothing; without that of sticky cookies they do not find their targets again.
const sharedPatience = time.Second

// await runs a function in the background, and returns when that has called told, or after some time.
func (k *keeper) await(patience time.Duration, run func(told func())) {
	first := make(chan struct{})
	k.running.Go(func() { run(sync.OnceFunc(func() { close(first) })) })
	select {
	case <-first:
	case <-time.After(patience):
	}
}

// shareSticky begins when the first site needs it.
func (k *keeper) shareSticky(patience time.Duration) {
	to := k.shared
	if to == nil || !slices.ContainsFunc(k.cfg.Sites, usesSticky) {
		return
	}
	k.shared = nil
	k.await(patience, func(told func()) {
		certs.KeepSharedKey(k.ctx, k.store, "sticky", func(key [32]byte) { to.SetStickyKey(key); told() }, k.log)
	})
}

func usesSticky(site config.Site) bool {
	return slices.ContainsFunc(site.Routes, func(r config.Route) bool { return r.Upstream.Sticky != "" })
}

func (k *keeper) watchFiles() {
	ctx, stop := context.WithCancel(k.ctx)
	files := k.files
	k.stopFile = stop
	k.running.Go(func() { files.Watch(ctx) })
}

// status lists what is known of every certificate: those of CAs, those of files, and the local CA where it is used.
func (k *keeper) status() (all []console.Certificate) {
	in := k.source.Load().Status()
	for _, s := range in {
		all = append(all, console.Certificate(s))
	}
	return all
}

// unusable are files of certificates that cannot be used as they are now, each once.
func (k *keeper) unusable() (names []string) {
	for _, u := range k.source.Load().Unusable() {
		if name := strings.ToValidUTF8(u.File, "\uFFFD"); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func (k *keeper) close() {
	if k.stop != nil {
		k.stop()
	}
	k.running.Wait()
	if k.client != nil {
		k.client.Close()
	}
	if k.store != nil {
		if err := k.store.Close(); err != nil {
			k.log.Warn("closing the storage", "error", err)
		}
	}
}

// covers reports whether there is, or will be, a certificate for a canonical name, address or *.name.
func (k *keeper) covers(pattern string) bool {
	return k.local.Permits(pattern) || slices.Contains(k.names, pattern) || certs.New(certs.Options{Files: k.files}).Listed(pattern) ||
		k.cfg.Certificates.OnDemand != nil
}

// serves reports whether a site has a canonical name.
func serves(cfg *config.Config) func(string) bool {
	hosts := ownHosts(cfg)
	return func(name string) bool {
		_, parent, _ := strings.Cut(name, ".")
		return hosts["*"] || hosts[name] || hosts["*."+parent]
	}
}

// ownHosts are the hosts and patterns of sites whose TLS is padlock's.
func ownHosts(cfg *config.Config) map[string]bool {
	hosts := map[string]bool{}
	for _, site := range cfg.Sites {
		if site.Passthrough() {
			continue
		}
		for _, host := range site.Hosts {
			hosts[host] = true
		}
	}
	return hosts
}

// warnEphemeral warns of a storage that every new container would begin without, and so run into the CA's limits.
func (k *keeper) warnEphemeral() {
	if !storage.IsRemote(k.cfg.Storage) && ephemeral(k.cfg.Storage) {
		k.log.Warn("the storage ends with this container: every new one would order its certificates again, which CAs limit",
			"storage", k.cfg.Storage, "remedy", "mount a volume there, or use Redis or PostgreSQL (storage)")
	}
}
