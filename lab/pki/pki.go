// Package pki makes the certificates of the lab: right ones, and ones with a single fault each.
//
//	a, err := pki.New()
//	m := a.Maker("expired.lab.localhost")
//	chain := m.Chain(func(t *x509.Certificate) { t.NotAfter = time.Now().Add(-time.Hour) })
//	if m.Err() != nil { … }
//
// Keys and certificates are made when they are first wanted.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"time"

	"padlock/internal/hint"
	"padlock/internal/pemfile"
)

// Authority is the lab's root with all that hangs on it. It is safe for use from many goroutines.
type Authority struct {
	Root  *CA
	Inter *CA // signs the leaves

	keys    keys
	mu      sync.Mutex
	cas     map[string]*CA
	status  string // URL of the server that tells revocations
	serials map[string]Status
}

// CA signs certificates.
type CA struct {
	Cert *x509.Certificate
	Key  crypto.Signer
}

// Day is the unit of validity.
const Day = 24 * time.Hour

// rootLife is how long a stored root is valid.
const rootLife = 365 * Day

// New makes an authority that exists in memory only.
func New() (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	cert, err := sign(caTemplate("padlock lab root "+time.Now().Format("2006-01-02 15:04:05")), nil, key.Public(), &CA{Key: key})
	if err != nil {
		return nil, fmt.Errorf("making the lab's root: %w", err)
	}
	return from(&CA{cert, key})
}

// Open keeps the root in a directory, so that clients which trust it need not be told anew.
func Open(dir string) (*Authority, error) {
	name := filepath.Join(dir, "lab-root.pem")
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return create(dir, name)
	}
	if err != nil {
		return nil, err
	}

	ca, err := parse(name, data)
	if err != nil {
		return nil, err
	}
	if time.Now().After(ca.Cert.NotAfter.Add(-7 * Day)) {
		return create(dir, name)
	}
	return from(ca)
}

func create(dir, name string) (*Authority, error) {
	a, err := New()
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(a.Root.Key)
	if err != nil {
		return nil, err
	}
	data := append(a.Root.PEM(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)

	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// A half-written file must never be what the next start reads.
	if err := os.WriteFile(name+".new", data, 0o600); err != nil {
		return nil, err
	}
	return a, os.Rename(name+".new", name)
}

func parse(name string, data []byte) (*CA, error) {
	pair, err := pemfile.Pair(name, data, name, data)
	if err != nil {
		return nil, hint.Add(err, "remove the file, and the lab makes a new root")
	}
	return &CA{pair.Leaf, pair.PrivateKey.(crypto.Signer)}, nil
}

func from(root *CA) (*Authority, error) {
	a := &Authority{Root: root, cas: map[string]*CA{}, serials: map[string]Status{}}
	m := a.Maker("")
	a.Inter = m.CA("intermediate", root, nil)
	return a, m.Err()
}

// PEM is the certificate as clients read it.
func (c *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Cert.Raw})
}

func caTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{Organization: []string{"padlock lab, trust it nowhere"}, CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(rootLife),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
}

func serial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	// RFC 5280 section 4.1.2.2: positive.
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b)
}

// sign signs a template; a nil parent means that it signs itself.
func sign(template *x509.Certificate, parent *x509.Certificate, public crypto.PublicKey, by *CA) (*x509.Certificate, error) {
	if template.IsCA && template.SubjectKeyId == nil {
		id, err := keyID(public)
		if err != nil {
			return nil, err
		}
		template.SubjectKeyId = id
	}
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by.Key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// keyID is method 1 of RFC 5280 section 4.2.1.2, near enough: clients compare it and never compute it.
func keyID(public crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	sum := sha1.Sum(der)
	return sum[:], nil
}
