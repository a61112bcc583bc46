package proxy

import (
	"maps"
	"net/netip"
	"slices"

	"padlock/config"
)

// access says who may come.
type access struct {
	allow, deny []config.Network
	basic       *basicAuth // nil: nobody is asked
}

func newAccess(c *config.Access) access {
	a := access{allow: c.Allow, deny: c.Deny}
	if c.BasicAuth != nil {
		a.basic = newBasicAuth(c.BasicAuth)
	}
	return a
}

// lists reports whether an address is asked for.
func (a *access) lists() bool { return len(a.allow)+len(a.deny) > 0 }

// admits reports whether a client address may come.
func (a *access) admits(client netip.Addr) bool {
	if !a.lists() {
		return true
	}
	if !client.IsValid() || contains(a.deny, client) {
		return false
	}
	return len(a.allow) == 0 || contains(a.allow, client)
}

// contains reports whether an address is of one of the networks.
func contains(networks []config.Network, addr netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}

// basicAuth knows the names and bcrypt hashes of one realm.
type basicAuth struct {
	challenge string
	users     map[string]string
	hashes    []string // of users, sorted
}

func newBasicAuth(c *config.BasicAuth) *basicAuth {
	return &basicAuth{
		challenge: `Basic realm="` + c.Realm + `", charset="UTF-8"`, users: c.Users, hashes: slices.Sorted(maps.Values(c.Users)),
	}
}

// basicAuth returns whose names and passwords a route goes by: its own, or its site's; nil: nobody's.
func (r *route) basicAuth(s *site) *basicAuth {
	if r.access.basic != nil {
		return r.access.basic
	}
	return s.access.basic
}
