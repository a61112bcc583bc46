package fair

import (
	"net"
	"net/netip"
)

// Source is what counts as one client: an IPv4 address, or the /64 of an IPv6 address. It is the zero prefix for the
// zero address.
func Source(client netip.Addr) netip.Prefix { return within(client, 32, 64) }

// SourceOf is the Source of a connection's other end; connections without an IP address are one source.
func SourceOf(remote net.Addr) netip.Prefix {
	pair, err := netip.ParseAddrPort(remote.String())
	if err != nil {
		return netip.Prefix{}
	}
	return Source(pair.Addr())
}

// Network is what a provider hands to one customer, who then has many a source: the /48 of an IPv6 address (RFC
// 6177). An IPv4 address is its own.
func Network(client netip.Addr) netip.Prefix { return within(client, 32, 48) }

func site(source netip.Prefix) netip.Prefix { return Network(source.Addr()) }

// Truncated is what may be kept of an address where it must not tell one person from another: the /24 of an IPv4
// address, and the /48 of an IPv6 address.
func Truncated(client netip.Addr) netip.Prefix { return within(client, 24, 48) }

func within(client netip.Addr, four, six int) netip.Prefix {
	client = client.Unmap().WithZone("")
	bits := six
	if client.Is4() {
		bits = four
	}
	prefix, _ := client.Prefix(bits) // not valid for the zero address
	return prefix
}
