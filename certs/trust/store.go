// Package trust puts the local CA's root into trust stores, takes it out, and verifies by fingerprint what each store holds.
//
//	for _, store := range trust.Stores(root) { err := store.Install(); trusted, err := store.Trusted() }
package trust

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"padlock/internal/invoker"
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

// Stores finds those of the system and of the user's browsers: with sudo, of the user who ran it.
func Stores(root *x509.Certificate) []Store {
	stores := []Store{&system{root}}
	if !hasDatabases {
		return stores
	}
	user := invoker.Find()
	p, ok := userPlaces(user)
	if !ok {
		return stores
	}
	for _, dir := range p.databases() {
		stores = append(stores, &nss{root, dir, user})
	}
	if len(p.firefox()) == 0 && p.firefoxInstalled() {
		stores = append(stores, unstarted{})
	}
	return stores
}

// userPlaces are those of a user, or, where that is nil, of whoever runs padlock.
func userPlaces(user *invoker.User) (places, bool) {
	if user != nil {
		return places{user.Home, filepath.Join(user.Home, ".config"), filepath.Join(user.Home, ".local", "share")}, true
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return places{}, false
	}
	p := places{home, filepath.Join(home, ".config"), filepath.Join(home, ".local", "share")}
	if dir := os.Getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		p.config = dir
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		p.data = dir
	}
	return p, true
}

// Hint is the step that mends an error, or "".
func Hint(err error) string {
	switch {
	case errors.Is(err, ErrNoProfile):
		return "start Firefox once and close it, then run padlock trust again"
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
