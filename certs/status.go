package certs

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strings"
	"time"

	"padlock/certs/acme"
	"padlock/certs/localca"
	"padlock/handshake"
	"padlock/internal/certstatus"
	"padlock/internal/mask"
)

// Status is what is known of a certificate, or of a name that should have one.
type Status = certstatus.Status

func sortStatus(all []Status) []Status {
	slices.SortFunc(all, func(a, b Status) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.KeyType, b.KeyType)) })
	return all
}

// Status lists every name in memory, sorted.
func (m *Manager) Status() []Status {
	var all []Status
	m.names.Range(func(_, value any) bool {
		all = append(all, value.(*managed).status()...)
		return true
	})
	return sortStatus(all)
}

func (n *managed) status() []Status {
	n.mu.Lock()
	base := Status{Name: n.name, OnDemand: n.onDemand, Source: "acme"}
	if n.err != nil {
		base.Error = mask.Text(n.err.Error())
		due := n.due
		base.NextTry = &due
	}

	n.mu.Unlock()
	bundle := n.bundle.Load()
	if bundle == nil {
		base.Expiring = base.Error != ""
		return []Status{base}
	}

	var all []Status
	for _, p := range bundle.Pairs {
		all = append(all, withPair(base, p))
	}

	return all
}

func withPair(s Status, p *acme.Pair) Status {
	s.Issuer, s.KeyType, s.Renewal = p.Issuer, p.Kind, &p.Renewal
	describe(&s, p.Certificate)
	left := time.Until(p.Leaf.NotAfter)
	s.Expiring = left <= 0 || s.Error != "" && left < p.Leaf.NotAfter.Sub(p.Leaf.NotBefore)/3
	return s
}

func describe(s *Status, c *tls.Certificate) {
	s.NotBefore, s.NotAfter = &c.Leaf.NotBefore, &c.Leaf.NotAfter
	s.Names, s.DER = names(c.Leaf), c.Certificate
}

func names(leaf *x509.Certificate) []string {
	all := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		all = append(all, ip.String())
	}
	for i := range all {
		all[i] = handshake.Escape(all[i])
	}
	return all
}

// Status lists the certificates of files.
func (f *Files) Status() []Status {
	var all []Status
	seen := map[*tls.Certificate]bool{}
	for _, pairs := range f.index.Load().byName {
		for _, pair := range pairs {
			if seen[pair] {
				continue
			}

			seen[pair] = true
			d := handshake.DescribeCertificate(pair.Certificate, "", time.Now())
			s := Status{Name: d.Subject, Issuer: d.Issuer, KeyType: d.KeyType, Source: "file", Expiring: time.Now().After(pair.Leaf.NotAfter)}
			describe(&s, pair)
			if f.staples.of(pair.Leaf).revoked {
				s.Error = "the CA has revoked it"
			}

			all = append(all, s)
		}
	}

	return sortStatus(all)
}

// LocalStatus is the local CA's own root, and below it the certificates that it has signed and that are in memory.
func LocalStatus(ca *localca.CA) []Status {
	root := ca.Root()
	var leaves []Status
	for _, leaf := range ca.Leaves() {
		d := handshake.DescribeCertificate(leaf.Certificate, "", time.Now())
		s := Status{Name: cmp.Or(strings.Join(names(leaf.Leaf), ", "), d.Subject), Issuer: d.Issuer, KeyType: d.KeyType, Source: "local"}
		describe(&s, leaf)
		leaves = append(leaves, s)
	}
	return append([]Status{{
		Name: root.Subject.CommonName, Issuer: root.Issuer.CommonName, KeyType: "ECDSA P-256", NotBefore: &root.NotBefore, NotAfter: &root.NotAfter,
		Source: "local", Names: root.PermittedDNSDomains,
	}}, sortStatus(leaves)...)
}
