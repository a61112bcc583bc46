//go:build e2e

package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"padlock/internal/servicetest"
)

// tool runs commands that end by themselves.
type tool struct {
	t    *testing.T
	home string
}

// certs runs padlock certs, and returns what it wrote and its exit code.
func (x tool) certs(args ...string) (stdout, stderr string, code int) {
	x.t.Helper()
	path := binary
	if args[0] == "list" { // which starts nothing
		path = plain
	}
	c := program(path, x.home, append([]string{"certs"}, args...)...)
	c.Dir = x.home
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		if _, ok := err.(*exec.ExitError); !ok {
			x.t.Fatal(err)
		}
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

// expects runs padlock certs and wants an exit code, and every word in what it wrote.
func (x tool) expects(code int, words []string, args ...string) string {
	x.t.Helper()
	stdout, stderr, got := x.certs(args...)
	all := stdout + stderr
	if got != code {
		x.t.Errorf("certs %v: exit code %d instead of %d:\n%s", args, got, code, all)
	}
	for _, w := range words {
		if !strings.Contains(all, w) {
			x.t.Errorf("certs %v does not say %q:\n%s", args, w, all)
		}
	}
	return stdout
}

func (x tool) list(file string) (rows []map[string]any) {
	x.t.Helper()
	out := x.expects(0, nil, "list", "--json", "--config", file)
	if err := json.Unmarshal([]byte(out), &rows); err != nil {
		x.t.Fatalf("%v: %s", err, out)
	}
	return rows
}

// Certificates are ordered, shown, renewed and revoked from the command line, with and without a padlock that runs.
func TestTheCertsCommandsAgainstACA(t *testing.T) {
	besides(t)
	ca := startCA(t, servicetest.PebbleOptions{})
	storage := filepath.Join(t.TempDir(), "storage")
	file := acmeFile(t, ca.CA, storage, "", "app.example.com", "late.example.com")
	x := tool{t, t.TempDir()}
	x.expects(0, []string{"app.example.com: order", "challenge offered", "finalised", "ECDSA P-256 certificate by Pebble", "valid until"}, "obtain", "app.example.com", "--config", file)
	x.expects(0, []string{"has a certificate until"}, "obtain", "app.example.com", "--config", file)
	x.expects(1, []string{"no certificate for blocked.example: the CA does not sign for this name", "1 of 1"}, "obtain", "blocked.example", "--config", file)
	x.expects(2, []string{"wildcard certificate needs dns-01"}, "obtain", "*.example.com", "--config", file)
	x.expects(2, []string{"stands in the file"}, "obtain", "app.example.com", "--config", file, "--staging")
	x.expects(0, []string{"NEXT RENEWAL", "app.example.com", "p256", "Pebble"}, "list", "--config", file)
	first := x.list(file)[0]["fingerprint_sha256"]

	x.expects(0, []string{"not due before"}, "renew", "--config", file)
	x.expects(0, []string{"app.example.com: ECDSA"}, "renew", "--force", "app.example.com", "--config", file)
	second := x.list(file)[0]["fingerprint_sha256"]
	if first == second || second == "" {
		t.Errorf("renewed from %v to %v", first, second)
	}
	roots := write(t, "roots.pem", string(ca.IssuingRoot()))
	x.expects(0, []string{"a browser on this machine shows its padlock", second.(string), "trusted here", "└─"}, "inspect", "app.example.com", "--config", file, "--ca", roots)
	x.expects(1, []string{"no padlock: this machine does not trust its CA"}, "inspect", "app.example.com", "--config", file)

	p := runFile(t, file)
	if served := ca.issued(t, "app.example.com", nil); fingerprintOf(served) != second {
		t.Error("another certificate is served than the one in the storage")
	}
	ca.issued(t, "late.example.com", nil)
	x.expects(0, []string{"a browser on this machine shows its padlock"}, "inspect", ca.address(), "--name", "app.example.com", "--ca", roots)
	x.expects(0, []string{"new.example.com: ECDSA"}, "obtain", "new.example.com", "--config", file) // answered by the one that runs
	x.expects(2, []string{"--reason"}, "revoke", "app.example.com", "--config", file)
	x.expects(0, []string{"app.example.com: revoked"}, "revoke", "--reason", "superseded", "app.example.com", "--config", file)
	deadline := time.Now().Add(100 * time.Second)
	for ca.issuedFingerprint(t, "app.example.com") == second {
		if time.Now().After(deadline) {
			t.Fatalf("the revoked certificate is still served:\n%s", p.stderr.wait(t))
		}
		time.Sleep(time.Second) // padlock looks at the storage once a minute
	}
	p.stop(t)

	// All of it moves to another storage, with its keys encrypted there.
	archive, other := filepath.Join(x.home, "all.tar.gz"), filepath.Join(x.home, "other")
	key := "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	x.expects(0, []string{"values of"}, "export", archive, "--config", file)
	if info, err := os.Stat(archive); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	x.expects(0, []string{"are in " + other}, "import", archive, "--storage", other, "--storage-key", key)
	x.expects(0, []string{"new.example.com", "ok"}, "list", "--storage", other, "--storage-key", key)
	x.expects(1, []string{"encrypted with another storage_key"}, "list", "--storage", other)
	x.expects(0, []string{"removed"}, "remove", "new.example.com", "--storage", other, "--storage-key", key)
	if out := x.expects(0, nil, "list", "--storage", other, "--storage-key", key); strings.Contains(out, "new.example.com") {
		t.Errorf("still there:\n%s", out)
	}
}

// A certificate from a CA that vets organizations: request, import, served within moments by the padlock that runs.
func TestACertificateThatWasBought(t *testing.T) {
	besides(t)
	x := tool{t, t.TempDir()}
	p := start(t, "proxy", "--from", "shop.internal", "--to", "1")
	storage := []string{"--storage", p.storage}
	x.expects(0, []string{"shop.internal.key", "the request, for your CA"}, "csr", "--organization", "Example Ltd", "--country", "GB", "--locality", "London", "shop.internal")
	x.expects(0, []string{"O=Example Ltd", "C=GB", "the request is in order"}, "inspect", "shop.internal.csr")
	signed := signRequest(t, filepath.Join(x.home, "shop.internal.csr"))
	x.expects(1, []string{"do not belong together"}, append([]string{"import", signed.leaf, "--key", signed.otherKey}, storage...)...)
	x.expects(0, []string{"shop.internal: ECDSA P-256 certificate by The Vetting CA"}, append([]string{"import", signed.leaf, "--key", "shop.internal.key", "--intermediates", signed.root}, storage...)...)
	x.expects(0, []string{"ok (imported)"}, append([]string{"list"}, storage...)...)
	address := strings.Replace(strings.TrimPrefix(p.url, "https://"), "shop.internal", "127.0.0.1", 1)
	eventually(t, func() (string, error) {
		state, err := see(address, "shop.internal", nil)
		if err == nil && state.PeerCertificates[0].Issuer.CommonName != "The Vetting CA" {
			err = os.ErrNotExist
		}
		return "", err
	})
}

// signed is what a CA that vets organizations sends back.
type signed struct{ leaf, root, otherKey string }

func signRequest(t *testing.T, file string) signed {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "The Vetting CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: request.Subject, DNSNames: request.DNSNames, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore: root.NotBefore, NotAfter: root.NotAfter,
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, request.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(name, kind string, der []byte) string {
		return write(t, name, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
	}
	return signed{encode("leaf.pem", "CERTIFICATE", leafDER), encode("root.pem", "CERTIFICATE", rootDER), encode("other.key", "PRIVATE KEY", keyDER)}
}
