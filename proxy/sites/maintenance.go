package sites

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"padlock/config"
)

// Maintenance is that of a site, while it is on.
type Maintenance struct {
	Message string     // "": padlock's
	Page    *ErrorPage // nil: none of its own
	Until   time.Time  // zero: until it is switched off
	allow   []config.Network
	paths   []string
}

// maintenance is nil where it is off.
func (b *builder) maintenance(c *config.Site) (*Maintenance, error) {
	m := c.Maintenance
	if m == nil || !m.On {
		return nil, nil
	}

	until, err := m.End()
	if err != nil {
		return nil, fmt.Errorf("site %s: maintenance.until: %w", c.Hosts[0], err)
	}
	made := &Maintenance{Message: m.Message, Until: until, allow: m.Allow, paths: m.Paths}
	if m.Page != "" {
		if made.Page, err = b.errorPage(m.Page); err != nil {
			return nil, fmt.Errorf("site %s: maintenance.page: %w", c.Hosts[0], err)
		}
	}
	return made, nil
}

// Holds reports whether a client is not served: nobody is when maintenance has ended.
func (m *Maintenance) Holds(client netip.Addr, path string, now time.Time) bool {
	switch {
	case m == nil, !m.Until.IsZero() && !now.Before(m.Until):
		return false
	case slices.Contains(m.paths, path):
		return false
	}
	return !Contains(m.allow, client)
}
