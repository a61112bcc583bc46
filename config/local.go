package config

import (
	"net"
	"slices"
	"strings"
)

// LocalDomains are never public (RFC 6761, RFC 6762, RFC 8375, and ICANN's reservation of internal).
var LocalDomains = []string{"localhost", "test", "local", "internal", "home.arpa"}

// PrivateNetworks are loopback, private, link-local and carrier-grade addresses (RFC 6890, RFC 4193).
func PrivateNetworks() []*net.IPNet {
	var networks []*net.IPNet
	for _, cidr := range []string{
		"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10",
		"::1/128", "fc00::/7", "fe80::/10",
	} {
		_, network, _ := net.ParseCIDR(cidr) // constants
		networks = append(networks, network)
	}
	return networks
}

// IsLocal reports whether a canonical name, pattern or address is one that no public CA signs for.
func IsLocal(name string) bool {
	if ip := net.ParseIP(name); ip != nil {
		return slices.ContainsFunc(PrivateNetworks(), func(n *net.IPNet) bool { return n.Contains(ip) })
	}
	return Within(strings.TrimPrefix(name, "*."), LocalDomains)
}

// IsLoopback reports whether a canonical name, pattern or address means this machine itself.
func IsLoopback(name string) bool {
	if ip := net.ParseIP(name); ip != nil {
		return ip.IsLoopback()
	}
	return Within(strings.TrimPrefix(name, "*."), []string{"localhost"})
}

// Within reports whether name is one of the domains or below one.
func Within(name string, domains []string) bool {
	return slices.ContainsFunc(domains, func(domain string) bool {
		return name == domain || strings.HasSuffix(name, "."+domain)
	})
}
