// Package trust puts the local CA's root into trust stores, takes it out, and verifies by fingerprint what each store
// holds.
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
	"runtime"

	"padlock/internal/invoker"
	"padlock/internal/pemfile"
	"padlock/internal/regular"

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
	if exists(debianJava) {
		stores = append(stores, &java{root, debianJava})
	}
	if !hasDatabases {
		return stores
	}

	// With sudo, the browsers are those of the person and not root's.
	user := invoker.Find()
	if reachesWindows() {
		stores = append(stores, &windows{root, user})
	}
	p, ok := userPlaces(user)
	if !ok {
		return stores
	}

	for _, dir := range p.databases() {
		stores = append(stores, &nss{root, dir, user})
	}

	// Listed without a place, so that the person learns why Firefox does not trust the root.
	if len(p.firefox()) == 0 && p.firefoxInstalled() {
		stores = append(stores, unstarted{})
	}

	return stores
}

// Everywhere reports whether every store trusts a root, but for Java's: nothing is left to do for the browsers of
// this machine. Stores that cannot be read do not.
func Everywhere(root *x509.Certificate) bool {
	for _, store := range Stores(root) {
		// Java is no browser, and most people have no keytool.
		if _, is := store.(*java); is {
			continue
		}
		if trusted, err := store.Trusted(); !trusted && !errors.Is(err, ErrNoProfile) {
			return false
		}
	}
	return true
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

// Hint is the step that mends an error, or "". asRoot is the command that does as root what has failed.
func Hint(err error, asRoot string) string {
	switch {
	case errors.Is(err, ErrNoProfile):
		return "start Firefox once and close it, then run padlock trust again"
	case errors.Is(err, ErrPassword):
		return "run it again in a terminal, where certutil asks for the primary password; or do it in Firefox, under Settings, Privacy & Security, View Certificates, Authorities: import the file that padlock trust --print > padlock-ca.pem writes, or delete it there"
	case errors.Is(err, ErrNoKeytool):
		return "install a Java runtime, which has keytool, or set JAVA_HOME to one"
	case errors.Is(err, exec.ErrNotFound):
		return "install certutil (Debian: apt-get install libnss3-tools), then run padlock trust again"
	case errors.Is(err, os.ErrPermission):
		return "run: " + asRoot
	}
	return ""
}

// system is the operating system's store.
type system struct{ root *x509.Certificate }

func (s *system) Name() string { return "system" }

func (s *system) Install() error {
	return privileged("writing the system's trust store", func() error { return truststore.Install(s.root) })
}

func (s *system) Remove() error {
	// Nothing to remove means no password to ask for.
	if trusted, err := s.Trusted(); err == nil && !trusted {
		return nil
	}
	return privileged("changing the system's trust store", func() error {
		return errors.Join(truststore.Uninstall(s.root), removeLinks(orphans(linked, s.root)))
	})
}

// privileged does what needs root, and nothing else does: the library asks for it by sudo, which asks for the
// password on the terminal. Windows asks the user by itself.
func privileged(what string, act func() error) error {
	root := os.Geteuid() == 0 || runtime.GOOS == "windows"
	// Looked for first: the library would report only that a program is missing.
	if !root && !installed([]string{"sudo"}) {
		return fmt.Errorf("%s: %w", what, os.ErrPermission)
	}
	err := act()
	if err != nil && !root {
		return fmt.Errorf("%s by sudo: %w (%w)", what, os.ErrPermission, err)
	}
	return err
}

// NeedsSudo reports whether Install and Remove of a store ask for the user's password.
func NeedsSudo(store Store) bool {
	switch store.(type) {
	case *system, *java:
		return os.Geteuid() > 0 && installed([]string{"sudo"})
	}
	return false
}

// bundles are where Linux distributions gather the certificates that are trusted.
var bundles = [...]string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"}

func (s *system) Trusted() (bool, error) {
	for _, file := range bundles {
		if data, err := regular.Named(file, pemfile.MaxFile); err == nil {
			return holds(file, data, s.root)
		}
	}
	_, err := s.root.Verify(x509.VerifyOptions{KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err == nil, nil
}

// holds looks for root among PEM blocks. Damage in front of it is an error, as a program that reads the file may stop
// there.
func holds(name string, data []byte, root *x509.Certificate) (bool, error) {
	blocks, err := pemfile.Parse(name, data)
	for _, b := range blocks {
		if b.Type == "CERTIFICATE" && bytes.Equal(b.Bytes, root.Raw) {
			return true, nil
		}
	}
	return false, err
}
