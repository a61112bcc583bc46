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

	"padlock/internal/invoker"
	"padlock/internal/pemfile"
)

// nss is one certificate database of Firefox or Chromium.
type nss struct {
	root *x509.Certificate
	dir  string
	user *invoker.User // whose it is; nil: of whoever runs padlock
}

// Name begins with the browsers that use the database, by which people know it.
func (n *nss) Name() string {
	switch {
	case filepath.Base(n.dir) == "nssdb":
		return "Chromium and Chrome " + n.dir
	case strings.Contains(n.dir, "librewolf"):
		return "LibreWolf " + n.dir
	}
	return "Firefox " + n.dir
}

func (n *nss) nickname() string { return fmt.Sprintf("padlock local CA %x", sha256.Sum256(n.root.Raw)) }

func (n *nss) Install() error {
	if !exists(filepath.Join(n.dir, database)) {
		if err := invoker.MkdirAll(n.dir, 0o700); err != nil {
			return err
		}
		// A profile that was never opened has no database. With an empty password, the browser does not ask for
		// one.
		if _, err := n.certutil(nil, "-N", "--empty-password"); err != nil {
			return err
		}
	}

	encoded := pemfile.Encode(pemfile.Block{Type: "CERTIFICATE", Bytes: n.root.Raw})
	_, err := n.certutil(encoded, "-A", "-n", n.nickname(), "-t", "C,,")
	if errors.Is(err, ErrPassword) {
		// The certificate was added, but nothing trusts it. It must not stay.
		_, _ = n.certutil(nil, "-D", "-n", n.nickname())
	}
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
	if _, err := os.Stat(filepath.Join(n.dir, database)); errors.Is(err, os.ErrNotExist) {
		return false, nil
	}

	list, err := n.certutil(nil, "-L")
	if err != nil {
		return false, err
	}

	flagged := false
	for line := range strings.Lines(string(list)) {
		// The flag C means trusted for servers. A certificate without it is stored and not trusted.
		if rest, ok := strings.CutPrefix(line, n.nickname()); ok {
			flagged = strings.HasPrefix(strings.TrimSpace(rest), "C")
		}
	}

	if !flagged {
		return false, nil
	}

	// The nickname could be another certificate's, so the content is compared.
	stored, err := n.certutil(nil, "-L", "-n", n.nickname(), "-a")
	if err != nil {
		return false, err
	}

	return holds("", stored, n.root)
}

// certutil runs as the user whose database it is, so that what it writes stays the user's.
func (n *nss) certutil(stdin []byte, args ...string) ([]byte, error) {
	command := exec.Command("certutil", append([]string{"-d", "sql:" + n.dir}, args...)...)
	command.Stdin = bytes.NewReader(stdin)
	n.user.Runs(command)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil && strings.Contains(stderr.String(), "SEC_ERROR_BAD_PASSWORD") {
		return out, ErrPassword
	}
	if err != nil && stderr.Len() > 0 {
		err = fmt.Errorf("certutil in %s: %s (%w)", n.dir, strings.TrimSpace(stderr.String()), err)
	}

	return out, err
}

// ErrNoProfile is the error of a Firefox that was never started: it has no store yet, which is nothing that went wrong.
var ErrNoProfile = errors.New("has no profile yet, so there is no place to install the root in")

// ErrPassword is the error of a database that only its owner can change. certutil asks on the terminal, where there
// is one.
var ErrPassword = errors.New("a primary password protects these certificates, and it was not given, or was wrong")

// unstarted is a Firefox without a profile.
type unstarted struct{}

func (unstarted) Name() string           { return "Firefox" }
func (unstarted) Install() error         { return ErrNoProfile }
func (unstarted) Remove() error          { return nil }
func (unstarted) Trusted() (bool, error) { return false, ErrNoProfile }
