package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"padlock/internal/servicetest"
)

// What PostgreSQL has is listed in a session that may only read, with and without storage_key, and what would write there says so.
func TestCertsListOnlyReads(t *testing.T) {
	server := servicetest.StartPostgres(t)
	cert, key := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "shop.example"}, DNSNames: []string{"shop.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 1, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	readOnly := server.URL + "&options=-c%20default_transaction_read_only%3Don"
	certs := func(args ...string) (int, string) {
		var out bytes.Buffer
		code := run(t.Context(), append([]string{"certs"}, args...), strings.NewReader(""), &out, &out)
		return code, out.String()
	}
	if code, said := certs("list", "--storage", readOnly); code != 1 || !strings.Contains(said, "read-only") {
		t.Errorf("before the tables are made: %d %s", code, said)
	}
	for _, more := range [][]string{nil, {"--storage-key", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="}} {
		if more != nil {
			if code, said := certs(append([]string{"encrypt", "--storage", server.URL}, more...)...); code != 0 {
				t.Fatalf("%d %s", code, said)
			}
		} else if code, said := certs("import", cert, "--storage", server.URL, "--key", key); code != 0 {
			t.Fatalf("%d %s", code, said)
		}
		if code, said := certs(append([]string{"list", "--storage", readOnly}, more...)...); code != 0 || !strings.Contains(said, "shop.example") {
			t.Errorf("%q: %d %s", more, code, said)
		}
		if code, said := certs(append([]string{"import", cert, "--storage", readOnly, "--key", key}, more...)...); code != 1 || !strings.Contains(said, "read-only") {
			t.Errorf("%q, writing: %d %s", more, code, said)
		}
	}
}
