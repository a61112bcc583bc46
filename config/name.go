package config

import (
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// CanonicalHost is the one form of a host name that TLS, routing and policy compare: lower case, without the trailing
// dot, an IPv6 address without brackets. It holds no port. ok is false for what is neither an address nor a name of
// letters, digits, hyphens and underscores (RFC 1123 section 2.1, RFC 5891 section 4.4).
func CanonicalHost(host string) (name string, ok bool) {
	if inner, bracketed := strings.CutPrefix(host, "["); bracketed {
		inner, bracketed = strings.CutSuffix(inner, "]")
		addr, err := netip.ParseAddr(inner)
		if !bracketed || err != nil || !addr.Is6() || addr.Zone() != "" {
			return "", false
		}
		return addr.String(), true
	}

	// Parsing an address costs an allocation, so only what looks like one is parsed.
	if strings.IndexByte(host, ':') >= 0 || host != "" && '0' <= host[0] && host[0] <= '9' {
		if addr, err := netip.ParseAddr(host); err == nil {
			return addr.Unmap().String(), addr.Zone() == ""
		}
	}

	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "" || len(host) > 253 {
		return "", false
	}

	for label := range strings.SplitSeq(host, ".") {
		if !validLabel(label) {
			return "", false
		}
	}

	return host, true
}

func validLabel(label string) bool {
	if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	for i := range len(label) {
		if c := label[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// WrittenHost is CanonicalHost for what a person writes: a name in other letters than ASCII is the name that browsers
// and DNS make of it (RFC 5890 section 2.3.2.1, UTS #46): bücher.example is xn--bcher-kva.example. What comes over
// the network is in ASCII.
func WrittenHost(host string) (name string, ok bool) {
	if ascii(host) {
		return CanonicalHost(host)
	}
	name, err := idna.Lookup.ToASCII(host)
	if err != nil {
		return "", false
	}
	return CanonicalHost(name)
}

// SpelledHost is a canonical name, and behind it the letters that people write for it, where it has others than ASCII.
func SpelledHost(name string) string {
	if written, err := idna.ToUnicode(name); err == nil && written != name {
		return name + " (" + written + ")"
	}
	return name
}

// CanonicalPattern accepts what WrittenHost does, and *.name, and * for any name.
func CanonicalPattern(pattern string) (string, bool) {
	if pattern == "*" {
		return pattern, true
	}
	parent, wildcard := strings.CutPrefix(pattern, "*.")
	name, ok := WrittenHost(parent)
	if wildcard {
		name = "*." + name
	}
	return name, ok
}
