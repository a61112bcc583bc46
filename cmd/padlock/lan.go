package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"padlock/config"
	"padlock/console"
	"padlock/facts"
	"padlock/proxy"
)

// applyLAN is --lan: the first site is served by the names that devices nearby have for this machine too, and plain HTTP serves the trust
// page.
func applyLAN(c *cli.Context, cfg *config.Config) error {
	if !c.Bool("lan") {
		return nil
	}
	if c.IsSet("cert") {
		return usageError{errors.New("--lan has devices trust the local CA, which --cert does without; to let them in with a certificate of your own: --listen :443")}
	}
	network, err := facts.ReadNetwork()
	if err != nil {
		return err
	}
	if len(network.Addresses) == 0 {
		return hinted{errors.New("--lan: this machine has no private address that other devices could reach it by"), "connect it to a network, or serve a public name: padlock proxy --from NAME --to TARGET"}
	}
	cfg.TrustPage = true
	addHosts(cfg, network.Hosts()...)
	return nil
}

// addHosts gives the first site those local names that no site has.
func addHosts(cfg *config.Config, hosts ...string) {
	if len(cfg.Sites) == 0 { // containers will bring them
		return
	}
	for _, name := range hosts {
		taken := slices.ContainsFunc(cfg.Sites, func(s config.Site) bool { return slices.Contains(s.Hosts, name) })
		if config.IsLocal(name) && !taken {
			cfg.Sites[0].Hosts = append(slices.Clone(cfg.Sites[0].Hosts), name)
		}
	}
}

// trustPage is nil where none is asked for. It has the keeper show fresh certificates to those who wait on the page.
func trustPage(cfg *config.Config, k *keeper, seen *seen, log *slog.Logger) proxy.TrustPage {
	if !cfg.TrustPage {
		return nil
	}
	o := console.TrustOptions{Root: facts.NewRoot(k.local.Root()), Network: facts.ReadNetwork, Hosts: nearbyAddresses(cfg), Log: log}
	if cfg.Handshakes.Show != "off" && cfg.Handshakes.Privacy.Addresses == "full" {
		o.Recent = seen.recent
	}
	page := console.NewTrust(o)
	k.waits = page.Waits
	return page
}

// nearbyAddresses are those of sites. In a container they are others than the machine knows of itself.
func nearbyAddresses(cfg *config.Config) (addresses []string) {
	for _, site := range cfg.Sites {
		for _, host := range site.Hosts {
			if _, err := netip.ParseAddr(host); err == nil && config.IsLocal(host) && !config.IsLoopback(host) {
				addresses = append(addresses, host)
			}
		}
	}
	return addresses
}

// announceLAN says loudly that other devices get in, and how they come to trust what they see.
func (p *program) announceLAN(cfg *config.Config, k *keeper, listeners []proxy.Listener) {
	network, err := facts.ReadNetwork()
	hosts := nearbyAddresses(cfg)
	if err == nil && len(network.Addresses) > 0 {
		hosts = slices.DeleteFunc(network.Hosts(), func(host string) bool { return host == network.Name && !network.Answers })
	}
	if len(hosts) == 0 {
		hosts = []string{"ADDRESS"} // of this machine, which is not connected yet
	}
	urls := func(scheme string, plain bool, usual string) (all []string) {
		at := slices.IndexFunc(listeners, func(l proxy.Listener) bool { return l.Plain == plain })
		if at < 0 {
			return nil
		}
		_, port, _ := net.SplitHostPort(listeners[at].Addr().String())
		for _, host := range hosts {
			all = append(all, scheme+"://"+hostPort(host, port, usual))
		}
		return all
	}
	apps, pages := urls("https", false, "443"), urls("http", true, "80")
	if len(apps) == 0 || len(pages) == 0 {
		fmt.Fprintln(p.stderr, "padlock: no port for plain HTTP, so there is no page that gets other devices to trust this padlock")
		return
	}
	also := ""
	if len(apps) > 1 {
		also = " (also " + strings.Join(apps[1:], ", ") + ")"
	}
	fmt.Fprintf(p.stdout, "padlock: other devices on this network get in, too: %s%s\n", apps[0], also)
	fmt.Fprintf(p.stdout, "padlock: on each of them, open first: %s\n", pages[0])
	fmt.Fprintf(p.stdout, "padlock: it gets them to trust the local CA; compare what they show with its fingerprint (SHA-256)\n")
	for _, line := range facts.NewRoot(k.local.Root()).Lines() {
		fmt.Fprintf(p.stdout, "padlock:   %s\n", line)
	}
	if drawsBlocks(p.stdout) && len(network.Addresses) > 0 {
		if code, err := qrCode(pages[0] + "/"); err == nil {
			fmt.Fprint(p.stdout, code)
		}
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
