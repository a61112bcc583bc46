package certs

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"padlock/config"
	"padlock/internal/pemfile"
)

// material is all that stands in the files of one entry of the configuration.
type material struct {
	certificates  []*x509.Certificate
	keys          []crypto.Signer
	intermediates []*x509.Certificate          // of a file of their own
	files         map[string][sha256.Size]byte // what was read, to see whether it has changed
	folders       []string                     // where a change may happen
}

const (
	maxFile  = 1 << 20
	maxDepth = 3 // of folders below a directory, such as certbot's live/NAME
)

// read reads the files of an entry. Its material holds the files even if they are no use, so that a change is seen.
func read(f config.CertificateFile, log *slog.Logger) (*material, error) {
	m := &material{files: map[string][sha256.Size]byte{}}
	if f.Intermediates != "" {
		extra := &material{files: m.files}
		data, err := extra.file(f.Intermediates)
		if err == nil {
			err = extra.pem(f.Intermediates, data, log)
		}
		if m.folders = extra.folders; err != nil {
			return m, fmt.Errorf("the intermediates: %w", err)
		}
		m.intermediates = extra.certificates
	}
	switch {
	case f.Directory != "":
		return m, m.directory(f.Directory, maxDepth, log)
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
	case len(m.certificates) == 0:
		return m, fmt.Errorf("%s holds no certificate in PEM", f.Cert)
	case len(m.keys) == 0 && f.Key != "":
		return m, fmt.Errorf("%s holds no private key in PEM", f.Key)
	case len(m.keys) == 0:
		return m, fmt.Errorf("%s holds no private key: name its file with key", f.Cert)
	}
	return m, nil
}

func (m *material) file(name string) ([]byte, error) {
	m.folders = append(m.folders, filepath.Dir(name))
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no file", name)
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%s is larger than %d bytes", name, maxFile)
	}
	data, err := os.ReadFile(name)
	m.files[name] = sha256.Sum256(data)
	return data, err
}

// directory reads every file that may hold certificates or keys. Names do not matter: which key belongs to which certificate is seen
// by the key. Hidden entries are left out, as Kubernetes keeps its generations there and links to them.
func (m *material) directory(path string, depth int, log *slog.Logger) error {
	m.folders = append(m.folders, path)
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		name := filepath.Join(path, entry.Name())
		info, err := os.Stat(name)
		switch {
		case strings.HasPrefix(entry.Name(), ".") || err != nil:
			continue // a link that is being replaced leads nowhere for a moment
		case info.IsDir() && depth > 0:
			errs = append(errs, m.directory(name, depth-1, log))
			continue
		case !info.Mode().IsRegular() || !slices.Contains([]string{".pem", ".crt", ".cer", ".key", ".p12", ".pfx"}, strings.ToLower(filepath.Ext(name))):
			continue
		}
		data, err := m.file(name)
		if ext := strings.ToLower(filepath.Ext(name)); err == nil && (ext == ".p12" || ext == ".pfx") {
			err = m.pkcs12(name, data, "")
		} else if err == nil {
			err = m.pem(name, data, log)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// pem takes all certificates and keys out of a file, in their order.
func (m *material) pem(name string, data []byte, log *slog.Logger) error {
	blocks, err := pemfile.Parse(name, data)
	if err != nil {
		return err
	}

	warned := false
	for _, block := range blocks {
		switch {
		case block.Type == "CERTIFICATE":
			certificate, err := block.Certificate(name)
			if err != nil {
				return err
			}
			m.certificates = append(m.certificates, certificate)
		case block.IsKey():
			if !warned {
				warnMode(name, log)
				warned = true
			}
			key, err := block.PrivateKey(name)
			if err != nil {
				return err
			}
			m.keys = append(m.keys, key)
		case !block.IsParameters() && block.Type != "CERTIFICATE REQUEST" && block.Type != "PUBLIC KEY": // those lie beside them, and decide nothing
			return block.Misplaced(name, "certificates and private keys")
		}
	}
	return nil
}

func (m *material) pkcs12(name string, data []byte, password string) error {
	if file, ok := strings.CutPrefix(password, "file:"); ok {
		text, err := m.file(file)
		if err != nil {
			return err
		}
		password = strings.TrimRight(string(text), "\r\n")
	}
	key, leaf, chain, err := pkcs12.DecodeChain(data, password)
	if errors.Is(err, pkcs12.ErrIncorrectPassword) {
		return fmt.Errorf("%s: the password is wrong", name)
	}
	if err != nil {
		return fmt.Errorf("%s: not PKCS#12: %w", name, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return fmt.Errorf("%s: its key is of a kind that TLS does not use", name)
	}
	m.keys = append(m.keys, signer)
	m.certificates = append(append(m.certificates, leaf), chain...)
	return nil
}

func warnMode(name string, log *slog.Logger) {
	if info, err := os.Stat(name); err == nil && info.Mode().Perm()&0o044 != 0 {
		log.Warn("private key can be read by others", "file", name, "mode", info.Mode().Perm().String(), "remedy", "chmod 600")
	}
}

type publicKey interface{ Equal(crypto.PublicKey) bool }

// pairs puts each certificate together with the key that it is made for, and with the chain that leads up from there. Of several for
// the same key and names the newest counts.
func (m *material) pairs() ([]*tls.Certificate, error) {
	var out []*tls.Certificate
	pool := append(slices.Clone(m.certificates), m.intermediates...)
	newest := map[string]*tls.Certificate{}
	for _, leaf := range m.certificates {
		i := slices.IndexFunc(m.keys, func(key crypto.Signer) bool {
			p, ok := key.Public().(publicKey)
			return ok && p.Equal(leaf.PublicKey)
		})
		if i < 0 {
			continue
		}
		id := fmt.Sprint(i, leaf.DNSNames, leaf.IPAddresses)
		pair := newest[id]
		switch {
		case pair == nil:
			pair = &tls.Certificate{}
			newest[id] = pair
			out = append(out, pair)
		case !leaf.NotBefore.After(pair.Leaf.NotBefore):
			continue
		}
		*pair = tls.Certificate{PrivateKey: m.keys[i], Leaf: leaf}
		for _, c := range chain(leaf, pool) {
			pair.Certificate = append(pair.Certificate, c.Raw)
		}
	}
	if len(out) == 0 && len(m.keys) > 0 && len(m.certificates) > 0 {
		return nil, errors.New("key and certificate do not belong together: none of the certificates is made for the private key")
	}
	return out, nil
}

// chain goes from a leaf to its issuer and on, as far as the pool has them. A root at its end is left out, as clients have their own.
func chain(leaf *x509.Certificate, pool []*x509.Certificate) []*x509.Certificate {
	out := []*x509.Certificate{leaf}
	for range pool {
		last := out[len(out)-1]
		i := slices.IndexFunc(pool, func(c *x509.Certificate) bool {
			return c.IsCA && bytes.Equal(c.RawSubject, last.RawIssuer) && !c.Equal(last) && last.CheckSignatureFrom(c) == nil
		})
		if i < 0 || bytes.Equal(pool[i].RawSubject, pool[i].RawIssuer) {
			break
		}
		out = append(out, pool[i])
	}
	return out
}

// load makes pairs of what an entry holds. What cannot be used is an error; what is merely unwise is warned about.
func load(e *entry, log *slog.Logger) ([]*tls.Certificate, *material, error) {
	name := e.name
	m, err := e.read(log)
	if err != nil {
		return nil, m, fmt.Errorf("loading the certificate %s: %w", name, err)
	}
	pairs, err := m.pairs()
	if err != nil {
		return nil, m, fmt.Errorf("loading the certificate %s: %w", name, err)
	}
	if len(pairs) == 0 && len(m.folders) > 0 {
		log.Warn("no certificate with its key was found", "directory", name)
	}
	for _, pair := range pairs {
		now := time.Now()
		switch leaf := pair.Leaf; {
		case now.After(leaf.NotAfter):
			log.Warn("certificate has expired", "file", name, "not_after", leaf.NotAfter, "remedy", "put a new one in its place: it is taken at once")
		case now.Before(leaf.NotBefore):
			log.Warn("certificate is not valid yet", "file", name, "not_before", leaf.NotBefore, "remedy", "check this machine's clock")
		}
		if len(pair.Leaf.DNSNames)+len(pair.Leaf.IPAddresses) == 0 {
			log.Warn("certificate names no host; browsers will refuse it", "file", name)
		}
	}
	return pairs, m, nil
}
