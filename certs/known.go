package certs

import (
	"crypto/tls"
	"errors"
	"slices"
	"time"

	"padlock/certs/acme"
)

// Pending is why a managed name has no certificate yet.
type Pending struct {
	Cause, Remedy string
	Tries         int
	Next          time.Time // zero: a try is under way
}

// Pending reports whether a canonical name is managed and has no certificate to serve, and why.
func (m *Manager) Pending(name string) (p Pending, ok bool) {
	n := m.find(name)
	if n == nil || n.bundle.Load() != nil {
		return p, false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	p.Tries = n.failed
	if !n.busy {
		p.Next = n.due
	}

	var reason *acme.Error
	switch {
	case errors.As(n.err, &reason):
		p.Cause, p.Remedy = reason.Cause, reason.Remedy
	case n.err != nil:
		p.Cause = n.err.Error()
	}

	return p, true
}

// holds reports whether a certificate is one of those that are looked after.
func (m *Manager) holds(c *tls.Certificate) bool {
	for _, name := range c.Leaf.DNSNames {
		n := m.find(name)
		if n == nil {
			continue
		}
		if bundle := n.bundle.Load(); bundle != nil && slices.ContainsFunc(bundle.Pairs, func(p *acme.Pair) bool { return p.Certificate == c }) {
			return true
		}
	}
	return false
}

// Kinds of where a certificate comes from.
const (
	FromFile     = "file"
	FromCA       = "acme"
	FromLocalCA  = "local"
	FromImported = "imported"
)

// Place is where a certificate comes from.
type Place struct {
	Kind   string // one of those above; "" if that is not known any more
	File   string // of a file's
	Index  int    // of a file's, among certificates.files
	Rooted bool   // its issuer stands in the files, and is a root
}

// Find says where a certificate comes from that was served. It may be called from many goroutines.
func (s *Source) Find(c *tls.Certificate) Place {
	if from, ok := s.o.Files.index.Load().from[c]; ok {
		return from
	}
	switch {
	case c.Leaf == nil:
		return Place{}
	case s.o.Manager != nil && s.o.Manager.holds(c):
		return Place{Kind: FromCA}
	case s.o.Local != nil && c.Leaf.CheckSignatureFrom(s.o.Local.Root()) == nil:
		return Place{Kind: FromLocalCA}
	}
	return Place{}
}

// Pending reports whether a canonical name has no certificate yet from the CA that is asked for it, and why.
func (s *Source) Pending(name string) (Pending, bool) {
	if s.o.Manager == nil || !s.o.Files.index.Load().named(name).none() {
		return Pending{}, false
	}
	return s.o.Manager.Pending(name)
}
