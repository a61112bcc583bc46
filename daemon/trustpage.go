package daemon

import (
	"log/slog"
	"net/netip"

	"padlock/config"
	"padlock/console"
	"padlock/facts"
	"padlock/proxy"
)

// trustPage is nil where none is asked for. It has the keeper show fresh certificates to those who wait on the page.
func trustPage(cfg *config.Config, k *keeper, seen *seen, log *slog.Logger) proxy.TrustPage {
	if !cfg.TrustPage {
		return nil
	}
	o := console.TrustOptions{Root: facts.NewRoot(k.local.Root()), Network: facts.ReadNetwork, Hosts: NearbyAddresses(cfg), Log: log}
	if cfg.Handshakes.Show != "off" && cfg.Handshakes.Privacy.Addresses == "full" {
		o.Recent = seen.recent
	}
	page := console.NewTrust(o)
	k.waits = page.Waits
	return page
}

// NearbyAddresses are those of sites. In a container they are others than the machine knows of itself.
func NearbyAddresses(cfg *config.Config) (addresses []string) {
	for _, site := range cfg.Sites {
		for _, host := range site.Hosts {
			if _, err := netip.ParseAddr(host); err == nil && config.IsLocal(host) && !config.IsLoopback(host) {
				addresses = append(addresses, host)
			}
		}
	}
	return addresses
}
