// Package localca is a certificate authority for local names: a root made on first use, leaves made on the fly.
//
//	ca, err := localca.Open(dir, localca.Options{Organization: "Example"})
//	leaf, err := ca.Leaf("localhost")
//
// The root is constrained to local names and private addresses (RFC 5280 section 4.2.1.10),
// so that a stolen key cannot impersonate anybody else's site.
package localca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
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
	"slices"
	"strings"
	"sync"
	"time"

	"padlock/config"
	"padlock/facts"
	"padlock/internal/pemfile"
)

const (
	rootLifetime = 10 * 365 * 24 * time.Hour
	leafLifetime = 397 * 24 * time.Hour // the longest that browsers accept (CA/Browser Forum, since 2020)
	backdate     = time.Hour            // for clients whose clocks are slow
	maxLeaves    = 1000
	bundleFile   = "root.pem"
)

// Options of Open.
type Options struct {
	Organization string           // in the subject of root and leaves
	Allow        []string         // further DNS names that the root may sign
	Clock        func() time.Time // time.Now
}

// CA signs leaves. It is safe for use from many goroutines.
type CA struct {
	options Options
	file    string
	root    *x509.Certificate
	key     *ecdsa.PrivateKey

	mu     sync.Mutex
	leaves map[string]*tls.Certificate
}

// Open reads the root below dir, or makes it. Several processes that open the same directory at once get the same root.
// A file that cannot be used is an error that names it; it is never replaced by itself.
// A root that does not permit a name of Options.Allow is replaced by one that does, which must be trusted anew.
func Open(dir string, o Options) (*CA, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	ca := &CA{options: o, file: filepath.Join(dir, "localca", bundleFile), leaves: map[string]*tls.Certificate{}}
	if err := os.MkdirAll(filepath.Dir(ca.file), 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of the local CA: %w", err)
	}
	err := ca.load()
	if errors.Is(err, fs.ErrNotExist) {
		err = ca.create(nil, os.Link) // a link never replaces what another process has put there
	}
	if err == nil && !ca.permitsAll(o.Allow) {
		err = ca.create(ca.root.PermittedDNSDomains, os.Rename)
	}
	if err != nil {
		return nil, err
	}
	return ca, nil
}

func (ca *CA) permitsAll(names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return !ca.Permits(name) })
}

// load reads certificate and key, which stand in one file so that they can never disagree.
func (ca *CA) load() error {
	info, err := os.Stat(ca.file)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("the local CA's file %s can be read by others (mode %#o): chmod 600 it, or remove it for a new root", ca.file, info.Mode().Perm())
	}
	data, err := os.ReadFile(ca.file)
	if err != nil {
		return err
	}
	pair, err := pemfile.Pair(ca.file, data, ca.file, data)
	if err != nil {
		return fmt.Errorf("the local CA's file %s is damaged (%w): remove it for a new root, and trust that", ca.file, err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return fmt.Errorf("the local CA's file %s does not hold a local CA: remove it for a new root", ca.file)
	}
	if !ca.options.Clock().Before(pair.Leaf.NotAfter) {
		return fmt.Errorf("the local CA in %s has expired: remove it for a new root, and trust that", ca.file)
	}
	ca.root, ca.key = pair.Leaf, key
	return nil
}

// create makes a root and puts its file in place whole.
func (ca *CA) create(permitted []string, place func(from, to string) error) error {
	data, err := ca.newRoot(permitted)
	if err != nil {
		return fmt.Errorf("making the local CA: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(ca.file), ".root-*") // 0600
	if err != nil {
		return fmt.Errorf("storing the local CA: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = place(f.Name(), ca.file)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("storing the local CA: %w", err)
	}
	return ca.load()
}

func (ca *CA) newRoot(permitted []string) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := ca.options.Clock()
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject: pkix.Name{
			Organization: []string{ca.options.Organization},
			CommonName:   fmt.Sprintf("padlock local CA %x", serial.Bytes()[:4]),
		},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(rootLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,

		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         mergeNames(config.LocalDomains, permitted, ca.options.Allow),
		PermittedIPRanges:           config.PrivateNetworks(),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = errors.Join(pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.Encode(&b, &pem.Block{Type: "PRIVATE KEY", Bytes: encoded}))
	return b.Bytes(), err
}

func mergeNames(lists ...[]string) []string {
	var all []string
	for _, list := range lists {
		for _, name := range list {
			if name = strings.TrimPrefix(name, "*."); !slices.Contains(all, name) {
				all = append(all, name)
			}
		}
	}
	return all
}

func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, err
	}
	return serial.SetBit(serial, 126, 1), nil // always 16 bytes
}

// Root is the CA's certificate.
func (ca *CA) Root() *x509.Certificate { return ca.root }

// RootPEM is the certificate alone, without its key.
func (ca *CA) RootPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.root.Raw})
}

// Fingerprint is the SHA-256 of the root, as browsers show it.
func (ca *CA) Fingerprint() string { return facts.Fingerprint(ca.root) }

// Permits reports whether the root may sign a leaf for a canonical name or address.
func (ca *CA) Permits(name string) bool {
	if ip := net.ParseIP(name); ip != nil {
		return slices.ContainsFunc(ca.root.PermittedIPRanges, func(n *net.IPNet) bool { return n.Contains(ip) })
	}
	return config.Within(strings.TrimPrefix(name, "*."), ca.root.PermittedDNSDomains)
}

// Leaf returns a certificate for a canonical name or address, made when first asked for and again before it expires.
func (ca *CA) Leaf(name string) (*tls.Certificate, error) {
	if !ca.Permits(name) {
		return nil, fmt.Errorf("the local CA is not for %q; padlock trust --allow %s makes one that is", name, name)
	}
	ca.mu.Lock()
	defer ca.mu.Unlock() // signing takes 50 µs, so that waiting here costs less than a second signature
	now := ca.options.Clock()
	if leaf, ok := ca.leaves[name]; ok && now.Before(leaf.Leaf.NotAfter.Add(-leafLifetime/3)) && !now.Before(leaf.Leaf.NotBefore) {
		return leaf, nil
	}
	leaf, err := ca.sign(name, now)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate for %q: %w", name, err)
	}
	if len(ca.leaves) >= maxLeaves { // invented names must not fill the memory; any entry can be made again
		for evicted := range ca.leaves {
			delete(ca.leaves, evicted)
			break
		}
	}
	ca.leaves[name] = leaf
	return leaf, nil
}

// Forget has the next leaf for a name made anew. Browsers remember for a while what they thought of the one before.
func (ca *CA) Forget(name string) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	delete(ca.leaves, name)
}

func (ca *CA) sign(name string, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	until := now.Add(leafLifetime - backdate)
	if until.After(ca.root.NotAfter) {
		until = ca.root.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{Organization: []string{ca.options.Organization}},
		NotBefore:    now.Add(-backdate), NotAfter: until,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if len(name) <= 64 { // the bound of a common name (RFC 5280 appendix A.1); the names that count are below
		template.Subject.CommonName = name
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
		if ip.IsLoopback() {
			template.DNSNames = []string{"localhost"} // Java sends no server name for it, and gets the address's certificate
		}
	} else {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.root, key.Public(), ca.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}
