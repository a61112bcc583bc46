package pki

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"padlock/internal/hint"
)

func made(t *testing.T) *Authority {
	t.Helper()
	a, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// verified is what crypto/x509 says of a chain.
func verified(a *Authority, chain [][]byte, host string) error {
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return err
	}
	o := x509.VerifyOptions{DNSName: host, Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool()}
	o.Roots.AppendCertsFromPEM(a.Root.PEM())
	for _, der := range chain[1:] {
		ca, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		o.Intermediates.AddCert(ca)
	}
	_, err = leaf.Verify(o)
	return err
}

// Whatever the key, a chain is good for its host, and one change makes it bad in one respect.
func TestChains(t *testing.T) {
	a := made(t)
	m := a.Maker("host.example")
	for name, key := range map[string]crypto.Signer{"P-256": m.Key(), "P-521": m.EC(elliptic.P521()), "Ed25519": m.Ed25519(), "RSA": m.RSA(2048), "RSA, embedded": m.RSA(8192)} {
		c := m.ChainWith(m.Inter, key, nil, m.Inter)
		if err := verified(a, c.Certificate, "host.example"); err != nil || m.Err() != nil {
			t.Errorf("%s: %v, %v", name, err, m.Err())
		}
	}

	late := m.Chain(func(t *x509.Certificate) { t.NotAfter = time.Now().Add(-time.Hour) })
	if err := verified(a, late.Certificate, "host.example"); !errors.As(err, new(x509.CertificateInvalidError)) {
		t.Errorf("expired: %v", err)
	}
	if err := verified(a, m.SelfSigned().Certificate, "host.example"); !errors.As(err, new(x509.UnknownAuthorityError)) {
		t.Errorf("self-signed: %v", err)
	}
	if err := verified(made(t), m.Chain(nil).Certificate, "host.example"); !errors.As(err, new(x509.UnknownAuthorityError)) {
		t.Errorf("another lab's root: %v", err)
	}
}

// A CA is made once for its name, and with the key that it is given.
func TestCAsAreKept(t *testing.T) {
	a := made(t)
	m := a.Maker("")
	first, again, other := m.CA("name", m.Root, nil), a.Maker("host.example").CA("name", m.Root, nil), m.CAWith("other", m.Root, m.RSA(2048), nil)
	if first != again || first == other || other.Key != m.RSA(2048) {
		t.Errorf("%v, %v, %v", first.Cert.Subject, again.Cert.Subject, other.Cert.Subject)
	}
	if alone := m.CA("root of its own", nil, nil); alone.Cert.CheckSignatureFrom(alone.Cert) != nil || alone.Cert.CheckSignatureFrom(a.Root.Cert) == nil {
		t.Error("a CA without a parent is not its own root")
	}
}

// Flip and MD5 change the signature alone, and do what they say.
func TestSignaturesAreChanged(t *testing.T) {
	a := made(t)
	m := a.Maker("host.example")
	der := m.Chain(nil).Certificate[0]
	before, flipped := parsed(t, der), parsed(t, m.Flip(der))
	if flipped.CheckSignatureFrom(a.Inter.Cert) == nil || !bytes.Equal(before.RawTBSCertificate, flipped.RawTBSCertificate) || !bytes.Equal(m.Flip(m.Flip(der)), der) {
		t.Error("Flip does not flip one bit of the signature")
	}

	ca := m.CAWith("RSA", m.Root, m.RSA(2048), nil)
	der = m.ChainWith(ca, m.Key(), nil, ca).Certificate[0]
	signed := parsed(t, m.MD5(der, m.RSA(2048).(*rsa.PrivateKey)))
	if signed.SignatureAlgorithm != x509.MD5WithRSA || signed.Subject.String() != parsed(t, der).Subject.String() {
		t.Errorf("%v, %v", signed.SignatureAlgorithm, signed.Subject)
	}
}

// Names writes what no API does, and the first error of a maker stays.
func TestNamesAndErrors(t *testing.T) {
	m := made(t).Maker("host.example")
	c := parsed(t, m.Chain(func(t *x509.Certificate) { Names(t, TagDNS, "a\x00b", "second") }).Certificate[0])
	if len(c.DNSNames) != 2 || c.DNSNames[0] != "a\x00b" || c.Subject.CommonName != "" {
		t.Errorf("%q, %v", c.DNSNames, c.Subject)
	}

	// crypto/x509 makes no negative serial number.
	m.Chain(func(t *x509.Certificate) { t.SerialNumber = big.NewInt(-1) })
	first := m.Err()
	if first == nil || !strings.Contains(first.Error(), "host.example") {
		t.Errorf("no error, or of no host: %v", first)
	}
	m.Chain(nil)
	if m.Flip([]byte{1}) != nil || m.MD5(nil, nil) != nil || !errors.Is(m.Err(), first) {
		t.Errorf("the maker went on after %v: %v", first, m.Err())
	}
}

// A stored root is the same after a new start, for its owner alone, and made anew before it expires.
func TestTheRootIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "storage")
	first, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Open(dir)
	if err != nil || !again.Root.Cert.Equal(first.Root.Cert) || again.Inter.Cert.Equal(first.Inter.Cert) {
		t.Errorf("another root, or the same intermediate: %v", err)
	}
	if err := verified(first, again.Maker("host.example").Chain(nil).Certificate, "host.example"); err != nil {
		t.Errorf("the key does not belong to the root: %v", err)
	}
	name := filepath.Join(dir, rootFile)
	if info, err := os.Stat(name); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}

	old := first.Maker("").CAWith("old root", nil, first.Root.Key, func(t *x509.Certificate) { t.NotAfter = time.Now().Add(6 * Day) })
	key, err := x509.MarshalPKCS8PrivateKey(first.Root.Key)
	if err != nil {
		t.Fatal(err)
	}
	written(t, name, append(old.PEM(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...))
	if renewed, err := Open(dir); err != nil || renewed.Root.Cert.Equal(old.Cert) {
		t.Errorf("a root with six days left stays: %v", err)
	}
}

// A damaged root is an error that says what to do, and not a new root.
func TestADamagedRootIsAnError(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, rootFile)
	for what, data := range map[string][]byte{"empty": nil, "text": []byte("root\n"), "no key": made(t).Root.PEM()} {
		written(t, name, data)
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), name) || hint.Of(err) == "" {
			t.Errorf("%s: %v, hint %q", what, err, hint.Of(err))
		}
	}
}

// A root whose key others can read or exchange is refused, with what to do; so is a leaf in its place. What lies about
// under the names of temporary files gets no key.
func TestTheStoredKeyIsTheOwners(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no modes there")
	}
	dir := filepath.Join(t.TempDir(), "storage")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	trap := filepath.Join(dir, rootFile+".new")
	if err := os.WriteFile(trap, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
	if data, err := os.ReadFile(trap); err != nil || len(data) > 0 {
		t.Errorf("the key is in a file of somebody else's: %v", err)
	}

	for what, c := range map[string]struct {
		name string
		mode os.FileMode
	}{"a key that everybody can read": {filepath.Join(dir, rootFile), 0o604}, "a directory that everybody can write to": {dir, 0o777}, "a sticky one": {dir, 0o777 | os.ModeSticky}} {
		before, err := os.Stat(c.name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(c.name, c.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), c.name) || !strings.Contains(hint.Of(err), "chmod") {
			t.Errorf("%s: %v, hint %q", what, err, hint.Of(err))
		}
		if err := os.Chmod(c.name, before.Mode()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(dir); err != nil {
		t.Error(err)
	}

	m := made(t).Maker("host.example")
	leaf := m.Chain(nil)
	key, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Certificate[0]})
	written(t, filepath.Join(dir, rootFile), append(chain, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...))
	if _, err := Open(dir); err == nil || hint.Of(err) == "" {
		t.Errorf("a leaf passes for the root: %v", err)
	}
}

// Processes that start at once have the same root.
func TestRootsThatAreMadeAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "storage")
	roots := make(chan string, 8)
	for range cap(roots) {
		go func() {
			a, err := Open(dir)
			if err != nil {
				roots <- err.Error()
				return
			}
			roots <- string(a.Root.PEM())
		}()
	}
	first := <-roots
	for range cap(roots) - 1 {
		if other := <-roots; other != first {
			t.Fatalf("%s\n%s", first, other)
		}
	}
}

func written(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func parsed(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
