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
	chain     string // X-Forwarded-For up to them
	proto     string
	host      string
	port      string
	forwarded string // Forwarded (RFC 7239) up to them
}

// identify finds out who the client of a request is. The connection's other end, unless it is a proxy that is trusted: then the last of
// the addresses in X-Forwarded-For, or Forwarded where there is none, that is not such a proxy's. What stands further left is a claim.
func (x *exchange) identify(trusted []config.Network) {
	r := x.request
	r.Client, x.addr = r.Conn.Client, r.Conn.Addr
	if len(trusted) == 0 || !contains(trusted, x.addr) {
		return
	}
	f := r.Fields
	x.told.chain = x.joined("X-Forwarded-For")
	x.told.forwarded = x.joined("Forwarded")
	if proto := last(f, "X-Forwarded-Proto"); message.Is(proto, "https") || message.Is(proto, "http") {
		x.told.proto = proto
	}
	if host := last(f, "X-Forwarded-Host"); message.ValidHost(host) {
		x.told.host = host
	}
	if port := last(f, "X-Forwarded-Port"); len(port) <= 5 && strings.Trim(port, "0123456789") == "" {
		x.told.port = port
	}
	list, parse := x.told.chain, forwardedFor
	if list == "" {
		list, parse = x.told.forwarded, forwardedNode
	}
	for list != "" {
		var item string
		list, item = cutLast(list)
		addr, ok := parse(item)
		if !ok {
			return // what stands before it is not to be relied on
		}
		x.addr, r.Client = addr, addr.String()
		if !contains(trusted, addr) {
			return
		}
	}
}

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

// cutLast takes the last item off a list; a comma in quotes divides nothing.
func cutLast(list string) (before, item string) {
	quoted, comma := false, -1
	for i := range len(list) {
		switch {
		case list[i] == '"' && (i == 0 || list[i-1] != '\\'):
			quoted = !quoted
		case list[i] == ',' && !quoted:
			comma = i
		}
	}
	if comma < 0 {
		return "", strings.Trim(list, " \t")
	}
	return strings.TrimRight(list[:comma], " \t,"), strings.Trim(list[comma+1:], " \t")
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
		return "unknown", netip.Addr{}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return host, netip.Addr{}
	}
	addr = addr.Unmap().WithZone("")
	return addr.String(), addr
}
