package handshake

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// describer remembers what was found out about the certificates that we send, for as long as they are in use.
type describer struct {
	mu    sync.Mutex
	known map[*tls.Certificate]*Certificate
}

const maxDescribed = 1024

func (d *describer) describe(c *tls.Certificate, k *knowledge) *Certificate {
	d.mu.Lock()
	defer d.mu.Unlock()
	if known, ok := d.known[c]; ok {
		return known
	}

	described := describe(c.Certificate, extras{staple: len(c.OCSPStaple) > 0, timestamps: len(c.SignedCertificateTimestamps) > 0, root: k.root()})
	if described != nil {
		described.origin = k.origin(c)
		described.alone = described.alone && !described.origin.Rooted
	}

	// Begun anew when it is full: certificates that are still in use are soon described again.
	if d.known == nil || len(d.known) >= maxDescribed {
		d.known = map[*tls.Certificate]*Certificate{}
	}

	d.known[c] = described
	return described
}

// DescribeCertificate says what is to be known of a chain, leaf first, and what problems the name and the day make. It
// is nil when the leaf does not parse. The name may be empty.
func DescribeCertificate(chain [][]byte, name string, now time.Time) *Certificate {
	c := describe(chain, extras{unknown: true})
	if c == nil {
		return nil
	}
	return c.against(name, now)
}

// describe parses a server's chain, leaf first; nil when its leaf does not parse.
func describe(chain [][]byte, beside extras) *Certificate {
	c, leaf := describeChain(chain)
	if c == nil {
		return nil
	}
	c.judge(leaf, chain[1:], beside)
	return c
}

// describeClient is describe for a client's chain, which is judged as that.
func describeClient(chain [][]byte) *Certificate {
	c, leaf := describeChain(chain)
	if c == nil {
		return nil
	}
	c.judgeClient(leaf)
	return c
}

func describeChain(chain [][]byte) (*Certificate, *x509.Certificate) {
	if len(chain) == 0 {
		return nil, nil
	}

	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, nil
	}
	c := describeLeaf(leaf)
	c.ChainLength = len(chain)
	for _, der := range chain {
		c.ChainBytes += len(der)
	}
	c.text = certificateText(c)
	c.fields = []slog.Attr{
		slog.String("subject", c.Subject), slog.String("organization", c.Organization), slog.Any("names", c.Names),
		slog.String("issuer", c.Issuer), slog.Time("not_after", c.NotAfter), slog.Int("chain_length", c.ChainLength),
	}
	return c, leaf
}

// ChainNames are the subjects of a chain as it is sent, the leaf first, and in the end whoever issued its last
// certificate. Names are escaped.
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
