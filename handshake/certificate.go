package handshake

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// describer remembers what was found out about the certificates that we send, for as long as they are in use.
type describer struct {
	mu    sync.Mutex
	known map[*tls.Certificate]*Certificate
}

const maxDescribed = 1024

func (d *describer) describe(c *tls.Certificate) *Certificate {
	d.mu.Lock()
	defer d.mu.Unlock()
	if known, ok := d.known[c]; ok {
		return known
	}
	described := describe(c.Certificate)
	if d.known == nil || len(d.known) >= maxDescribed {
		d.known = map[*tls.Certificate]*Certificate{}
	}
	d.known[c] = described
	return described
}

// DescribeCertificate says what is to be known of a chain, leaf first, and what problems the name and the day make. It is nil when the leaf
// does not parse. The name may be empty.
func DescribeCertificate(chain [][]byte, name string, now time.Time) *Certificate {
	c := describe(chain)
	if c == nil {
		return nil
	}
	return c.against(name, now)
}

// describe parses a chain, leaf first; nil when its leaf does not parse.
func describe(chain [][]byte) *Certificate {
	if len(chain) == 0 {
		return nil
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil
	}
	c := describeLeaf(leaf)
	c.ChainLength = len(chain)
	for _, der := range chain {
		c.ChainBytes += len(der)
	}
	c.Problems = append(leafProblems(leaf), chainProblems(leaf, chain[1:])...)
	c.text = certificateText(c)
	c.fields = []slog.Attr{
		slog.String("subject", c.Subject), slog.String("organization", c.Organization), slog.Any("names", c.Names),
		slog.String("issuer", c.Issuer), slog.Time("not_after", c.NotAfter), slog.Int("chain_length", c.ChainLength),
	}
	return c
}

// ChainNames are the subjects of a chain as it is sent, the leaf first, and in the end whoever issued its last certificate. Names are escaped.
func ChainNames(chain [][]byte) (names []string) {
	var issuer string
	for _, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return names
		}
		d := describeLeaf(c)
		names, issuer = append(names, cmp.Or(d.Subject, d.Organization)), d.Issuer
	}
	if len(names) > 0 && issuer != names[len(names)-1] {
		names = append(names, issuer)
	}
	return names
}

func describeLeaf(leaf *x509.Certificate) *Certificate {
	c := &Certificate{
		Subject: Escape(leaf.Subject.CommonName), Issuer: Escape(leaf.Issuer.CommonName),
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, KeyType: keyType(leaf),
	}
	if len(leaf.Subject.Organization) > 0 {
		c.Organization = Escape(leaf.Subject.Organization[0])
	}
	for _, name := range leaf.DNSNames {
		c.Names = append(c.Names, Escape(name))
	}
	for _, ip := range leaf.IPAddresses {
		c.Names = append(c.Names, ip.String())
	}
	if c.Issuer == "" && len(leaf.Issuer.Organization) > 0 {
		c.Issuer = Escape(leaf.Issuer.Organization[0])
	}
	if c.Subject == "" && len(c.Names) > 0 {
		c.Subject = c.Names[0]
	}
	return c
}

func keyType(leaf *x509.Certificate) string {
	switch key := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", key.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + key.Curve.Params().Name
	}
	return leaf.PublicKeyAlgorithm.String()
}

// Lifetimes that browsers accept at most, by the day of issue (CA/Browser Forum ballot SC-081v3).
var lifetimes = []struct {
	from time.Time
	days int
}{
	{time.Date(2029, 3, 15, 0, 0, 0, 0, time.UTC), 47},
	{time.Date(2027, 3, 15, 0, 0, 0, 0, time.UTC), 100},
	{time.Date(2026, 3, 15, 0, 0, 0, 0, time.UTC), 200},
	{time.Date(2020, 9, 1, 0, 0, 0, 0, time.UTC), 398},
}

// longest is how many days a certificate may be valid: 825 from a CA that the user installed (Apple HT210176), less from a public one,
// whose leaves say where their issuer can be had.
func longest(leaf *x509.Certificate) int {
	if len(leaf.IssuingCertificateURL) > 0 {
		for _, l := range lifetimes {
			if !leaf.NotBefore.Before(l.from) {
				return l.days
			}
		}
	}
	return 825
}

// leafProblems are those that do not depend on the name asked for or on the day.
func leafProblems(leaf *x509.Certificate) (problems []string) {
	if len(leaf.DNSNames)+len(leaf.IPAddresses) == 0 {
		problems = append(problems, "it names no host (no subject alternative name)")
	}
	if len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) > 0 && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny) {
		problems = append(problems, "it is not for servers (no serverAuth in its extended key usage)")
	}
	switch key := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < 2048 {
			problems = append(problems, fmt.Sprintf("its RSA key has only %d bits", key.N.BitLen()))
		}
	case *ecdsa.PublicKey:
	default:
		problems = append(problems, "browsers do not support its key type")
	}
	switch leaf.SignatureAlgorithm {
	case x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.MD5WithRSA:
		problems = append(problems, "it is signed with "+leaf.SignatureAlgorithm.String()+", which browsers refuse")
	}
	if leaf.NotAfter.Sub(leaf.NotBefore) > time.Duration(longest(leaf))*24*time.Hour {
		problems = append(problems, "it is valid for longer than browsers accept")
	}
	return problems
}

// chainProblems looks at order and completeness. Whether the client has the root cannot be known here.
func chainProblems(leaf *x509.Certificate, rest [][]byte) []string {
	last := leaf
	for i, der := range rest {
		next, err := x509.ParseCertificate(der)
		if err != nil {
			return []string{fmt.Sprintf("certificate %d of its chain does not parse", i+2)}
		}
		if last.CheckSignatureFrom(next) != nil {
			return []string{fmt.Sprintf("its chain is out of order: certificate %d did not issue the one before it", i+2)}
		}
		last = next
	}
	// A leaf from a public CA says where its issuer's certificate can be had, and is issued by an intermediate.
	if len(rest) == 0 && len(leaf.IssuingCertificateURL) > 0 {
		return []string{"its chain is incomplete: the intermediate certificate is missing"}
	}
	return nil
}

// against adds the problems that the name asked for and the day make.
func (c *Certificate) against(name string, now time.Time) *Certificate {
	problems := slices.Clip(c.Problems)
	switch {
	case now.After(c.NotAfter):
		problems = append(problems, "it expired on "+c.NotAfter.UTC().Format(time.DateOnly))
	case now.Before(c.NotBefore):
		problems = append(problems, "it is not valid before "+c.NotBefore.UTC().Format(time.DateOnly))
	}
	if name != "" && len(c.Names) > 0 && !c.covers(name) {
		problems = append(problems, "it is not for "+name)
	}
	if len(problems) == len(c.Problems) {
		return c
	}
	judged := *c
	judged.Problems = problems
	return &judged
}

// covers is RFC 9525 section 6.3: a wildcard stands for exactly one label.
func (c *Certificate) covers(name string) bool {
	return slices.ContainsFunc(c.Names, func(pattern string) bool { return matches(pattern, name) })
}

// matches compares an escaped name of a certificate with a server name.
func matches(pattern, name string) bool {
	if suffix, ok := strings.CutPrefix(pattern, "*."); ok {
		_, parent, found := strings.Cut(name, ".")
		return found && strings.EqualFold(parent, suffix)
	}
	return strings.EqualFold(pattern, name)
}
