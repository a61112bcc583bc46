package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"padlock/config"
	"padlock/daemon"
	"padlock/hostinfo"
	"padlock/internal/hint"
	"padlock/internal/terminal"
	"padlock/proxy"
)

// applyLAN is --lan: the first site is served by the names that devices nearby have for this machine too, and plain
// HTTP serves the trust page.
func applyLAN(c *cli.Context, cfg *config.Config) error {
	if !c.Bool("lan") {
		return nil
	}
	if c.IsSet("cert") {
		return usageError{errors.New("--lan has devices trust the local CA, which --cert does without; to let them in with a certificate of your own: --listen :443")}
	}

	network, err := hostinfo.ReadNetwork()
	if err != nil {
		return err
	}
	if len(network.Addresses) == 0 {
		return hint.Add(errors.New("--lan: this machine has no private address that other devices could reach it by"), "connect it to a network, or serve a public name: padlock proxy --from NAME --to TARGET")
	}

	cfg.TrustPage = true
	addHosts(cfg, network.Hosts()...)
	return nil
}

// addHosts gives the first site those local names that no site has.
func addHosts(cfg *config.Config, hosts ...string) {
	// Without sites in the file, containers bring them later.
	if len(cfg.Sites) == 0 {
		return
	}
	for _, name := range hosts {
		taken := slices.ContainsFunc(cfg.Sites, func(s config.Site) bool { return slices.Contains(s.Hosts, name) })
		if config.IsLocal(name) && !taken {
			cfg.Sites[0].Hosts = append(slices.Clone(cfg.Sites[0].Hosts), name)
		}
	}
}

// announceLAN says loudly that other devices get in, and how they come to trust what they see.
func (p *program) announceLAN(s *daemon.Started) {
	network, err := hostinfo.ReadNetwork()
	hosts := daemon.NearbyAddresses(s.Config)
	if err == nil && len(network.Addresses) > 0 {
		hosts = slices.DeleteFunc(network.Hosts(), func(host string) bool { return host == network.Name && !network.Answers })
	}
	if len(hosts) == 0 {
		// This machine is not connected to a network yet.
		hosts = []string{"ADDRESS"}
	}

	apps, pages := urlsOf(s.Listeners, false, hosts), urlsOf(s.Listeners, true, hosts)
	if len(apps) == 0 || len(pages) == 0 {
		terminal.Say(p.stderr, "no port for plain HTTP, so there is no page that gets other devices to trust this padlock")
		return
	}

	also := ""
	if len(apps) > 1 {
		also = " (also " + strings.Join(apps[1:], ", ") + ")"
	}
	terminal.Say(p.stdout, "other devices on this network get in, too: %s%s", apps[0], also)
	sayTrustPage(func(format string, values ...any) { terminal.Say(p.stdout, format, values...) }, pages[0], s.LocalCA.Root())

	if drawsBlocks(p.stdout) && len(network.Addresses) > 0 {
		if code, err := qrCode(pages[0] + "/"); err == nil {
			fmt.Fprint(p.stdout, code)
		}
	}
}

// urlsOf are the addresses of hosts on the first listener with TLS, or without; none if there is no such listener.
func urlsOf(listeners []proxy.Listener, plain bool, hosts []string) (all []string) {
	at := slices.IndexFunc(listeners, func(l proxy.Listener) bool { return l.Plain == plain })
	if at < 0 {
		return nil
	}
	scheme, usual := "https", "443"
	if plain {
		scheme, usual = "http", "80"
	}

	_, port, _ := net.SplitHostPort(listeners[at].Addr().String())
	for _, host := range hosts {
		all = append(all, scheme+"://"+hostPort(host, port, usual))
	}
	return all
}

// sayTrustPage says where devices come to trust a root, and what they have to compare.
func sayTrustPage(say func(format string, values ...any), page string, root *x509.Certificate) {
	say("on each of them, open first: %s", page)
	say("it gets them to trust the local CA; compare what they show with its fingerprint (SHA-256)")
	for _, line := range hostinfo.NewRoot(root).Lines() {
		say("  %s", line)
	}
}

func hostPort(host, port, usual string) string {
	switch {
	case port != usual:
		return net.JoinHostPort(host, port)
	case strings.Contains(host, ":"):
		return "[" + host + "]"
	}
	return host
}
