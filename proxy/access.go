package proxy

import (
	"net/netip"

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

// admits reports whether a client address may come.
func (a *access) admits(client netip.Addr) bool {
	if len(a.allow) == 0 && len(a.deny) == 0 {
		return true
	}
	if !client.IsValid() || contains(a.deny, client) {
		return false
	}
	return len(a.allow) == 0 || contains(a.allow, client)
}

func contains(networks []config.Network, addr netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}
