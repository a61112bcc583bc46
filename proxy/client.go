package proxy

import (
	"net"
	"net/netip"
	"strings"

	"padlock/config"
	"padlock/proxy/message"
)

// told is what proxies that are trusted say of a request, for the target.
type told struct {
	trusted   bool   // the connection's other end is such a proxy
	chain     string // X-Forwarded-For up to them
	proto     string
	host      string
	port      string
	forwarded string // Forwarded (RFC 7239) up to them
}

// identify finds out who the client of a request is: the connection's other end, unless it is a trusted proxy. Then it is the last of the
// addresses in X-Forwarded-For, or in Forwarded where there is no such field, that is not a trusted proxy's. What stands further left is a
// claim. Where the list names no such address, the client is unknown, and never the proxy that would be let in.
func (x *exchange) identify(trusted []config.Network) {
	r := x.request
	r.Client, x.addr = r.Conn.Client, r.Conn.Addr
	if len(trusted) == 0 || !contains(trusted, x.addr) {
		return
	}

	x.told.trusted, r.Shared = true, true
	f := r.Fields
	x.told.chain = x.joined("X-Forwarded-For")
	x.told.forwarded = x.joined("Forwarded")
	if proto := last(f, "X-Forwarded-Proto"); message.Is(proto, "https") || message.Is(proto, "http") {
		x.told.proto = proto
	}
	if host := last(f, "X-Forwarded-Host"); message.ValidHost(host) {
		x.told.host = host
	}
	if port := last(f, "X-Forwarded-Port"); validPort(port) {
		x.told.port = port
	}

	var addr netip.Addr
	if _, ok := f.Get("X-Forwarded-For"); ok {
		addr = sender(x.told.chain, trusted, cutLast, forwardedFor)
	} else if _, ok := f.Get("Forwarded"); ok {
		addr = sender(x.told.forwarded, trusted, cutLastElement, forwardedNode)
	} else {
		return // the proxy speaks for itself
	}
	x.addr, r.Client = addr, unknownClient
	if addr.IsValid() {
		r.Client = addr.String()
	}
}

// unknownClient stands for the address of a client that has none or whose proxy does not name it (RFC 7239 section 6.2).
const unknownClient = "unknown"

// sender reads a list of addresses from its end: the first that is not a trusted proxy's, or the first of the list if all are. It returns
// the zero Addr, which no rule admits, where an item is not an address or the list is longer than what is read.
func sender(
	list string, trusted []config.Network, cut func(string) (before, item string), parse func(string) (netip.Addr, bool),
) netip.Addr {
	whole := len(list) <= maxList
	if !whole {
		list = list[len(list)-maxList:]
	}

	for range maxProxies {
		var item string
		list, item = cut(list)
		if list == "" && !whole {
			break // the item may have begun before what is read
		}
		addr, ok := parse(item)
		if !ok {
			break // what stands before it is not to be relied on
		}
		if list == "" || !contains(trusted, addr) {
			return addr
		}
	}
	return netip.Addr{}
}

// maxProxies in a row are believed, and the last maxList bytes of a list are read: a client can make it as long as a head may be.
const (
	maxProxies = 32
	maxList    = 8 << 10
)

// joined is a list field's value over all its lines (RFC 9110 section 5.3).
func (x *exchange) joined(name string) string {
	all := ""
	for _, field := range x.request.Fields {
		switch {
		case !message.Is(field.Name, name):
		case all == "":
			all = field.Value
		default:
			all += ", " + field.Value
		}
	}
	return all
}

// last is the last item of a list field.
func last(f message.Fields, name string) string {
	for i := len(f) - 1; i >= 0; i-- {
		if message.Is(f[i].Name, name) {
			_, item := cutLast(f[i].Value)
			return item
		}
	}
	return ""
}

// cutLast takes the last item off a list.
func cutLast(list string) (before, item string) {
	comma := strings.LastIndexByte(list, ',')
	return strings.TrimRight(list[:max(comma, 0)], " \t,"), strings.Trim(list[comma+1:], " \t")
}

// cutLastElement is cutLast for Forwarded, in whose quotes a comma divides nothing.
func cutLastElement(list string) (before, element string) {
	for rest, end := list, len(list); ; {
		comma := strings.LastIndexByte(rest, ',')
		if comma < 0 || strings.Count(list[comma:end], `"`)%2 == 0 { // all quotes behind it are closed
			return strings.TrimRight(list[:max(comma, 0)], " \t,"), strings.Trim(list[comma+1:], " \t")
		}
		rest = rest[:comma]
	}
}

// forwardedFor reads an item of X-Forwarded-For, to which some proxies add a port.
func forwardedFor(item string) (netip.Addr, bool) {
	if addr, err := netip.ParseAddr(strings.Trim(item, "[]")); err == nil {
		return addr.Unmap().WithZone(""), true
	}
	if pair, err := netip.ParseAddrPort(item); err == nil {
		return pair.Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, false
}

// forwardedNode reads the address of an element of Forwarded (RFC 7239 section 6); a name or unknown is none.
func forwardedNode(element string) (netip.Addr, bool) {
	for pair := range strings.SplitSeq(element, ";") {
		name, value, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
		if message.Is(name, "for") {
			return forwardedFor(strings.Trim(value, `"`))
		}
	}
	return netip.Addr{}, false
}

// clientAddr is the address of a host:port, without a zone.
func clientAddr(remote string) (string, netip.Addr) {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return unknownClient, netip.Addr{}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return host, netip.Addr{}
	}
	addr = addr.Unmap().WithZone("")
	return addr.String(), addr
}
