package localca

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"padlock/config"
	"padlock/internal/access"
	"padlock/internal/invoker"
	"padlock/internal/pemfile"
	"padlock/internal/regular"
)

// Files beside the root.
const (
	allowedFile = "allowed"    // names that the user has allowed, one a line
	formerFile  = "former.pem" // certificates of roots that were replaced, and may be trusted still; their keys are gone
	hintedFile  = "hinted"     // it has been said that the root is outdated

	mentionedFile = "mentioned-dev" // padlock dev has been mentioned
)

func (ca *CA) beside(name string) string { return filepath.Join(filepath.Dir(ca.file), name) }

// allowed are the names beyond local ones that the user has let the root sign for. They stand beside the root, as
// whoever only puts a root of his own there must not decide what it may do. Those of the options are among them.
func (ca *CA) allowed() ([]string, error) {
	noted, err := ca.noted()
	return mergeNames(noted, ca.options.Allow), err
}

func (ca *CA) noted() ([]string, error) {
	file := ca.beside(allowedFile)
	info, err := os.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && (!info.Mode().IsRegular() || access.Others(info)&access.Write != 0 && !access.Modeless(file)) {
		return nil, fmt.Errorf("%s says which names the local CA may sign for, and can be written by others (mode %v): check it, and chmod 600 it", file, info.Mode())
	}

	data, err := regular.Read(file, maxFile)
	if err != nil {
		return nil, fmt.Errorf("reading which names the local CA may sign for: %w", err)
	}

	names := strings.Fields(string(data))
	for _, name := range names {
		if canonical, ok := config.CanonicalHost(name); !ok || canonical != name {
			return nil, fmt.Errorf("%s: %q is not a host name: correct it, or remove the file", file, name)
		}
	}

	return names, nil
}

// remember notes the names of the options.
func (ca *CA) remember() error {
	before, err := ca.noted()
	if err != nil {
		return err
	}
	all := mergeNames(before, ca.options.Allow)
	if slices.Equal(all, before) {
		return nil
	}
	if err := writeFile(ca.beside(allowedFile), []byte(strings.Join(all, "\n")+"\n"), os.Rename); err != nil {
		return fmt.Errorf("noting which names the local CA may sign for: %w", err)
	}
	return nil
}

// Former are the certificates of roots that were replaced, for taking them out of the stores that may still trust them.
func (ca *CA) Former() []*x509.Certificate {
	data, err := regular.Read(ca.beside(formerFile), maxFile)
	if err != nil {
		return nil
	}
	all, err := pemfile.Certificates(ca.beside(formerFile), data)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(all, func(root *x509.Certificate) bool { return root.Equal(ca.Root()) })
}

// retire adds a root to the former ones.
func (ca *CA) retire(root *x509.Certificate) error {
	data, err := regular.Read(ca.beside(formerFile), maxFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	data = append(data, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})...)
	return writeFile(ca.beside(formerFile), data, os.Rename)
}

// SetFormer keeps of the former roots those that some store trusts still.
func (ca *CA) SetFormer(roots []*x509.Certificate) error {
	if len(roots) == 0 {
		err := os.Remove(ca.beside(formerFile))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	var b bytes.Buffer
	for _, root := range roots {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}) // a Buffer takes all
	}
	return writeFile(ca.beside(formerFile), b.Bytes(), os.Rename)
}

// HintOnce reports, once for a directory, that the root is outdated.
func (ca *CA) HintOnce() bool {
	return ca.Outdated() && ca.once(hintedFile)
}

// MentionDevOnce reports, once for a directory, that padlock dev is to be mentioned.
func (ca *CA) MentionDevOnce() bool { return ca.once(mentionedFile) }

// once reports whether a file is not there yet, and makes it.
func (ca *CA) once(file string) bool {
	f, err := os.OpenFile(ca.beside(file), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return false
	}
	return errors.Join(invoker.GiveIn(f), f.Close()) == nil
}

// certificateIn is nil for what holds none: the file of a root may be damaged.
func certificateIn(data []byte) *x509.Certificate {
	blocks, _ := pemfile.Parse("", data)
	for _, block := range blocks {
		if root, err := x509.ParseCertificate(block.Bytes); err == nil {
			return root
		}
	}
	return nil
}
