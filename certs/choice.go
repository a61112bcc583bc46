package certs

import (
	"crypto/tls"
	"crypto/x509"
	"time"
)

// candidates are certificates for one name, in the order of the configuration.
type candidates struct{ exact, wildcard []*tls.Certificate }

func (c candidates) none() bool { return len(c.exact)+len(c.wildcard) == 0 }

// choose returns the certificate to show: one that the client can use before one that it cannot, then one that is
// valid now, then the exact name before the wildcard, then the key type that comes first, then the one that is valid
// for longest. Nil where there is none.
func (c candidates) choose(hello *tls.ClientHelloInfo) *tls.Certificate {
	switch {
	case c.none():
		return nil
	case len(c.wildcard) == 0 && len(c.exact) == 1:
		return c.exact[0]
	case len(c.exact) == 0 && len(c.wildcard) == 1:
		return c.wildcard[0]
	}

	var best *tls.Certificate
	var least rank
	now, kinds := time.Now(), make([]x509.PublicKeyAlgorithm, 0, 4)
	for i, list := range [...][]*tls.Certificate{c.exact, c.wildcard} {
		for _, pair := range list {
			r := rank{hello.SupportsCertificate(pair) != nil, !validAt(pair.Leaf, now), i == 1, place(&kinds, pair.Leaf.PublicKeyAlgorithm)}
			if best == nil || r.before(least) || r == least && pair.Leaf.NotAfter.After(best.Leaf.NotAfter) {
				best, least = pair, r
			}
		}
	}

	return best
}

// rank is what speaks against a certificate, the weightiest first.
type rank struct {
	unsupported, invalid, wildcard bool
	kind                           int
}

func (r rank) before(other rank) bool {
	switch {
	case r.unsupported != other.unsupported:
		return other.unsupported
	case r.invalid != other.invalid:
		return other.invalid
	case r.wildcard != other.wildcard:
		return other.wildcard
	}
	return r.kind < other.kind
}

// place is when a key type came first.
func place(kinds *[]x509.PublicKeyAlgorithm, kind x509.PublicKeyAlgorithm) int {
	for i, k := range *kinds {
		if k == kind {
			return i
		}
	}
	*kinds = append(*kinds, kind)
	return len(*kinds) - 1
}
