package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"padlock/certs"
	"padlock/certs/localca"
	"padlock/config"
)

func snapshotOf(t *testing.T, file string, files ...config.CertificateFile) *snapshot {
	t.Helper()
	cfg := parsed(t, t.TempDir(), file)
	ca, err := localca.Open(t.TempDir(), localca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	listed, err := certs.NewFiles(files, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return &snapshot{cfg: cfg, local: ca, files: listed, source: certs.New(certs.Options{Files: listed, Local: ca})}
}

// A name that gets no certificate is told why, and what was probably meant.
func TestANameWithoutACertificateIsExplained(t *testing.T) {
	s := snapshotOf(t, `
sites:
  - hosts: [shop.localhost, "*.wild.localhost"]
  - {hosts: [admin.localhost], listen: ["127.0.0.1:9443"]}
`)
	for name, want := range map[string][2]string{
		"admin.localhost":     {"on port 9443 only", "use port 9443"},
		"shopp.localhost":     {"padlock serves shop.localhost", "use shop.localhost if that was meant"},
		"www.shop.localhost":  {"padlock serves", "use shop.localhost if that was meant"},
		"a.b.wild.localhost":  {"*.wild.localhost stands for one label only", "one label before wild.localhost"},
		"elsewhere.example":   {"padlock serves shop.localhost, *.wild.localhost, admin.localhost", "sites[].hosts"},
		"shop.localhost":      {"no certificate that the client can be shown", "certificates.files"},
		"not a name at all !": {"", ""},
	} {
		if why, remedy := s.unserved(name, "127.0.0.1:443"); !strings.Contains(why, want[0]) || !strings.Contains(remedy, want[1]) {
			t.Errorf("%s: %q, %q", name, why, remedy)
		}
	}
}

// Where a certificate comes from is known: of a file, which one, and where the configuration has it.
func TestACertificatesOriginIsKnown(t *testing.T) {
	dir := t.TempDir()
	other, err := localca.Open(t.TempDir(), localca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := other.Leaf("shop.localhost")
	if err != nil {
		t.Fatal(err)
	}
	cert, key := pairFiles(t, dir, leaf)
	s := snapshotOf(t, "sites: [{hosts: [shop.localhost, app.localhost]}]", config.CertificateFile{Cert: cert, Key: key})
	hello := func(name string) *tls.Certificate {
		c, err := s.source.GetCertificate(&tls.ClientHelloInfo{ServerName: name, SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}})
		if err != nil || c == nil {
			t.Fatalf("%s: %v", name, err)
		}
		return c
	}
	if o := s.origin(hello("shop.localhost")); o.Kind != "file" || o.File != cert || o.Key != "certificates.files[0]" {
		t.Errorf("%+v", o)
	}
	if o := s.origin(hello("app.localhost")); o.Kind != "local" {
		t.Errorf("%+v", o)
	}
	if o := s.origin(leaf); o.Kind != "" {
		t.Errorf("%+v", o)
	}
}

func pairFiles(t *testing.T, dir string, pair *tls.Certificate) (cert, key string) {
	t.Helper()
	cert, key = filepath.Join(dir, "shop.pem"), filepath.Join(dir, "shop-key.pem")
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}
