package daemon

import (
	"net/netip"

	"padlock/config"
	"padlock/console"
	"padlock/hostinfo"
	"padlock/proxy"
)

// trustPage is nil where none is asked for. It has fresh certificates shown to those who wait on the page.
func (d *daemon) trustPage() proxy.TrustPage {
	if !d.cfg.TrustPage {
		return nil
	}
	root := hostinfo.NewRoot(d.certificates.current.Load().local.Root())
	o := console.TrustOptions{Root: root, Network: hostinfo.ReadNetwork, Hosts: NearbyAddresses(d.cfg), Log: d.log}
	if d.cfg.Handshakes.Show != "off" && d.cfg.Handshakes.Privacy.Addresses == "full" {
		o.Recent = d.observers.recent
	}
	page := console.NewTrust(o)
	d.certificates.renewLeaf = page.Waits
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
