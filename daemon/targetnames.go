package daemon

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"padlock/config"
	"padlock/discovery"
	"padlock/internal/text"
	"padlock/proxy/outbound"
)

const (
	lookupTimeout = 5 * time.Second
	lookups       = 16   // at once
	maxLookups    = 1000 // at a start, or a reload
)

// checkNames looks up the names of targets, and logs those that do not exist: misspelt ones, services that are not
// there, containers in other networks. Names that the configuration before had are not looked up again. It returns
// when the tasks end, or all have been looked up.
func (r *reloader) checkNames(cfg, before *config.Config) {
	known := targetNames(before)
	// A reload says what is new in the file: what was wrong before has been logged.
	names := slices.DeleteFunc(targetNames(cfg), func(n targetName) bool { return slices.Contains(known, n) })
	var looking sync.WaitGroup
	turns := make(chan struct{}, lookups)
	for _, n := range names[:min(len(names), maxLookups)] {
		turns <- struct{}{}
		looking.Go(func() {
			defer func() { <-turns }()
			r.checkName(r.tasks.ctx, n, cfg.Resolvers)
		})
	}
	looking.Wait()
}

func (r *reloader) checkName(ctx context.Context, n targetName, resolvers []string) {
	err := n.lookUp(ctx, resolvers)
	var lookup *net.DNSError
	if !errors.As(err, &lookup) || ctx.Err() != nil {
		return
	}

	// A resolver that does not answer says nothing about the name.
	if !lookup.IsNotFound {
		r.log.Warn("the name of a target cannot be looked up", "name", n.name, "site", n.site, "error", err, "remedy", "see to DNS; padlock tries again with each request")
		return
	}

	remedy := ""
	for _, source := range r.discovered.sources {
		if explainer, ok := source.(discovery.Explainer); ok && remedy == "" {
			asking, cancel := context.WithTimeout(ctx, lookupTimeout)
			remedy = explainer.Explain(asking, n.name)
			cancel()
		}
	}

	if remedy == "" && inContainer() {
		remedy = "correct it, or start what has the name; a container's name is known in networks that both are on (docker network connect)"
	}

	r.log.Error("the name of a target does not exist: its requests get 502", "name", n.name, "site", n.site, "remedy", cmp.Or(remedy, "correct it, or see to DNS"))
}

// targetName is a name that has to be looked up for a target.
type targetName struct {
	name, site string
	srv        bool
}

// targetNames are those of all targets, each once.
func targetNames(cfg *config.Config) (all []targetName) {
	if cfg == nil {
		return nil
	}

	seen := map[string]bool{}
	add := func(site *config.Site, u *config.Upstream) {
		for _, b := range u.To {
			name := b.Target.Address
			if !b.Target.SRV {
				name, _, _ = net.SplitHostPort(name)
			}
			if _, err := netip.ParseAddr(name); err == nil || b.Target.Network != "tcp" || config.IsLoopback(name) || seen[name] {
				continue
			}

			seen[name] = true
			all = append(all, targetName{name, site.Hosts[0], b.Target.SRV})
		}
	}

	for i := range cfg.Sites {
		site := &cfg.Sites[i]
		for u := range site.Upstreams {
			add(site, u)
		}
	}

	return all
}

func (n *targetName) lookUp(ctx context.Context, resolvers []string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	resolver := cmp.Or(outbound.Resolver(resolvers), net.DefaultResolver)
	if n.srv {
		_, _, err = resolver.LookupSRV(ctx, "", "", n.name)
	} else {
		_, err = resolver.LookupNetIP(ctx, "ip", n.name)
	}
	return err
}

// inContainer reports whether this process runs in a container of Docker, Podman or Kubernetes.
func inContainer() bool {
	return containerEngine() != "" || os.Getenv("KUBERNETES_SERVICE_HOST") != ""
}

// containerEngine is the command of the engine whose container this process runs in; "": none.
func containerEngine() string {
	for file, engine := range map[string]string{"/.dockerenv": "docker", "/run/.containerenv": "podman"} {
		if _, err := os.Stat(file); err == nil {
			return engine
		}
	}
	return ""
}

const resolveWithin = 5 * time.Second

// warnUnresolved says which local names lead nowhere, and what makes them lead here.
func warnUnresolved(ctx context.Context, cfg *config.Config, log *slog.Logger) {
	var names []string
	for _, site := range cfg.Sites {
		for _, host := range site.Hosts {
			if config.IsLocal(host) && !config.IsLoopback(host) && net.ParseIP(host) == nil && !strings.Contains(host, "*") {
				names = append(names, host)
			}
		}
	}

	if len(names) == 0 {
		return
	}

	ctx, cancel := context.WithTimeout(ctx, resolveWithin)
	defer cancel()
	names = slices.DeleteFunc(names, func(name string) bool {
		_, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
		return err == nil
	})
	// When time is up, the names that are left have not been asked for, and may well lead somewhere.
	if len(names) > 0 && ctx.Err() == nil {
		log.Warn("this machine finds no address for "+text.Summary(names), "remedy", "padlock hosts add "+strings.Join(names, " "))
	}
}
