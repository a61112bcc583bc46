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
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"padlock/internal/access"
	"padlock/internal/hint"
	"padlock/internal/pemfile"
	"padlock/internal/regular"
)

// Authority is the lab's root with all that hangs on it. It is safe for use from many goroutines.
type Authority struct {
	Root  *CA
	Inter *CA // signs the leaves

	keys    keys
	mu      sync.Mutex
	cas     map[string]*CA
	status  string // URL of the server that tells revocations
	listens []net.IP
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

// rootFile is the stored root, with its key.
const rootFile = "lab-root.pem"

// Open keeps the root in a directory, so that clients which trust it need not be told anew. Several processes may open
// one directory at once: they get the same root. It is an error if others can read the key, or put another root there.
func Open(dir string) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if access.Others(info)&access.Write != 0 && !access.Modeless(dir) {
		err := fmt.Errorf("others can write to the directory %s (mode %#o), and put a root there whose key they have", dir, info.Mode().Perm())
		return nil, hint.Add(err, "chmod go-w "+dir+", or name another directory")
	}

	name := filepath.Join(dir, rootFile)
	root, err := load(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		root, err = create(name, os.Link)
	case err == nil && time.Now().After(root.Cert.NotAfter.Add(-7*Day)):
		root, err = create(name, os.Rename)
	}
	if err != nil {
		return nil, err
	}
	return from(root)
}

// create makes a root and puts its file in place whole, or finds that another process was faster.
func create(name string, place func(from, to string) error) (*CA, error) {
	a, err := New()
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(a.Root.Key)
	if err != nil {
		return nil, err
	}

	// A file of its own name, for its owner alone: nobody has it open, or has made a link of it.
	f, err := os.CreateTemp(filepath.Dir(name), "."+rootFile+"-*") // 0600
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(a.Root.PEM(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if err := place(f.Name(), name); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return load(name)
}

// maxRoot is more than a root and its key need, in bytes.
const maxRoot = 64 << 10

func load(name string) (*CA, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if access.Others(info) != 0 && !access.Modeless(name) {
		err := fmt.Errorf("the lab's root and its key in %s can be read by others (mode %#o), who can pose as any server to clients that trust it", name, info.Mode().Perm())
		return nil, hint.Add(err, "remove the file, and the lab makes a new root; if nobody else has had access: chmod 600 "+name)
	}
	data, err := regular.Read(name, maxRoot)
	if err != nil {
		return nil, err
	}

	const renew = "remove the file, and the lab makes a new root"
	pair, err := pemfile.Pair(name, data, name, data)
	if err != nil {
		return nil, hint.Add(err, renew)
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !pair.Leaf.IsCA {
		return nil, hint.Add(fmt.Errorf("%s does not hold a root of the lab", name), renew)
	}
	return &CA{pair.Leaf, key}, nil
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
