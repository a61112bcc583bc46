package certs

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"padlock/config"
	"padlock/internal/access"
	"padlock/internal/pemfile"
	"padlock/internal/regular"
)

// material is all that stands in the files of one entry of the configuration.
type material struct {
	parts         []*part
	intermediates []*x509.Certificate          // of a file of their own
	files         map[string][sha256.Size]byte // what was read, to see whether it has changed
	folders       []string                     // where a change may happen
	directory     bool                         // its files are used each by itself
	unusable      []Unusable                   // of a directory: what cannot be read
	orphans       []Unusable                   // and what has lost its key
}

// part is what stands in one file.
type part struct {
	file         string // "" for what was imported
	certificates []*x509.Certificate
	keys         []crypto.Signer
}

// Unusable is a file that cannot be used as it is now. What it held before is served on, and so are other files.
type Unusable struct {
	File   string
	Reason error
}

const (
	maxFile  = 1 << 20
	maxDepth = 3 // of folders below a directory, such as certbot's live/NAME
)

// read reads the files of an entry. Its material holds the files even if they are no use, so that a change is seen.
// before is what was read last, nil at the start. It waits for no file system that does not answer; what a slow
// machine takes to decode is no matter of that.
func read(f config.CertificateFile, before *material, log *slog.Logger) (*material, error) {
	m := &material{files: map[string][sha256.Size]byte{}, directory: f.Directory != ""}
	if f.Intermediates != "" {
		if err := m.readIntermediates(f.Intermediates, log); err != nil {
			return m, err
		}
	}

	switch {
	case f.Directory != "":
		return m, m.walk(f.Directory, maxDepth, before, log)
	case f.PKCS12 != "":
		data, err := m.file(f.PKCS12)
		if err == nil {
			err = m.pkcs12(f.PKCS12, data, f.Password)
		}
		warnMode(f.PKCS12, log)
		return m, err
	}

	names := []string{f.Cert}
	if f.Key != "" {
		names = append(names, f.Key)
	}

	for _, name := range names {
		data, err := m.file(name)
		if err == nil {
			err = m.pem(name, data, log)
		}
		if err != nil {
			return m, err
		}
	}

	switch {
	case len(m.certificates()) == 0:
		return m, fmt.Errorf("%s holds no certificate in PEM", f.Cert)
	case len(m.keys()) == 0 && f.Key != "":
		return m, fmt.Errorf("%s holds no private key in PEM", f.Key)
	case len(m.keys()) == 0:
		return m, fmt.Errorf("%s holds no private key: name its file with key", f.Cert)
	}

	return m, nil
}

func (m *material) readIntermediates(name string, log *slog.Logger) error {
	// The intermediates are read on their own, as their certificates must not be taken for a pair's leaf.
	extra := &material{files: m.files}
	data, err := extra.file(name)
	if err == nil {
		err = extra.pem(name, data, log)
	}
	if err == nil && len(extra.certificates()) == 0 {
		err = fmt.Errorf("%s holds no certificate in PEM", name)
	}

	if m.folders = extra.folders; err != nil {
		return fmt.Errorf("the intermediates: %w", err)
	}

	m.intermediates = extra.certificates()
	return nil
}

func (m *material) certificates() (all []*x509.Certificate) {
	for _, p := range m.parts {
		all = append(all, p.certificates...)
	}
	return all
}

func (m *material) keys() (all []crypto.Signer) {
	for _, p := range m.parts {
		all = append(all, p.keys...)
	}
	return all
}

// of is what stands in a file; nil where nothing that can be used does.
func (m *material) of(file string) *part {
	for _, p := range m.parts {
		if p.file == file {
			return p
		}
	}
	return nil
}

func (m *material) file(name string) ([]byte, error) {
	// Noted even where the file is missing, so that its creation is seen.
	m.folders = append(m.folders, filepath.Dir(name))
	info, err := regular.Stat(name)
	switch {
	case err != nil:
		return nil, err
	// Opening a FIFO or a device could block for good.
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file (mode %v): name a file", name, info.Mode())
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%s is larger than %d bytes", name, maxFile)
	}

	data, err := regular.Named(name, maxFile)
	m.files[name] = sha256.Sum256(data)
	return data, err
}

// walk reads every file that may hold certificates or keys. Names do not matter: which key belongs to which
// certificate is seen by the key. Hidden entries are left out, as Kubernetes keeps its generations there and links to
// them. A file that cannot be used leaves the others alone; what it held before counts.
func (m *material) walk(path string, depth int, before *material, log *slog.Logger) error {
	m.folders = append(m.folders, path)
	entries, err := regular.Within(filepath.Join(path, "*"), func() ([]fs.DirEntry, error) { return os.ReadDir(path) })
	// One file that cannot be used must not take the other certificates away.
	if err != nil {
		return err
	}

	for _, entry := range entries {
		name := filepath.Join(path, entry.Name())
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		info, err := regular.Stat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			// A link that is being replaced leads nowhere for a moment.
			continue
		case err == nil && info.IsDir() && depth > 0:
			err = m.walk(name, depth-1, before, log)
		case err == nil && !info.Mode().IsRegular(), !holdsCertificates(name):
			continue
		case err == nil:
			err = m.one(name, log)
		}

		if err != nil {
			m.keep(name, err, before)
		}
	}

	return nil
}

var extensions = []string{".pem", ".crt", ".cer", ".key", ".p12", ".pfx"}

func holdsCertificates(name string) bool {
	return slices.Contains(extensions, strings.ToLower(filepath.Ext(name)))
}

// one reads one file of a directory.
func (m *material) one(name string, log *slog.Logger) error {
	data, err := m.file(name)
	if err != nil {
		return err
	}
	if ext := strings.ToLower(filepath.Ext(name)); ext == ".p12" || ext == ".pfx" {
		return m.pkcs12(name, data, "")
	}
	if blocks, err := pemfile.Parse(name, data); err == nil && len(blocks) == 0 && !emptyByHabit(name, data) {
		return fmt.Errorf("%s holds nothing in PEM: it is empty, or was not written to its end", name)
	}
	return m.pem(name, data, log)
}

// emptyByHabit reports whether an empty file says nothing of a write that failed: cert-manager has written an empty
// ca.crt beside the certificates of CAs that everybody knows.
func emptyByHabit(name string, data []byte) bool {
	return len(data) == 0 && filepath.Base(name) == "ca.crt"
}

// keep notes a file, or a folder, that cannot be used, and goes on with what was in it before.
func (m *material) keep(name string, reason error, before *material) {
	m.unusable = append(m.unusable, Unusable{name, reason})
	if before == nil {
		return
	}
	for _, p := range before.parts {
		if p.file == name || strings.HasPrefix(p.file, name+string(filepath.Separator)) {
			m.parts = append(m.parts, p)
		}
	}
}

// pem takes all certificates and keys out of a file, in their order.
func (m *material) pem(name string, data []byte, log *slog.Logger) error {
	blocks, err := pemfile.Parse(name, data)
	if err != nil {
		return err
	}

	warned := false
	p := &part{file: name}
	for _, block := range blocks {
		switch {
		case block.Type == "CERTIFICATE":
			certificate, err := block.Certificate(name)
			if err != nil {
				return err
			}
			p.certificates = append(p.certificates, certificate)
		// A file with a key that others can read is still used, as refusing it at a reload would take the site
		// down.
		case block.IsKey():
			if !warned {
				warnMode(name, log)
				warned = true
			}

			key, err := block.PrivateKey(name)
			if err != nil {
				return err
			}
			p.keys = append(p.keys, key)
		// Parameters, requests and public keys lie beside them, and decide nothing.
		case !block.IsParameters() && block.Type != "CERTIFICATE REQUEST" && block.Type != "PUBLIC KEY":
			return block.Misplaced(name, "certificates and private keys")
		}
	}

	m.parts = append(m.parts, p)
	return nil
}

func (m *material) pkcs12(name string, data []byte, password string) error {
	if file, ok := strings.CutPrefix(password, "file:"); ok {
		text, err := m.file(file)
		if err != nil {
			return err
		}
		// Editors end files with a line break, and Windows begins them with a byte order mark.
		password = strings.TrimRight(strings.TrimPrefix(string(text), "\ufeff"), "\r\n")
	}

	key, leaf, chain, err := openPKCS12(data, password)
	if errors.Is(err, pkcs12.ErrIncorrectPassword) {
		return fmt.Errorf("%s: the password is wrong", name)
	}

	if err != nil {
		// Messages of ASN.1 decoding say nothing to a person who renamed a file.
		if readable := strings.TrimPrefix(err.Error(), "pkcs12: "); !strings.Contains(readable, "asn1: ") {
			return fmt.Errorf("%s: not PKCS#12: %s", name, readable)
		}
		return fmt.Errorf("%s: not PKCS#12, as .p12 and .pfx files are: its bytes are no DER", name)
	}

	signer, ok := key.(crypto.Signer)
	if !ok {
		return fmt.Errorf("%s: its key is of a kind that TLS does not use", name)
	}
	m.parts = append(m.parts, &part{file: name, keys: []crypto.Signer{signer}, certificates: append([]*x509.Certificate{leaf}, chain...)})
	return nil
}

func warnMode(name string, log *slog.Logger) {
	if info, err := os.Stat(name); err == nil && access.Others(info)&access.Read != 0 && !access.Modeless(name) {
		log.Warn("private key can be read by others", "file", name, "mode", info.Mode().Perm().String(), "remedy", "chmod 600")
	}
}
