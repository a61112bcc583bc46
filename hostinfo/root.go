package hostinfo

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"strings"
	"time"
)

// Root is the local CA's certificate, and what a person should know of it.
type Root struct {
	Certificate *x509.Certificate
	Name        string
	Fingerprint string // SHA-256, as systems and browsers show it
	Until       time.Time
	Domains     []string // for which it can sign, with all names below them
	Networks    []string
}

// NewRoot reads a certificate.
func NewRoot(certificate *x509.Certificate) *Root {
	r := &Root{
		Certificate: certificate, Name: certificate.Subject.CommonName, Fingerprint: Fingerprint(certificate),
		Until: certificate.NotAfter.UTC(), Domains: certificate.PermittedDNSDomains,
	}
	for _, n := range certificate.PermittedIPRanges {
		r.Networks = append(r.Networks, n.String())
	}
	return r
}

// Fingerprint is a certificate's SHA-256 as systems and browsers show it.
func Fingerprint(certificate *x509.Certificate) string {
	sum := sha256.Sum256(certificate.Raw)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum), " ", ":")
}

// Lines of the fingerprint that two people can read to each other: four, of eight bytes each.
func (r *Root) Lines() []string {
	var lines []string
	for rest := r.Fingerprint; rest != ""; {
		n := min(len("AA:BB:CC:DD:EE:FF:00:11"), len(rest))
		lines = append(lines, rest[:n])
		rest = strings.TrimPrefix(rest[n:], ":")
	}
	return lines
}
