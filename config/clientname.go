package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// ClientName is a name that a client's certificate must have among its subject alternative names (RFC 5280 section
// 4.2.1.6). It matches names of its own kind only.
type ClientName struct {
	Kind  string // dns | email | uri | ip
	Value string // in the form of CanonicalClientName
}

// ParseClientName reads kind:value, as in email:alice@example.com; without a kind the form says which: an address, a
// URI, an e-mail address, else a DNS name. A DNS name may begin with *., which stands for one label.
func ParseClientName(text string) (ClientName, error) {
	kind, value, found := strings.Cut(text, ":")
	switch {
	case found && (kind == "dns" || kind == "email" || kind == "uri" || kind == "ip"):
	case isAddress(text):
		kind, value = "ip", text
	case found:
		kind, value = "uri", text
	case strings.Contains(text, "@"):
		kind, value = "email", text
	default:
		kind, value = "dns", text
	}

	if strings.Contains(value, "*") && (kind != "dns" || strings.LastIndexByte(value, '*') > 0 || !strings.HasPrefix(value, "*.")) {
		return ClientName{}, fmt.Errorf("%q: a * stands for the first label of a DNS name and for nothing else, as in *.staff.example.com", text)
	}

	parent, wildcard := strings.CutPrefix(value, "*.")
	canonical, ok := CanonicalClientName(kind, parent)
	if !ok {
		what := map[string]string{"dns": "a DNS name", "email": "an e-mail address", "uri": "a URI", "ip": "an address"}[kind]
		return ClientName{}, fmt.Errorf("%q is not %s", text, what)
	}

	if wildcard {
		canonical = "*." + canonical
	}

	return ClientName{kind, canonical}, nil
}

func isAddress(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil
}

// CanonicalClientName is the form of a name of a kind that can be compared byte by byte: DNS names and the hosts of
// the others are in lower case (RFC 5280 sections 7.2, 7.4 and 7.5), the rest of them is kept. ok is false for what
// is no name of that kind.
func CanonicalClientName(kind, name string) (canonical string, ok bool) {
	switch kind {
	case "dns":
		if isAddress(name) {
			return "", false
		}
		return CanonicalHost(name)
	case "ip":
		addr, err := netip.ParseAddr(name)
		return addr.Unmap().String(), err == nil && addr.Zone() == ""
	case "email":
		at := strings.LastIndexByte(name, '@')
		if at < 1 {
			return "", false
		}
		host, ok := CanonicalHost(name[at+1:])
		return name[:at+1] + host, ok
	case "uri":
		u, err := url.Parse(name)
		if err != nil || u.Scheme == "" {
			return "", false
		}
		u.Host = strings.ToLower(u.Host)
		return u.String(), true
	}
	return "", false
}

func (v *validator) clientNames(path string, names *ClientNames) {
	for i, name := range names.Names {
		if _, err := ParseClientName(name); err != nil {
			v.fail(fmt.Sprintf("%s.names[%d]", path, i), "%v", err)
		}
	}
}
