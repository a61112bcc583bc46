// Package trust puts the local CA's root into trust stores, takes it out, and verifies by fingerprint what each store holds.
//
//	for _, store := range trust.Stores(root) { err := store.Install(); trusted, err := store.Trusted() }
package trust

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"padlock/internal/pemfile"

	"github.com/smallstep/truststore"
)

// Store is one place that programs take their trust from.
type Store interface {
	Name() string
	Install() error
	Remove() error
	Trusted() (bool, error) // read back, and compared by fingerprint
}

// Stores finds those of the system and of the user's browsers.
func Stores(root *x509.Certificate) []Store {
	stores := []Store{&system{root}}
	for _, dir := range nssDirectories() {
		stores = append(stores, &nss{root, dir})
	}
	return stores
}

// Hint is the step that mends an error, or "".
func Hint(err error) string {
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "install certutil (Debian: apt-get install libnss3-tools), then run padlock trust again"
	case errors.Is(err, os.ErrPermission):
		return "run sudo padlock trust with the same --storage"
	}
	return ""
}

// system is the operating system's store.
type system struct{ root *x509.Certificate }

func (s *system) Name() string { return "system" }

func (s *system) Install() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("writing the system's trust store: %w", os.ErrPermission)
	}
	return truststore.Install(s.root)
}

func (s *system) Remove() error {
	if trusted, err := s.Trusted(); err == nil && !trusted {
		return nil
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("writing the system's trust store: %w", os.ErrPermission)
	}
	return truststore.Uninstall(s.root)
}

// bundles are where Linux distributions gather the certificates that are trusted.
var bundles = [...]string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"}

func (s *system) Trusted() (bool, error) {
	for _, file := range bundles {
		if data, err := os.ReadFile(file); err == nil {
			return holds(file, data, s.root)
		}
	}
	_, err := s.root.Verify(x509.VerifyOptions{KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err == nil, nil
}

// holds looks for root among PEM blocks. Damage in front of it is an error, as a program that reads the file may stop there.
func holds(name string, data []byte, root *x509.Certificate) (bool, error) {
	blocks, err := pemfile.Parse(name, data)
	for _, b := range blocks {
		if b.Type == "CERTIFICATE" && bytes.Equal(b.Bytes, root.Raw) {
			return true, nil
		}
	}
	return false, err
}

// nss is one certificate database of Firefox or Chromium.
type nss struct {
	root *x509.Certificate
	dir  string
}

func (n *nss) Name() string { return "NSS " + n.dir }

func (n *nss) nickname() string { return fmt.Sprintf("padlock local CA %x", sha256.Sum256(n.root.Raw)) }

func (n *nss) Install() error {
	if _, err := os.Stat(filepath.Join(n.dir, "cert9.db")); errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(n.dir, 0o700); err != nil {
			return err
		}
		if _, err := n.certutil(nil, "-N", "--empty-password"); err != nil {
			return err
		}
	}
	encoded := pemfile.Encode(pemfile.Block{Type: "CERTIFICATE", Bytes: n.root.Raw})
	_, err := n.certutil(encoded, "-A", "-n", n.nickname(), "-t", "C,,")
	return err
}

func (n *nss) Remove() error {
	if trusted, err := n.Trusted(); err != nil || !trusted {
		return err
	}
	_, err := n.certutil(nil, "-D", "-n", n.nickname())
	return err
}

func (n *nss) Trusted() (bool, error) {
	if _, err := os.Stat(filepath.Join(n.dir, "cert9.db")); errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	list, err := n.certutil(nil, "-L")
	if err != nil {
		return false, err
	}
	flagged := false
	for line := range strings.Lines(string(list)) {
		if rest, ok := strings.CutPrefix(line, n.nickname()); ok {
			flagged = strings.HasPrefix(strings.TrimSpace(rest), "C")
		}
	}
	if !flagged {
		return false, nil
	}
	stored, err := n.certutil(nil, "-L", "-n", n.nickname(), "-a")
	if err != nil {
		return false, err
	}
	return holds("", stored, n.root)
}

func (n *nss) certutil(stdin []byte, args ...string) ([]byte, error) {
	command := exec.Command("certutil", append([]string{"-d", "sql:" + n.dir}, args...)...)
	command.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil && stderr.Len() > 0 {
		err = fmt.Errorf("certutil in %s: %s (%w)", n.dir, strings.TrimSpace(stderr.String()), err)
	}
	return out, err
}

// nssDirectories are Chromium's database, which it reads even if it was made before its first start, and every Firefox profile's.
func nssDirectories() []string {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil
	}
	dirs := []string{filepath.Join(home, ".pki", "nssdb")}
	for _, pattern := range []string{
		".mozilla/firefox/*/cert9.db", "snap/firefox/common/.mozilla/firefox/*/cert9.db",
		".var/app/org.mozilla.firefox/.mozilla/firefox/*/cert9.db", "snap/chromium/current/.pki/nssdb/cert9.db",
	} {
		found, _ := filepath.Glob(filepath.Join(home, pattern)) // the patterns are well formed
		for _, file := range found {
			dirs = append(dirs, filepath.Dir(file))
		}
	}
	return dirs
}
