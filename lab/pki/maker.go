package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"time"
)

// Maker makes what one endpoint shows. Its first error stays, and everything after it does nothing; it is for one
// goroutine.
type Maker struct {
	*Authority
	Host string
	err  error
}

// Maker begins the certificates of a host.
func (a *Authority) Maker(host string) *Maker { return &Maker{Authority: a, Host: host} }

// Err is the first thing that went wrong.
func (m *Maker) Err() error { return m.err }

func (m *Maker) fail(doing string, err error) {
	if m.err == nil && err != nil {
		m.err = fmt.Errorf("%s for %s: %w", doing, m.Host, err)
	}
}

// EC is a new key on a curve.
func (m *Maker) EC(curve elliptic.Curve) crypto.Signer {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	m.fail("making a key", err)
	return key
}

// Key is a new key on P-256, which is what most leaves have.
func (m *Maker) Key() crypto.Signer { return m.EC(elliptic.P256()) }

// Ed25519 is a new key of that kind.
func (m *Maker) Ed25519() crypto.Signer {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	m.fail("making a key", err)
	return key
}

// RSA is a key of so many bits, which endpoints share.
func (m *Maker) RSA(bits int) crypto.Signer {
	key, err := m.keys.rsa(bits)
	m.fail("making a key", err)
	return key
}

// Template is the right leaf for the host.
func (m *Maker) Template() *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{Organization: []string{"padlock lab"}, CommonName: common(m.Host)}, DNSNames: []string{m.Host},
		NotBefore: time.Now().Add(-2 * Day), NotAfter: time.Now().Add(90 * Day), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
}

// common is a name as the subject can hold it: X.520 has 64 letters for it.
func common(host string) string { return host[:min(len(host), 64)] }

// CA is a further authority, made at the first call with its name. Without a parent it is a root of its own.
func (m *Maker) CA(name string, parent *CA, change func(*x509.Certificate)) *CA {
	return m.CAWith(name, parent, nil, change)
}

// CAWith is a CA with a given key; nil: a new one on P-256.
func (m *Maker) CAWith(name string, parent *CA, key crypto.Signer, change func(*x509.Certificate)) *CA {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ca := m.cas[name]; ca != nil {
		return ca
	}

	if key == nil {
		key = m.Key()
	}
	template := caTemplate("padlock lab " + name)
	if change != nil {
		change(template)
	}

	by, issuer := parent, (*x509.Certificate)(nil)
	if parent == nil {
		by = &CA{Key: key}
	} else {
		issuer = parent.Cert
	}
	if m.err != nil {
		return m.Root
	}
	cert, err := sign(template, issuer, key.Public(), by)
	if err != nil {
		m.fail("making the CA "+name, err)
		return m.Root
	}
	ca := &CA{cert, key}
	m.cas[name] = ca
	return ca
}

// Sign signs a template.
func (m *Maker) Sign(template *x509.Certificate, by *CA, key crypto.Signer) []byte {
	if m.err != nil {
		return nil
	}
	cert, err := sign(template, by.Cert, key.Public(), by)
	if err != nil {
		m.fail("signing a certificate", err)
		return nil
	}
	return cert.Raw
}

// Chain is a leaf of the good intermediate, with what the change makes of it.
func (m *Maker) Chain(change func(*x509.Certificate)) *tls.Certificate {
	return m.ChainWith(m.Inter, m.Key(), change, m.Inter)
}

// ChainWith is a leaf with a key, signed by a CA, and what is sent behind it.
func (m *Maker) ChainWith(by *CA, key crypto.Signer, change func(*x509.Certificate), sent ...*CA) *tls.Certificate {
	template := m.Template()
	if _, elliptic := key.(*ecdsa.PrivateKey); !elliptic {
		// The key exchange by RSA encrypts a secret to the key.
		template.KeyUsage |= x509.KeyUsageKeyEncipherment
	}
	if change != nil {
		change(template)
	}
	c := &tls.Certificate{PrivateKey: key, Certificate: [][]byte{m.Sign(template, by, key)}}
	for _, ca := range sent {
		c.Certificate = append(c.Certificate, ca.Cert.Raw)
	}
	return c
}

// SelfSigned is a certificate that nobody vouches for.
func (m *Maker) SelfSigned() *tls.Certificate {
	key, template := m.Key(), m.Template()
	cert, err := sign(template, nil, key.Public(), &CA{Key: key})
	if err != nil {
		m.fail("signing a certificate", err)
		return nil
	}
	return &tls.Certificate{PrivateKey: key, Certificate: [][]byte{cert.Raw}}
}

// Names replaces the names of a template by those of other kinds: tag is that of GeneralName (RFC 5280 section 4.2.1.6).
func Names(t *x509.Certificate, tag int, names ...string) {
	var values []asn1.RawValue
	for _, name := range names {
		values = append(values, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte(name)})
	}
	der, err := asn1.Marshal(values)
	if err != nil {
		panic(err) // names are constants of the table
	}
	t.DNSNames, t.Subject.CommonName = nil, ""
	t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: der})
}

// Tags of GeneralName.
const (
	TagDNS = 2
	TagURI = 6
)

// CATemplate is the certificate of a right CA.
func (m *Maker) CATemplate(name string) *x509.Certificate { return caTemplate("padlock lab " + name) }

// StatusURL is where the revocation server is.
func (m *Maker) StatusURL() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status
}

// Name is the DER of a distinguished name.
func Name(n pkix.Name) ([]byte, error) { return asn1.Marshal(n.ToRDNSequence()) }
