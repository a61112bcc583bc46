package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"

	"padlock/certs"
	"padlock/certs/acme"
	"padlock/certs/localca"
	"padlock/certs/storage"
	"padlock/config"
	"padlock/console"
	"padlock/proxy"
)

// keeper is all that has certificates, and what keeps them fresh. Start runs it, and Close ends it.
type keeper struct {
	cfg     *config.Config
	log     *slog.Logger
	local   *localca.CA
	files   *certs.Files
	names   []string // managed
	store   storage.Store
	client  certs.Client // nil when nothing is managed
	manager *certs.Manager
	source  *certs.Source

	running sync.WaitGroup
	stop    context.CancelFunc
}

// newKeeper reads what this machine has, and finds what a configuration needs besides. It reaches no network.
func newKeeper(cfg *config.Config, log *slog.Logger) (*keeper, error) {
	k := &keeper{cfg: cfg, log: log}
	var err error
	if k.local, err = localca.Open(cfg.StateDirectory(), localca.Options{Organization: cfg.Organization}); err != nil {
		return nil, err
	}
	if k.files, err = certs.NewFiles(cfg.Certificates.Files, log); err != nil {
		return nil, hinted{err, "correct the files, or leave them out: padlock gets certificates by itself"}
	}
	listed := certs.New(certs.Options{Files: k.files})
	for i, site := range cfg.Sites {
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
	c := &k.cfg.Certificates
	managed := len(k.names) > 0 || c.OnDemand != nil
	if err := k.openStore(ctx); err != nil {
		if managed || storage.IsRemote(k.cfg.Storage) {
			return err
		}
		k.log.Warn("the storage cannot be used; the local CA does without", "error", err)
	}
	if k.store != nil {
		k.files.AddImported(ctx, k.store)
		listed := certs.New(certs.Options{Files: k.files})
		k.names = slices.DeleteFunc(k.names, listed.Listed)
		managed = len(k.names) > 0 || c.OnDemand != nil
	}
	if managed {
		if err := k.openClient(address(http), address(https)); err != nil {
			return err
		}
		adviser := acme.NewAdviser(*c, address(http), address(https))
		k.manager = certs.NewManager(k.client, certs.ManagerOptions{Names: k.names, OnDemand: c.OnDemand, Advise: adviser.Advise, Log: k.log})
		k.warnEphemeral()
	}
	k.source = certs.New(certs.Options{Files: k.files, Manager: k.manager, Local: k.local, Serves: serves(k.cfg)})
	return nil
}

// proxy is a server with these certificates.
func (k *keeper) proxy(ctx context.Context, http, https []net.Listener, deps proxy.Dependencies) (*proxy.Server, error) {
	if err := k.open(ctx, http, https); err != nil {
		return nil, err
	}
	deps.Certificates = k.source
	if k.client != nil {
		deps.Challenges = k.client
	}
	return proxy.New(k.cfg, deps)
}

func (k *keeper) openStore(ctx context.Context) (err error) {
	o := storage.Options{Log: k.log}
	if k.cfg.StorageKey != "" {
		if o.Key, err = storage.ParseKey(k.cfg.StorageKey); err != nil {
			return hinted{fmt.Errorf("storage_key: %w", err), "openssl rand -base64 32 makes one"}
		}
	}
	if k.store, err = storage.Open(ctx, k.cfg.Storage, o); err != nil {
		return hinted{err, "choose another --storage, or mend this one"}
	}
	return nil
}

func (k *keeper) openClient(http, https string) (err error) {
	o := acme.Options{Config: k.cfg.Certificates, Store: k.store, Log: k.log, HTTP: http, HTTPS: https}
	if k.cfg.Certificates.Client == "autocert" {
		k.client, err = acme.NewAutocert(o)
	} else {
		k.client, err = acme.New(o)
	}
	return err
}

func address(listeners []net.Listener) string {
	if len(listeners) == 0 {
		return ""
	}
	return listeners[0].Addr().String()
}

// start keeps everything fresh until Close; tickets receives the keys of session tickets.
func (k *keeper) start(ctx context.Context, tickets func([][32]byte)) {
	ctx, k.stop = context.WithCancel(context.WithoutCancel(ctx)) // handshakes go on while open requests end
	k.running.Go(func() { k.files.Watch(ctx) })
	if k.manager != nil {
		k.running.Go(func() { k.manager.Run(ctx) })
	}
	if k.store != nil {
		k.running.Go(func() { certs.NewTickets(k.store, tickets, k.log).Run(ctx) })
	}
}

// list is nil when nothing is managed.
func (k *keeper) list() console.Certificates {
	if k.manager == nil {
		return nil
	}
	return k.manager
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
	hosts := map[string]bool{}
	for _, site := range cfg.Sites {
		for _, host := range site.Hosts {
			hosts[host] = true
		}
	}
	return func(name string) bool {
		_, parent, _ := strings.Cut(name, ".")
		return hosts["*"] || hosts[name] || hosts["*."+parent]
	}
}

// warnEphemeral warns of a storage that every new container would begin without, and so run into the CA's limits.
func (k *keeper) warnEphemeral() {
	if !storage.IsRemote(k.cfg.Storage) && ephemeral(k.cfg.Storage) {
		k.log.Warn("the storage ends with this container: every new one would order its certificates again, which CAs limit",
			"storage", k.cfg.Storage, "remedy", "mount a volume there, or use Redis or PostgreSQL (storage)")
	}
}

// issuers names them in the order in which they are tried.
func issuers(cfg *config.Config) string {
	var names []string
	for _, issuer := range cfg.Certificates.Issuers {
		name := issuer.String()
		if cfg.Certificates.Staging && issuer.Directory == "" {
			name += " (test CA: browsers do not trust it)"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", then ")
}

// summary is a list that stays short.
func summary(names []string) string {
	if len(names) > 3 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:3], ", "), len(names)-3)
	}
	return strings.Join(names, ", ")
}
