package main

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"padlock/certs/localca"
	"padlock/certs/storage"
	"padlock/certs/trust"
	"padlock/config"
	"padlock/daemon"
	"padlock/discovery"
	"padlock/internal/mask"
	"padlock/internal/terminal"
	"padlock/internal/text"
	"padlock/proxy"
	"padlock/proxy/outbound"
)

// announced is how many sites are named at the start; more would push what else is said off the screen.
const announced = 10

// targetPatience is how long the start waits for the targets that it names, before anybody is served. One that a firewall
// hides would hold up all sites for timeouts.connect.
const targetPatience = 500 * time.Millisecond

// options of a daemon that is this command's: it says what a person must know where they look.
func (p *program) options(otherPorts bool, file *daemon.File) daemon.Options {
	return daemon.Options{Stdout: p.stdout, Stderr: p.stderr, Version: version, OtherPorts: otherPorts, File: file, Reporter: p}
}

// NoPlainPort implements daemon.Reporter.
func (p *program) NoPlainPort(ports []int) {
	terminal.Say(p.stderr, "no port for plain HTTP (80 and %d to %d are taken), so http:// is not redirected", ports[0], ports[len(ports)-1])
}

// Started implements daemon.Reporter.
func (p *program) Started(s daemon.Started) {
	if s.Console != "" {
		terminal.Say(p.stdout, "console at %s", s.Console)
	}
	if endpoint := s.Config.Tracing.Endpoint; endpoint != "" {
		terminal.Say(p.stdout, "traces go to %s", mask.URL(endpoint))
	}
	p.announce(&s)
	if s.Config.TrustPage {
		p.announceLAN(&s)
	}
}

// Stopping implements daemon.Reporter.
func (p *program) Stopping(limit time.Duration) {
	terminal.Say(p.stderr, "finishing open requests, for %s at most; interrupt again to end at once", limit)
}

// announce prints where the sites are, and what else a person must know before using them.
func (p *program) announce(s *daemon.Started) {
	cfg := s.Config
	https := slices.DeleteFunc(slices.Clone(s.Listeners), func(l proxy.Listener) bool { return l.Plain })
	p.sayInvoker(cfg.StateDirectory())
	sites := cfg.Sites[:min(len(cfg.Sites), announced)]
	lines := make([]string, len(sites))
	var asking sync.WaitGroup
	for i := range sites {
		// All at once, as each may take its time.
		asking.Go(func() { lines[i] = siteURL(&sites[i], https) + " → " + destination(cfg, &sites[i]) })
	}
	asking.Wait()
	for _, line := range lines {
		terminal.Say(p.stdout, "%s", line)
	}

	if more := len(cfg.Sites) - len(sites); more > 0 {
		terminal.Say(p.stdout, "and %d more sites", more)
	}
	if cfg.Docker != nil {
		terminal.Say(p.stdout, "containers with the label %shost become sites (%s)", discovery.Prefix, mask.URL(cfg.Docker.Endpoint))
	}

	switch {
	case len(s.Managed) > 0:
		terminal.Say(p.stdout, "certificates from %s for %s; kept in %s", issuers(cfg), text.Summary(s.Managed), storage.Redacted(cfg.Storage))
	case cfg.Certificates.OnDemand != nil:
		terminal.Say(p.stdout, "certificates from %s on demand; kept in %s", issuers(cfg), storage.Redacted(cfg.Storage))
	// With certificates of the user's own the local CA signs nothing that a browser would see.
	case len(cfg.Certificates.Files) == 0:
		p.hintTrust(s.LocalCA)
		if s.LocalCA.HintOnce() {
			terminal.Say(p.stdout, "%s (this is said once)", outdatedRoot)
		}
		// Only to a person: in a service's log nobody would read it, and it would count as said.
		if terminal.Is(p.stdout) && s.LocalCA.MentionDevOnce() {
			terminal.Say(p.stdout, "to serve an app by its name, put padlock dev in front of the command that starts it: padlock dev npm run dev (this is said once)")
		}
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

// hintTrust says how browsers come to trust the local CA, where they do not yet. A container has no browsers: those of
// its host need the root.
func (p *program) hintTrust(local *localca.CA) {
	// Eight bytes are enough to tell the roots of two directories apart, and fit on the line.
	short := local.Fingerprint()[:23] + "…"
	if engine := container(); engine != "" {
		terminal.Say(p.stdout, "for browsers outside this container, run once on the host, and install what it writes: %s (local CA %s)", terminal.Unbroken(printInside(engine)+" > padlock-ca.pem"), short)
		return
	}
	if !trust.Everywhere(local.Root()) {
		terminal.Say(p.stdout, "browsers do not trust the local CA yet; run once: %s (local CA %s)", terminal.Unbroken("padlock trust"), short)
	}
}

// printInside is the command that has this container print the root.
func printInside(engine string) string {
	program := ownName("/padlock")
	// Docker and Podman make the container's id its host name, which is as good as a name.
	name, err := os.Hostname()
	if err != nil {
		name = "CONTAINER"
	}
	if engine == "kubernetes" {
		return "kubectl exec " + shellQuoted(name) + " -- " + program + " trust --print"
	}
	return engine + " exec " + shellQuoted(name) + " " + program + " trust --print"
}

// container is docker, podman or kubernetes, where padlock is what a container is for; "" elsewhere, and in one that is
// somebody's machine.
func container() string {
	_, docker := os.Stat("/.dockerenv")
	_, podman := os.Stat("/run/.containerenv")
	switch {
	// First, as its containers have the marks of Docker or Podman too.
	case os.Getenv("KUBERNETES_SERVICE_HOST") != "":
		return "kubernetes"
	case podman == nil && isFirstProcess():
		return "podman"
	case docker == nil && isFirstProcess():
		return "docker"
	}
	return ""
}

// isFirstProcess reports whether process 1 is this program: this process, or the one that it is run beside, as by
// docker exec.
func isFirstProcess() bool {
	if os.Getpid() == 1 {
		return true
	}
	first, err := os.ReadFile("/proc/1/comm")
	own, failed := os.ReadFile("/proc/self/comm")
	return err == nil && failed == nil && string(first) == string(own)
}

// siteURL is what a client asks for.
func siteURL(site *config.Site, https []proxy.Listener) string {
	host, scheme := site.Hosts[0], "https"
	if host == "*" {
		host = "localhost"
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if site.TCP != nil {
		scheme = "tls"
	}

	at := slices.IndexFunc(https, func(l proxy.Listener) bool { return len(site.Listen) == 0 || l.Address == site.Listen[0] })
	_, port, _ := net.SplitHostPort(https[max(at, 0)].Addr().String())
	url := scheme + "://" + host
	if port != "443" || scheme != "https" {
		url += ":" + port
	}

	return url
}

// destination is where the site's requests go, and whether somebody listens there.
func destination(cfg *config.Config, site *config.Site) string {
	var upstream *config.Upstream
	switch {
	case site.TCP != nil:
		upstream = &site.TCP.Upstream
	case len(site.Routes) > 0:
		upstream = &site.Routes[0].Upstream
		if folder := site.Routes[0].Files; folder != nil {
			return "files in " + folder.Root
		}
		if site.Routes[0].Redirect != nil || site.Routes[0].Respond != nil {
			return "an answer of padlock's own"
		}
	}

	if upstream == nil || len(upstream.To) == 0 {
		return "a page that shows your own handshake"
	}

	target := upstream.To[0].Target
	// The targets behind the name may change with every lookup, so none of them stands for it.
	if target.SRV {
		return target.String()
	}
	dialer := &outbound.Dialer{Network: target.Network, Address: target.Address, Timeout: cfg.Timeouts.Connect, Resolver: outbound.Resolver(cfg.Resolvers)}
	// Most first starts fail here because the app is not running, which padlock should say before a browser does.
	ctx, cancel := context.WithTimeout(context.Background(), targetPatience)
	defer cancel()
	conn, err := dialer.Dial(ctx)
	var lookup *net.DNSError
	switch {
	case errors.As(err, &lookup) && lookup.IsNotFound:
		return target.String() + " (the name " + lookup.Name + " does not exist)"
	case err != nil && ctx.Err() != nil:
		return target.String() + " (no answer yet)"
	case errors.As(err, &lookup):
		return target.String() + " (the name " + lookup.Name + " cannot be looked up)"
	case err != nil:
		return target.String() + " (not listening yet; that is fine)"
	}

	conn.Close()
	return target.String()
}
