package gateway

import (
	"iter"
	"net/netip"
	"strings"

	"padlock/config"
	"padlock/proxy/message"
	"padlock/proxy/sites"
)

// forwardedFields is what proxies that are trusted say of a request, for the target.
type forwardedFields struct {
	trusted   bool   // the connection's other end is such a proxy
	chain     string // X-Forwarded-For up to them
	proto     string
	host      string
	port      string
	prefix    string // path that they have taken off, encoded, without a slash at its end
	forwarded string // Forwarded (RFC 7239) up to them
}

// identify notes who the client of a request is.
func (h *Gateway) identify(_ *message.Context, x *Exchange) error {
	x.identify(x.routes.Trusted)
	return nil
}

// identify finds out who the client of a request is: the connection's other end, unless it is a trusted proxy. Then it
// is the last of the addresses in X-Forwarded-For, or in Forwarded where there is no such field, that is not a trusted
// proxy's. What stands further left is a claim. Where the list names no such address, the client is unknown, and never
// the proxy that would be let in.
func (x *Exchange) identify(trusted []config.Network) {
	r := x.request
	r.Client, x.addr = r.Conn.Client, r.Conn.Addr
	if len(trusted) == 0 || !sites.Contains(trusted, x.addr) {
		return
	}

	// A connection of a proxy carries requests of several clients, so nothing may be kept for the connection.
	x.forwarded.trusted, r.Shared = true, true
	f := r.Fields
	x.forwarded.chain = x.joined("X-Forwarded-For")
	x.forwarded.forwarded = x.joined("Forwarded")
	if proto := last(f, "X-Forwarded-Proto"); message.Is(proto, "https") || message.Is(proto, "http") {
		x.forwarded.proto = proto
	}
	if host := last(f, "X-Forwarded-Host"); message.ValidHost(host) {
		x.forwarded.host = host
	}
	if port := last(f, "X-Forwarded-Port"); sites.ValidPort(port) {
		x.forwarded.port = port
	}

	x.forwarded.prefix = prefixes(x.joined("X-Forwarded-Prefix"))

	var addr netip.Addr
	// One of the two lists counts, and never both: a proxy that writes one passes the other on as the client sent
	// it.
	if _, ok := f.Get("X-Forwarded-For"); ok {
		addr, _ = sender(x.forwarded.chain, trusted, cutLast, forwardedFor)
	} else if _, ok := f.Get("Forwarded"); ok {
		var element string
		addr, element = sender(x.forwarded.forwarded, trusted, cutLastElement, forwardedNode)
		x.forwarded.read(element)
	} else {
		// The proxy speaks for itself, so there is no client behind it.
		return
	}

	// An address that cannot be read must not fall back to the proxy's, which rules may let in.
	x.addr, r.Client = addr, message.UnknownClient
	if addr.IsValid() {
		r.Client = addr.String()
	}
}

// read takes from the element of Forwarded that tells of the client what no field of its own says. The proxy that wrote
// it was the client's own peer; where there is an X-Forwarded-For, Forwarded may be the client's.
func (t *forwardedFields) read(element string) {
	for name, value := range forwardedPairs(element) {
		switch {
		case message.Is(name, "proto") && t.proto == "" && (message.Is(value, "https") || message.Is(value, "http")):
			t.proto = value
		case message.Is(name, "host") && t.host == "" && message.ValidHost(value):
			t.host = value
		}
	}
}

// prefixes joins the paths that proxies have taken off, the outermost first. What could lead elsewhere when a target
// puts it before a path of its own is not taken.
func prefixes(list string) string {
	all := ""
	for item := range strings.SplitSeq(list, ",") {
		item = strings.TrimSuffix(strings.Trim(item, " \t"), "/")
		if item == "" {
			continue
		}
		// One bad item spoils the list: leaving it out would join paths that do not belong together.
		if !validPrefix(item) {
			return ""
		}
		all += item
	}
	return all
}

// validPrefix is for absolute paths without anything that a browser or a target could take for another host or
// directory.
func validPrefix(path string) bool {
	for i := range len(path) {
		if c := path[i]; !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("/-._~%!$&'()*+;=:@", c) >= 0) {
			return false
		}
	}

	if path[0] != '/' || strings.Contains(path, "//") {
		return false
	}

	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}

	return true
}

// sender reads a list of addresses from its end: the first that is not a trusted proxy's, or the first of the list if
// all are, with its item. It returns the zero Addr, which no rule admits, where an item is not an address or the list
// is longer than what is read.
func sender(
	list string, trusted []config.Network, cut func(string) (before, item string), parse func(string) (netip.Addr, bool),
) (netip.Addr, string) {
	whole := len(list) <= maxList
	if !whole {
		// The end is the part that trusted proxies have written.
		list = list[len(list)-maxList:]
	}

	for range maxProxies {
		var item string
		list, item = cut(list)
		if list == "" && !whole {
			// The item may have begun before the part that is read.
			break
		}
		addr, ok := parse(item)
		if !ok {
			// A malformed item makes everything to its left unreliable.
			return netip.Addr{}, item
		}
		// Where all are trusted, the first of the list is the closest to a client that there is.
		if list == "" || !sites.Contains(trusted, addr) {
			return addr, item
		}
	}

	return netip.Addr{}, ""
}

// maxProxies in a row are believed, and the last maxList bytes of a list are read: a client can make it as long as a
// head may be.
const (
	maxProxies = 32
	maxList    = 8 << 10
)

// joined is a list field's value over all its lines (RFC 9110 section 5.3).
func (x *Exchange) joined(name string) string {
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
	// Empty items are skipped (RFC 9110 section 5.6.1), and so are blanks.
	comma := strings.LastIndexByte(list, ',')
	return strings.TrimRight(list[:max(comma, 0)], " \t,"), strings.Trim(list[comma+1:], " \t")
}

// cutLastElement is cutLast for Forwarded, in whose quotes a comma divides nothing.
func cutLastElement(list string) (before, element string) {
	for rest, end := list, len(list); ; {
		comma := strings.LastIndexByte(rest, ',')
		// An even number of quotes behind the comma means that it stands outside of quoted text.
		if comma < 0 || strings.Count(list[comma:end], `"`)%2 == 0 {
			return strings.TrimRight(list[:max(comma, 0)], " \t,"), strings.Trim(list[comma+1:], " \t")
		}
		rest = rest[:comma]
	}
}

// forwardedFor reads an item of X-Forwarded-For, to which some proxies add a port.
func forwardedFor(item string) (netip.Addr, bool) {
	// Zones and IPv4 in IPv6 are taken off, or one client would have several addresses.
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
	for name, value := range forwardedPairs(element) {
		if message.Is(name, "for") {
			return forwardedFor(value)
		}
	}
	return netip.Addr{}, false
}

// forwardedPairs yields the pairs of an element of Forwarded (RFC 7239 section 4), up to what is none. What stands in
// quotes, as a host that a client has chosen may, divides nothing.
func forwardedPairs(element string) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for rest := element; ; {
			name, after, ok := strings.Cut(strings.TrimLeft(rest, "; \t"), "=")
			if !ok {
				return
			}
			value, after, ok := cutValue(after)
			if !ok || !yield(strings.Trim(name, " \t"), value) {
				return
			}
			rest = after
		}
	}
}

// cutValue takes a token, or a quoted string, off the beginning of what ends at a semicolon.
func cutValue(text string) (value, rest string, ok bool) {
	if !strings.HasPrefix(text, `"`) {
		value, rest, _ = strings.Cut(text, ";")
		return strings.Trim(value, " \t"), rest, true
	}

	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			rest = strings.TrimLeft(text[i+1:], " \t")
			return b.String(), rest, rest == "" || rest[0] == ';'
		case c == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		default:
			b.WriteByte(c)
		}
	}

	return "", "", false
}
