// Package hostinfo is what decides whether devices reach padlock on this machine, and trust it: addresses and names,
// ports, the clock, the local CA, and the stores that trust it. padlock doctor and the trust page show the same.
//
//	network, err := facts.ReadNetwork()
//	root := facts.NewRoot(ca.Root())
package hostinfo

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"

	"padlock/config"
)

// Address is one of this machine's own that the local CA may sign for.
type Address struct {
	netip.Addr
	Interface string
}

// Network is how devices nearby find this machine.
type Network struct {
	Addresses []Address // the one that devices most likely reach stands first; loopback is none of them
	Name      string    // by multicast DNS (RFC 6762): HOST.local; "" if the machine's name is none for it
	Answers   bool      // something on this machine answers devices that ask for the name
}

// ReadNetwork asks the operating system. It sends nothing.
func ReadNetwork() (Network, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return Network{}, fmt.Errorf("reading this machine's network interfaces: %w", err)
	}

	var n Network
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addresses, err := i.Addrs()
		if err != nil {
			return Network{}, fmt.Errorf("reading the addresses of %s: %w", i.Name, err)
		}

		for _, a := range addresses {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil && nearby(prefix.Addr()) {
				n.Addresses = append(n.Addresses, Address{prefix.Addr().Unmap(), i.Name})
			}
		}
	}

	likeliest(n.Addresses, outward())
	if host, err := os.Hostname(); err == nil {
		n.Name = multicastName(host)
	}
	n.Answers = n.Name != "" && answersMulticast()
	return n, nil
}

// nearby reports whether the local CA may sign for an address that devices on the same network can be given. One that
// needs a zone is of no use in a URL.
func nearby(a netip.Addr) bool {
	a = a.Unmap()
	return !a.IsLoopback() && config.IsLocal(a.String()) && (a.Is4() || !a.IsLinkLocalUnicast())
}

// outward is the address that packets to elsewhere leave from, which is that of the network that people mean.
// Connecting a UDP socket chooses a route and sends nothing.
func outward() netip.Addr {
	// RFC 5737 reserves this address for documentation. Connecting a UDP socket sends nothing; it only chooses a
	// source address.
	conn, err := net.Dial("udp", "192.0.2.1:9")
	if err != nil {
		return netip.Addr{}
	}
	defer conn.Close()
	at, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap()
}

// inside are the beginnings of names of interfaces that lead to containers and virtual machines on this machine.
var inside = [...]string{"docker", "br-", "veth", "virbr", "cni", "flannel", "podman", "vmnet", "bridge"}

// likeliest sorts by how likely a phone on the same network reaches an address.
func likeliest(addresses []Address, outward netip.Addr) {
	rank := func(a Address) int {
		switch {
		case a.Addr == outward:
			return 0
		case slices.ContainsFunc(inside[:], func(name string) bool { return strings.HasPrefix(a.Interface, name) }):
			return 4
		case a.IsLinkLocalUnicast():
			return 3
		case a.Is6():
			return 2
		}
		return 1
	}
	slices.SortStableFunc(addresses, func(a, b Address) int { return cmp.Compare(rank(a), rank(b)) })
}

// multicastName is what a machine of this name is called where multicast DNS is spoken.
func multicastName(host string) string {
	name, ok := config.CanonicalHost(host)
	first, _, _ := strings.Cut(name, ".")
	if !ok || first == "localhost" || net.ParseIP(name) != nil {
		return ""
	}
	return first + ".local"
}

// answersMulticast reports whether the operating system answers for its name: macOS and Windows do by themselves,
// Linux with Avahi.
func answersMulticast() bool {
	switch runtime.GOOS {
	case "darwin", "windows":
		return true
	}
	_, err := os.Stat("/run/avahi-daemon/socket")
	return err == nil
}

// Has reports whether a canonical host is an address of this machine, or its name.
func (n Network) Has(host string) bool {
	return n.Name != "" && host == n.Name || slices.ContainsFunc(n.Addresses, func(a Address) bool { return a.String() == host })
}

// Hosts are all of them, as a URL's host has them but for brackets.
func (n Network) Hosts() []string {
	var hosts []string
	for _, a := range n.Addresses {
		hosts = append(hosts, a.String())
	}
	if n.Name != "" {
		hosts = append(hosts, n.Name)
	}
	return hosts
}
