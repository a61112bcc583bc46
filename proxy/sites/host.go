package sites

import (
	"net"
	"strconv"
	"strings"

	"padlock/config"
	"padlock/proxy/message"
)

// hostname is the canonical name of a Host or :authority value; its port does not matter for routing. It is false where
// that is no port.
func hostname(host string) (string, bool) {
	name, port, ok := CutPort(host)
	if !ok || port != "" && !ValidPort(port) {
		return "", false
	}
	return config.CanonicalHost(name)
}

// TidyHost is a host that hostname has accepted with its port in one form: without zeros in front, and none where it is
// empty, which RFC 3986 section 3.2.3 allows and targets read differently.
func TidyHost(host string) string {
	name, port, ok := CutPort(host)
	switch tidy := strings.TrimLeft(port, "0"); {
	case !ok || len(name) == len(host): // no colon
		return host
	case tidy == "":
		return name
	case tidy == port:
		return host
	default:
		return name + ":" + tidy
	}
}

// CutPort divides a host at the colon of its port; a bare IPv6 address has none. It is false where brackets do not
// match.
func CutPort(host string) (name, port string, ok bool) {
	colon := strings.LastIndexByte(host, ':')
	if colon < 0 || strings.HasSuffix(host, "]") || host[0] != '[' && strings.IndexByte(host, ':') != colon {
		return host, "", true
	}
	return host[:colon], host[colon+1:], (host[0] == '[') == strings.HasSuffix(host[:colon], "]")
}

// ValidPort reports whether s is a port: 1 to 65535, in at most five digits.
func ValidPort(s string) bool {
	port, err := strconv.ParseUint(s, 10, 16)
	return err == nil && port > 0 && len(s) <= 5
}

// HostOnly is a host without its port, and without brackets.
func HostOnly(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}

// PortOf is the port that a client has asked for: the one that the host names, or the scheme's own.
func PortOf(host, scheme string) string {
	_, port, _ := CutPort(host)
	switch {
	case port != "" && ValidPort(port):
		// An error value would cost an allocation for every request.
		return port
	case message.Is(scheme, "http"):
		return "80"
	}
	return "443"
}
