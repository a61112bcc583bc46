package handshake

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// maker makes certificates.
type maker struct {
	t      *testing.T
	serial int64
}

type made struct {
	*x509.Certificate
	key any
}

func (m *maker) make(template *x509.Certificate, key any, by *made) *made {
	m.t.Helper()
	if key == nil {
		key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	m.serial++
	template.SerialNumber = big.NewInt(m.serial)
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(90*24*time.Hour)
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.Certificate, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.(crypto.Signer).Public(), signer)
	if err != nil {
		m.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		m.t.Fatal(err)
	}
	return &made{c, key}
}

func (m *maker) ca(name string, by *made, change func(*x509.Certificate)) *made {
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	if change != nil {
		change(template)
	}
	return m.make(template, nil, by)
}

func server(change func(*x509.Certificate)) *x509.Certificate {
	c := &x509.Certificate{
		Subject: pkix.Name{CommonName: "a.example"}, DNSNames: []string{"a.example"}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(c)
	}
	return c
}

// Our own certificate and chain are judged completely: what any client minds, what browsers do, and what only few do.
func TestAServersCertificateIsJudgedCompletely(t *testing.T) {
	m := &maker{t: t}
	root := m.ca("Root", nil, nil)
	middle := m.ca("Middle", root, nil)
	leaf := m.make(server(nil), nil, middle)
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	bounded := m.ca("Bounded", root, func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"b.example"}, true
	})
	short := m.ca("Short", root, func(c *x509.Certificate) { c.MaxPathLenZero = true })
	below := m.ca("Below", short, nil)
	stale := m.ca("Stale", root, func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	})
	unsigning := m.ca("Unsigning", root, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature })
	noCA := m.make(&x509.Certificate{Subject: pkix.Name{CommonName: "No CA"}, BasicConstraintsValid: true}, nil, root)
	namesake := m.ca("Middle", root, nil) // the same name, another key
	vague := m.ca("Vague", root, func(c *x509.Certificate) { c.KeyUsage = 0 })
	bare := m.ca("Bare", root, nil)
	bare.SubjectKeyId = nil // what it signs says nothing of its key
	issued := func(by *made, key any, change func(*x509.Certificate)) *x509.Certificate {
		return m.make(server(change), key, by).Certificate
	}
	feature, _ := asn1.Marshal([]int{5})
	public := func(c *x509.Certificate) {
		policy, _ := x509.OIDFromInts([]uint64{2, 23, 140, 1, 2, 1})
		c.Policies = []x509.OID{policy}
	}
	days := func(n int) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Duration(n)*24*time.Hour)
		}
	}

	for name, c := range map[string]struct {
		chain  []*x509.Certificate
		host   string
		beside extras
		want   string // a part of a fault's text; "": none
		by     refusers
	}{
		"in order":                 {[]*x509.Certificate{leaf.Certificate, middle.Certificate}, "a.example", extras{}, "", 0},
		"with its root":            {[]*x509.Certificate{leaf.Certificate, middle.Certificate, root.Certificate}, "a.example", extras{}, "", 0},
		"another name":             {[]*x509.Certificate{leaf.Certificate}, "b.example", extras{}, "it is not for b.example (but for a.example)", everybody},
		"for clients":              {[]*x509.Certificate{issued(root, nil, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })}, "a.example", extras{}, "not for servers", everybody},
		"a key that may not sign":  {[]*x509.Certificate{issued(root, nil, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })}, "a.example", extras{}, "may not sign", browsers},
		"a CA's own":               {[]*x509.Certificate{issued(root, nil, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })}, "a.example", extras{}, "a CA's own certificate", someone},
		"no names":                 {[]*x509.Certificate{issued(root, nil, func(c *x509.Certificate) { c.DNSNames = nil })}, "", extras{}, "common name, which clients ignore", everybody},
		"an address as a DNS name": {[]*x509.Certificate{issued(root, nil, func(c *x509.Certificate) { c.DNSNames = []string{"192.0.2.1"} })}, "192.0.2.1", extras{}, "not for 192.0.2.1 as an address, but as a DNS name", everybody},
		"an address":               {[]*x509.Certificate{issued(root, nil, func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)} })}, "192.0.2.1", extras{}, "", 0},
		"Ed25519":                  {[]*x509.Certificate{issued(root, edKey, nil)}, "a.example", extras{}, "do not support its key type", browsers},
		"P-521":                    {[]*x509.Certificate{issued(root, p521, nil)}, "a.example", extras{}, "P-521", someone},
		"RSA 2048":                 {[]*x509.Certificate{issued(root, rsa2048, nil)}, "a.example", extras{}, "", 0},
		"expired":                  {[]*x509.Certificate{issued(root, nil, days(-1))}, "a.example", extras{}, "", 0}, // see below
		"500 days":                 {[]*x509.Certificate{issued(root, nil, days(500))}, "a.example", extras{}, "valid for 500 days", someone},
		"900 days":                 {[]*x509.Certificate{issued(root, nil, days(900))}, "a.example", extras{}, "accept 825 at most", browsers},
		"500 days, public":         {[]*x509.Certificate{issued(root, nil, func(c *x509.Certificate) { days(500)(c); public(c) })}, "a.example", extras{timestamps: true}, "valid for 500 days", browsers},
		"not in the logs":          {[]*x509.Certificate{issued(root, nil, public)}, "a.example", extras{}, "certificate transparency", browsers},
		"nobody knows":             {[]*x509.Certificate{issued(root, nil, public)}, "a.example", extras{unknown: true}, "", 0},
		"must-staple":              {[]*x509.Certificate{issued(root, nil, func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{{Id: oidFeatures, Value: feature}} })}, "a.example", extras{}, "must-staple", browsers},
		"must-staple, stapled":     {[]*x509.Certificate{issued(root, nil, func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{{Id: oidFeatures, Value: feature}} })}, "a.example", extras{staple: true}, "", 0},
		"critical": {[]*x509.Certificate{issued(root, nil, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		})}, "a.example", extras{}, "critical extension", everybody},
		"no intermediate":         {[]*x509.Certificate{issued(middle, nil, func(c *x509.Certificate) { c.IssuingCertificateURL = []string{"http://ca.example/m.crt"} })}, "a.example", extras{}, "the intermediate certificate is missing", everybody},
		"out of order":            {[]*x509.Certificate{leaf.Certificate, root.Certificate, middle.Certificate}, "a.example", extras{}, "out of order", everybody},
		"a gap":                   {[]*x509.Certificate{leaf.Certificate, root.Certificate}, "a.example", extras{}, "the certificate of Middle, which issued certificate 1, is missing", everybody},
		"twice":                   {[]*x509.Certificate{leaf.Certificate, leaf.Certificate}, "a.example", extras{}, "certificate 1 twice", someone},
		"another key":             {[]*x509.Certificate{leaf.Certificate, namesake.Certificate}, "a.example", extras{}, "not by the key of Middle", everybody},
		"no CA above":             {[]*x509.Certificate{issued(noCA, nil, nil), noCA.Certificate}, "a.example", extras{}, "No CA, which is no CA", everybody},
		"a CA that may not sign":  {[]*x509.Certificate{issued(unsigning, nil, nil), unsigning.Certificate}, "a.example", extras{}, "Unsigning, whose key may not sign certificates", everybody},
		"beyond a CA's names":     {[]*x509.Certificate{issued(bounded, nil, nil), bounded.Certificate}, "a.example", extras{}, "name constraints", everybody},
		"too many CAs":            {[]*x509.Certificate{issued(below, nil, nil), below.Certificate, short.Certificate, root.Certificate}, "a.example", extras{}, "path length", everybody},
		"an expired intermediate": {[]*x509.Certificate{issued(stale, nil, nil), stale.Certificate}, "a.example", extras{}, "intermediate certificate Stale expired", everybody},
		"our CA's older key":      {[]*x509.Certificate{leaf.Certificate}, "a.example", extras{root: namesake.Certificate}, "the CA's key was replaced", everybody},
		"no authority key":        {[]*x509.Certificate{issued(bare, nil, nil)}, "a.example", extras{}, "it has no authority key identifier", strict},
		"a CA without key usage":  {[]*x509.Certificate{issued(vague, nil, nil), vague.Certificate}, "a.example", extras{}, "the certificate of Vague has no key usage", strict},
		"a leaf that may sign":    {[]*x509.Certificate{issued(root, nil, func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign })}, "a.example", extras{}, "keyCertSign, and it is no CA", strict},
		"our CA's bounds":         {[]*x509.Certificate{issued(bounded, nil, nil)}, "a.example", extras{root: bounded.Certificate}, "name constraints", everybody},
	} {
		t.Run(name, func(t *testing.T) {
			var chain [][]byte
			for _, c := range c.chain {
				chain = append(chain, c.Raw)
			}
			if name == "expired" {
				c.want = "it expired on"
			}
			got := describe(chain, c.beside)
			if got == nil {
				t.Fatal("it does not parse")
			}
			got = got.against(c.host, time.Now())
			for _, f := range got.faults {
				if c.want != "" && strings.Contains(f.text, c.want) {
					if f.by != c.by {
						t.Errorf("%s: minded by %v", f.text, f.by)
					}
					return
				}
			}
			if c.want != "" || len(got.faults) > 0 {
				t.Errorf("%+v", got.faults)
			}
		})
	}
}

// A client's certificate is judged as that: it needs no names, and may be for clients only.
func TestAClientsCertificateIsJudgedAsThat(t *testing.T) {
	m := &maker{t: t}
	root := m.ca("Root", nil, nil)
	alice := m.make(&x509.Certificate{Subject: pkix.Name{CommonName: "alice"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, nil, root)
	if c := describeClient([][]byte{alice.Raw}); len(c.Problems) > 0 || !c.alone {
		t.Errorf("%v", c.Problems)
	}
	site := m.make(server(nil), nil, root)
	if c := describeClient([][]byte{site.Raw}); len(c.Problems) != 1 || !strings.Contains(c.Problems[0], "not for clients") {
		t.Errorf("%v", c.Problems)
	}
}
