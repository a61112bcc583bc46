package lab

import (
	"net"
	"net/netip"
	"slices"

	"padlock/internal/fair"
)

// ownSource is that of every client on this machine, whatever address it connects from.
const ownSource = "this machine"

// sourceOf is where a client is: on this machine, or at an IPv4 address or an IPv6 /64, of which a machine has many.
func sourceOf(remote string) string {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return remote
	}
	ip := at.Addr().Unmap().WithZone("")
	if ip.IsLoopback() || slices.Contains(ownAddresses(), ip) {
		return ownSource
	}
	return fair.Source(ip).String()
}

// ownAddresses are those of this machine. They are asked for anew, as a laptop changes its network.
func ownAddresses() (all []netip.Addr) {
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range interfaces {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				all = append(all, ip.Unmap())
			}
		}
	}
	return all
}

// sources are those whose connections are the client's that is checked; nil: all.
type sources []string

func (s sources) has(source string) bool { return s == nil || slices.Contains(s, source) }

// clientSources are where the client of the controls is: the sources that have come to each control that was visited at
// all. Others have come by chance. It is nil where the controls do not agree, and then nobody is left out.
func clientSources(controls []Result) (common sources) {
	for _, r := range controls {
		var here sources
		for _, v := range r.Visits {
			if !slices.Contains(here, v.source) {
				here = append(here, v.source)
			}
		}
		switch {
		case here == nil:
		case common == nil:
			common = here
		default:
			common = slices.DeleteFunc(common, func(source string) bool { return !slices.Contains(here, source) })
		}
	}
	if len(common) == 0 {
		return nil
	}
	return common
}
