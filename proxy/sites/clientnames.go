package sites

import (
	"crypto/x509"
	"slices"

	"padlock/config"
	"padlock/internal/netname"
)

// clientNames are those of which a client's certificate must have one. They never change.
type clientNames struct {
	names         []config.ClientName
	organizations []string
}

// newClientNames is nil where all certificates that verify are good. Names that are none are left out: the
// configuration has been checked.
func newClientNames(c *config.ClientNames) *clientNames {
	if c == nil {
		return nil
	}
	n := &clientNames{organizations: c.Organizations}
	for _, text := range c.Names {
		if name, err := config.ParseClientName(text); err == nil {
			n.names = append(n.names, name)
		}
	}
	return n
}

// match compares each kind of name with names of that kind alone: whoever may choose the URI in a certificate must not
// pass for a host.
func (n *clientNames) match(c *x509.Certificate) bool {
	if slices.ContainsFunc(c.Subject.Organization, func(o string) bool { return slices.Contains(n.organizations, o) }) {
		return true
	}

	has := func(kind, name string) bool {
		canonical, ok := config.CanonicalClientName(kind, name)
		if !ok {
			return false
		}
		return slices.ContainsFunc(n.names, func(want config.ClientName) bool {
			return want.Kind == kind && (want.Value == canonical || kind == "dns" && netname.Match(want.Value, canonical))
		})
	}

	for _, name := range c.DNSNames {
		if has("dns", name) {
			return true
		}
	}

	for _, name := range c.EmailAddresses {
		if has("email", name) {
			return true
		}
	}

	for _, uri := range c.URIs {
		if has("uri", uri.String()) {
			return true
		}
	}

	for _, ip := range c.IPAddresses {
		if has("ip", ip.String()) {
			return true
		}
	}

	return false
}
