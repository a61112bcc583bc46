package certs

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// pair is a certificate with its key, and the file that the certificate stands in.
type pair struct {
	*tls.Certificate
	file   string
	issuer *x509.Certificate // nil: it stands in no file
	doubt  error             // what is wrong with its chain
}

type publicKey interface{ Equal(crypto.PublicKey) bool }

// pairs puts each certificate together with the key that it is made for, and with its chain. Those that another one
// makes useless are left out. Of a directory, a file whose certificate has lost its key, as between two writes of who
// renews it, keeps its pair from before, and is noted.
func (m *material) pairs(before []pair) ([]pair, error) {
	now := time.Now()
	all := m.matches(now)
	if len(all) == 0 && len(m.keys()) > 0 && len(m.certificates()) > 0 && !m.directory {
		return nil, errors.New("key and certificate do not belong together: none of the certificates is made for the private key")
	}
	if m.directory {
		all = append(all, m.orphaned(all, before)...)
	}
	return useful(all, now), nil
}

func (m *material) matches(now time.Time) (all []pair) {
	keys, others := m.keys(), m.authorities()
	for _, p := range m.parts {
		for _, leaf := range p.certificates {
			// The key decides, and not the order or the names of files.
			k := slices.IndexFunc(keys, func(key crypto.Signer) bool {
				public, ok := key.Public().(publicKey)
				return ok && public.Equal(leaf.PublicKey)
			})
			if k < 0 {
				continue
			}

			c := &tls.Certificate{PrivateKey: keys[k], Leaf: leaf}
			links, doubt := chain(leaf, p.certificates, others, now)
			for _, link := range links {
				c.Certificate = append(c.Certificate, link.Raw)
			}

			issuer := firstIssuer(leaf, p.certificates)
			if issuer == nil {
				issuer = bestIssuer(leaf, others, now)
			}

			all = append(all, pair{c, p.file, issuer, doubt})
		}
	}
	return all
}

// authorities are the CAs of all files, each once.
func (m *material) authorities() (all []*x509.Certificate) {
	seen := map[string]bool{}
	for _, c := range append(m.certificates(), m.intermediates...) {
		if c.IsCA && !seen[string(c.Raw)] {
			seen[string(c.Raw)] = true
			all = append(all, c)
		}
	}
	return all
}

// orphaned are pairs from before whose file is still there, and has no certificate with its key any more.
func (m *material) orphaned(now, before []pair) (kept []pair) {
	for _, old := range before {
		if m.of(old.file) == nil || slices.ContainsFunc(now, func(p pair) bool { return p.file == old.file || p.Leaf.Equal(old.Leaf) }) {
			continue
		}
		kept = append(kept, old)
		if !slices.ContainsFunc(slices.Concat(m.unusable, m.orphans), func(u Unusable) bool { return u.File == old.file }) {
			m.orphans = append(m.orphans, Unusable{old.file, fmt.Errorf("%s: none of the private keys in its directory belongs to its certificate", old.file)})
		}
	}
	return kept
}

// useful leaves out what another pair of the same key and names makes useless: one that is valid already, and for as
// long. What is not valid yet stays beside what is. Of the same certificate in two files, the longer chain counts.
func useful(all []pair, now time.Time) (kept []pair) {
	for i, p := range all {
		useless := slices.IndexFunc(all, func(other pair) bool {
			switch {
			case other.Certificate == p.Certificate:
				return false
			case other.Leaf.Equal(p.Leaf):
				return len(other.Certificate.Certificate) > len(p.Certificate.Certificate) ||
					len(other.Certificate.Certificate) == len(p.Certificate.Certificate) && slices.Index(all, other) < i
			case !sameUse(other.Leaf, p.Leaf) || now.Before(other.Leaf.NotBefore) || other.Leaf.NotAfter.Before(p.Leaf.NotAfter):
				return false
			}
			return other.Leaf.NotAfter.After(p.Leaf.NotAfter) || other.Leaf.NotBefore.After(p.Leaf.NotBefore) ||
				other.Leaf.NotBefore.Equal(p.Leaf.NotBefore) && slices.Index(all, other) < i
		}) >= 0

		if !useless {
			kept = append(kept, p)
		}
	}
	return kept
}

// sameUse reports whether two certificates are of the same key and names.
func sameUse(a, b *x509.Certificate) bool {
	key, ok := a.PublicKey.(publicKey)
	return ok && key.Equal(b.PublicKey) && slices.Equal(a.DNSNames, b.DNSNames) && fmt.Sprint(a.IPAddresses) == fmt.Sprint(b.IPAddresses)
}

// load makes pairs of what an entry holds. What cannot be used is an error; what is merely unwise is warned about.
func load(e *entry, log *slog.Logger) ([]pair, *material, error) {
	name := e.name
	m, err := e.read(log)
	if err != nil {
		return nil, m, fmt.Errorf("loading the certificate %s: %w", name, err)
	}

	pairs, err := m.pairs(e.pairs)
	if err != nil {
		return nil, m, fmt.Errorf("loading the certificate %s: %w", name, err)
	}
	if len(pairs) == 0 && len(m.folders) > 0 {
		log.Warn("no certificate with its key was found", "directory", name)
	}

	for _, pair := range pairs {
		if len(pair.Leaf.DNSNames)+len(pair.Leaf.IPAddresses) == 0 {
			log.Warn("certificate names no host; browsers will refuse it", "file", name)
		}
		if pair.doubt != nil {
			log.Warn("the chain of a certificate cannot be verified; it is sent as it stands in the file, and clients may refuse it",
				"file", cmp.Or(pair.file, name), "reason", pair.doubt, "remedy", "put the CA's intermediate certificates behind the certificate")
		}
	}

	m.warnUnused(pairs, log)
	return pairs, m, nil
}

// warnUnused names certificates of CAs that stand beside a certificate, and lead from it to nowhere. A directory may
// hold anything.
func (m *material) warnUnused(pairs []pair, log *slog.Logger) {
	if m.directory {
		return
	}
	for _, p := range m.parts {
		for _, c := range p.certificates {
			sent := slices.ContainsFunc(pairs, func(pair pair) bool {
				return slices.ContainsFunc(pair.Certificate.Certificate, func(raw []byte) bool { return bytes.Equal(raw, c.Raw) })
			})
			if c.IsCA && !selfIssued(c) && !sent {
				log.Warn("a certificate of a CA is not sent: no chain of its file leads to it", "file", p.file, "subject", c.Subject.String(),
					"remedy", "put the intermediate certificates there that the CA has given out with the certificate")
			}
		}
	}
}
