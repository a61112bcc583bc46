package sites

import (
	"maps"
	"net/netip"
	"slices"

	"padlock/config"
)

// Access says who may come.
type Access struct {
	allow, deny []config.Network
	basic       *BasicAuth // nil: nobody is asked
	rate        *RateLimit // nil: none
}

// RateLimit is how many requests each client may send.
type RateLimit struct {
	*config.RateLimit
	// The site or route that has it: what stands in the configuration under the same name after a reload is the same.
	Whose string
}

func newAccess(c *config.Access, whose string) Access {
	a := Access{allow: c.Allow, deny: c.Deny}
	if c.RateLimit != nil {
		a.rate = &RateLimit{c.RateLimit, whose}
	}
	if c.BasicAuth != nil {
		a.basic = NewBasicAuth(c.BasicAuth)
	}
	return a
}

// RateLimit returns how many requests each client may send; nil: any number.
func (a *Access) RateLimit() *RateLimit { return a.rate }

// Lists reports whether an address is asked for.
func (a *Access) Lists() bool { return len(a.allow)+len(a.deny) > 0 }

// Admits reports whether a client address may come.
func (a *Access) Admits(client netip.Addr) bool {
	if !a.Lists() {
		return true
	}
	// What is denied stays denied within an allowed network. A client without an address is refused, as no list can be
	// applied to it.
	if !client.IsValid() || Contains(a.deny, client) {
		return false
	}
	return len(a.allow) == 0 || Contains(a.allow, client)
}

// Contains reports whether an address is of one of the networks.
func Contains(networks []config.Network, addr netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}

// BasicAuth knows the names and bcrypt hashes of one realm.
type BasicAuth struct {
	Challenge string
	Users     map[string]string
	Hashes    []string // of users, sorted
}

func NewBasicAuth(c *config.BasicAuth) *BasicAuth {
	return &BasicAuth{
		Challenge: `Basic realm="` + c.Realm + `", charset="UTF-8"`, Users: c.Users, Hashes: slices.Sorted(maps.Values(c.Users)),
	}
}

// BasicAuth returns whose names and passwords a route goes by: its own, or its site's; nil: nobody's.
func (r *Route) BasicAuth(s *Site) *BasicAuth {
	if r.Access.basic != nil {
		return r.Access.basic
	}
	return s.Access.basic
}
