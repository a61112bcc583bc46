package message

import (
	"net"
	"net/netip"
)

// UnknownClient stands for the address of a client that has none or whose proxy does not name it (RFC 7239 section
// 6.2).
const UnknownClient = "unknown"

// ClientAddr is the address of a host:port, without a zone.
func ClientAddr(remote string) (string, netip.Addr) {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return UnknownClient, netip.Addr{}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return host, netip.Addr{}
	}
	addr = addr.Unmap().WithZone("")
	return addr.String(), addr
}
