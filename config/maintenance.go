package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"padlock/internal/regular"
)

func (v *validator) maintenance(path string, m *Maintenance) {
	if m.Page != "" && m.Message != "" {
		v.fail(path+".message", "goes without page, which says all that there is to say")
	}
	if m.Page != "" {
		if _, err := regular.Public(m.Page, MaxErrorPage); err != nil {
			v.fail(path+".page", "%v", v.inDirectory(m.Page, err))
		}
	}
	if _, err := m.End(); err != nil {
		v.fail(path+".until", "%v", err)
	}

	for i, one := range m.Paths {
		at := fmt.Sprintf("%s.paths[%d]", path, i)
		switch {
		case !strings.HasPrefix(one, "/"):
			v.fail(at, "%q must begin with a slash", one)
		case strings.ContainsAny(one, "?#"):
			v.fail(at, "%q is more than a path: leave out what follows it", one)
		case slices.Contains(m.Paths[:i], one):
			v.fail(at, "%s is given twice", one)
		}
	}
}

// End is when maintenance ends; zero: when it is switched off.
func (m *Maintenance) End() (at time.Time, err error) {
	if m.Until == "" {
		return at, nil
	}
	if at, err = time.Parse(time.RFC3339, m.Until); err != nil {
		return at, fmt.Errorf("%q is not a time such as 2026-12-01T06:00:00Z or 2026-12-01T07:00:00+01:00", m.Until)
	}
	return at, nil
}
