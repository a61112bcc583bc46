package certs_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"padlock/certs"
	"padlock/certs/storage"
	"padlock/config"
)

// pages collects a log.
type pages struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (p *pages) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *pages) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// watching serves files, and reads them again when they change.
func watching(t *testing.T, log *pages, files ...config.CertificateFile) *certs.Source {
	t.Helper()
	f, err := certs.NewFiles(files, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return watched(t, f)
}

func watched(t *testing.T, f *certs.Files) *certs.Source {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); f.Watch(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	time.Sleep(100 * time.Millisecond) // until the folders are watched
	return certs.New(certs.Options{Files: f})
}

func served(t *testing.T, s *certs.Source, name string) *x509.Certificate {
	t.Helper()
	pair, err := s.GetCertificate(&tls.ClientHelloInfo{
		ServerName: name, SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256},
		SupportedCurves: []tls.CurveID{tls.CurveP256}, CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256},
	})
	if err != nil || pair == nil {
		return nil
	}
	return pair.Leaf
}

func until(t *testing.T, what string, log *pages, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within a minute; the log says:\n%s", what, log)
		}
	}
}

// generation writes a folder as Kubernetes does for a secret: the files are links to ..data, and that links to the generation.
func generation(t *testing.T, dir, name string, from config.CertificateFile) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(filepath.Join(dir, name), 0o700))
	for file, source := range map[string]string{"tls.crt": from.Cert, "tls.key": from.Key} {
		data, err := os.ReadFile(source)
		must(err)
		must(os.WriteFile(filepath.Join(dir, name, file), data, 0o600))
		if link := filepath.Join(dir, file); exists(link) {
			continue
		}
		must(os.Symlink(filepath.Join("..data", file), filepath.Join(dir, file)))
	}
	must(os.Symlink(name, filepath.Join(dir, "..data_tmp")))
	must(os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
}

func exists(path string) bool { _, err := os.Lstat(path); return err == nil }

func TestASecretOfKubernetesIsExchanged(t *testing.T) {
	for _, whole := range []bool{true, false} {
		dir, log := t.TempDir(), &pages{}
		generation(t, dir, "..2026_1", pair(t, ecKey(t), time.Now().Add(time.Hour), "app.example.com"))
		file := config.CertificateFile{Directory: dir}
		if !whole {
			file = config.CertificateFile{Cert: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key")}
		}
		s := watching(t, log, file)
		first := served(t, s, "app.example.com")
		if first == nil {
			t.Fatal("no certificate")
		}
		generation(t, dir, "..2026_2", pair(t, ecKey(t), time.Now().Add(2*time.Hour), "app.example.com"))
		if err := os.RemoveAll(filepath.Join(dir, "..2026_1")); err != nil {
			t.Fatal(err)
		}
		until(t, "the new generation", log, func() bool { c := served(t, s, "app.example.com"); return c != nil && !c.Equal(first) })
	}
}

func TestABrokenNewFileKeepsTheOldCertificate(t *testing.T) {
	file, log := pair(t, ecKey(t), time.Now().Add(time.Hour), "app.example.com"), &pages{}
	s := watching(t, log, file)
	first := served(t, s, "app.example.com")
	other := pair(t, ecKey(t), time.Now().Add(2*time.Hour), "app.example.com")
	whole, err := os.ReadFile(other.Cert)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []struct {
		data string
		says string
	}{{"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "the one before is served on"}, {"", "holds no certificate in PEM"}, {string(whole), "do not belong together"}} {
		if err := os.WriteFile(file.Cert, []byte(bad.data), 0o600); err != nil {
			t.Fatal(err)
		}
		until(t, bad.says, log, func() bool { return strings.Contains(log.String(), bad.says) })
		if c := served(t, s, "app.example.com"); !c.Equal(first) {
			t.Errorf("%q: another certificate is served", bad.says)
		}
	}
	key, err := os.ReadFile(other.Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file.Key, key, 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, "the new pair", log, func() bool { return !served(t, s, "app.example.com").Equal(first) })
	if err := os.Remove(file.Key); err != nil {
		t.Fatal(err)
	}
	until(t, "a file that is gone", log, func() bool { return strings.Contains(log.String(), "no such file") })
	if served(t, s, "app.example.com") == nil {
		t.Error("the certificate has gone with its file")
	}
}

// issued is a leaf below an intermediate below a root.
func issued(t *testing.T, name string) (key crypto.Signer, leaf, intermediate *x509.Certificate) {
	t.Helper()
	make := func(template *x509.Certificate, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) *x509.Certificate {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		if parent == nil {
			parent = template
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	ca := func(n int64, name string) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(n), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	}
	rootKey, middleKey, leafKey := ecKey(t), ecKey(t), ecKey(t)
	root := make(ca(1, "Root"), nil, rootKey.Public(), rootKey)
	middle := make(ca(2, "Middle"), root, middleKey.Public(), rootKey)
	return leafKey, make(&x509.Certificate{SerialNumber: big.NewInt(3), DNSNames: []string{name}}, middle, leafKey.Public(), middleKey), middle
}

func TestPKCS12AndAChainThatIsCompleted(t *testing.T) {
	key, leaf, middle := issued(t, "bought.example.com")
	dir := t.TempDir()
	data, err := pkcs12.Modern.Encode(key, leaf, nil, "open sesame")
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := config.CertificateFile{PKCS12: write("bought.p12", data), Password: "file:" + write("password", []byte("open sesame\n")),
		Intermediates: write("middle.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: middle.Raw}))}
	files, err := certs.NewFiles([]config.CertificateFile{file}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	pairs := files.Pairs()
	if len(pairs) != 1 || len(pairs[0].Certificate) != 2 || !bytes.Equal(pairs[0].Certificate[1], middle.Raw) {
		t.Errorf("%d pairs; the chain is not completed", len(pairs))
	}
	file.Password = "wrong"
	if _, err := certs.NewFiles([]config.CertificateFile{file}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "the password is wrong") {
		t.Errorf("%v", err)
	}
}

// What is imported into a storage is served by whoever watches it, and goes when it is removed; a damaged value harms nobody else.
func TestImportedCertificates(t *testing.T) {
	store, err := storage.Open(t.Context(), t.TempDir(), storage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	quiet := slog.New(slog.DiscardHandler)
	for _, file := range []config.CertificateFile{
		pair(t, ecKey(t), time.Now().Add(time.Hour), "shop.example.com"), pair(t, rsaKey(t), time.Now().Add(time.Hour), "shop.example.com"), pair(t, ecKey(t), time.Now().Add(time.Hour), "*.example.org"),
	} {
		if _, err := certs.Import(t.Context(), store, file, quiet); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Store(t.Context(), "imported/broken.pem", []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")); err != nil {
		t.Fatal(err)
	}
	files, err := certs.NewFiles(nil, quiet)
	if err != nil {
		t.Fatal(err)
	}
	files.AddImported(t.Context(), store, nil)
	s := certs.New(certs.Options{Files: files})
	for name, want := range map[string]bool{"shop.example.com": true, "any.example.org": true, "other.example.com": false} {
		if got := served(t, s, name) != nil; got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	all, err := certs.ListImported(t.Context(), store)
	if len(all) != 3 || err == nil || !strings.Contains(err.Error(), "broken.pem") {
		t.Errorf("%d imported, %v", len(all), err)
	}
}
