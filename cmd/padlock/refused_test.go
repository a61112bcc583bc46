package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"padlock/certs/acme/dns"
	"padlock/certs/storage"
	"padlock/config"
	"padlock/internal/servicetest"
)

// ends runs a command that is to end by itself.
func ends(t *testing.T, args ...string) (code int, said string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var out servicetest.Buffer
	code = run(ctx, args, strings.NewReader(""), &out, &out)
	if ctx.Err() != nil {
		t.Errorf("%q does not end by itself: %s", args, &out)
	}
	return code, out.String()
}

// yaml writes a configuration, in which DIR is a directory of the test's own. One that names no addresses listens where
// nobody else does: others may use the ports of HTTP and HTTPS, of which the check warns.
func yaml(t *testing.T, content string) (file, dir string) {
	t.Helper()
	if !strings.Contains(content, "listen:") {
		content += "listen: {https: [127.0.0.1:0], http: []}\n"
	}
	dir = t.TempDir()
	file = filepath.Join(dir, "padlock.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(content, "DIR", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, dir
}

// A DNS provider whose settings are not there is an error in the provider's own words, of padlock run, of the flags and of padlock check.
func TestEveryDNSProviderWithoutItsSettingsIsAnError(t *testing.T) {
	for _, provider := range config.DNSProviders {
		t.Run(provider, func(t *testing.T) {
			_, want := dns.New(dns.Options{Provider: provider, Log: slog.New(slog.DiscardHandler)})
			file, dir := yaml(t, fmt.Sprintf("storage: DIR/storage\nadmin: off\nlisten: {https: [127.0.0.1:0], http: []}\n"+
				"certificates: {issuers: [https://127.0.0.1:1/dir], dns: {provider: %s}}\nsites: [{hosts: [app.example.com], routes: [{to: 3000}]}]\n", provider))
			code, said := ends(t, "check", "--config", file)
			if want == nil { // it asks the machine that it runs on, later
				if code != 0 {
					t.Errorf("check: exit code %d: %s", code, said)
				}
				return
			}
			commands := map[string][]string{
				"check":  {"check", "--config", file},
				"run":    {"run", "--config", file},
				"flags":  {"proxy", "--from", "app.example.com", "--to", "3000", "--dns", provider, "--acme", "https://127.0.0.1:1/dir", "--listen", "127.0.0.1:0", "--storage", filepath.Join(dir, "flags")},
				"obtain": {"certs", "obtain", "app.example.com", "--config", file},
			}
			for command, args := range commands {
				if code, said := ends(t, args...); code != 1 || !strings.Contains(said, want.Error()) {
					t.Errorf("%s: exit code %d, without %q: %s", command, code, want, said)
				}
			}
		})
	}
}

// Whoever turns storage_key on later is told so by padlock check and padlock run, with the one command that it takes; until then nothing
// that stands there in the clear is used or replaced.
func TestAStorageOfBeforeTheKeyIsEncryptedByOneCommand(t *testing.T) {
	key := "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	file, dir := yaml(t, "storage: DIR/storage\nstorage_key: "+key+"\nadmin: off\nlisten: {https: [127.0.0.1:0], http: []}\nsites: [{hosts: [app.test], routes: [{to: 3000}]}]\n")
	if code, said := ends(t, "check", "--config", file); code != 0 {
		t.Fatalf("check: exit code %d: %s", code, said)
	}
	if _, err := os.Stat(filepath.Join(dir, "storage")); err == nil {
		t.Error("check has made the storage")
	}
	store, err := storage.Open(t.Context(), filepath.Join(dir, "storage"), storage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	before := []byte(`[{"from":"2026-01-01T00:00:00Z","key":"AAAA"}]`)
	if err := store.Store(t.Context(), "tickets/keys.json", before); err != nil {
		t.Fatal(err)
	}

	for _, args := range [][]string{{"check", "--config", file}, {"run", "--config", file}, {"certs", "list", "--config", file}, {"certs", "export", "-", "--config", file}} {
		if code, said := ends(t, args...); code != 1 || !strings.Contains(said, "tickets/keys.json") || !strings.Contains(said, "padlock certs encrypt") {
			t.Errorf("%q: exit code %d: %s", args, code, said)
		}
	}
	raw := func() []byte {
		data, err := os.ReadFile(filepath.Join(dir, "storage", "tickets", "keys.json"))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	if !bytes.Equal(raw(), before) {
		t.Errorf("it was replaced: %q", raw())
	}
	if code, said := ends(t, "certs", "encrypt", "--storage", filepath.Join(dir, "storage")); code != 2 {
		t.Errorf("without a key: exit code %d: %s", code, said)
	}
	if code, said := ends(t, "certs", "encrypt", "--config", file); code != 0 || !strings.Contains(said, "1 of 1 values") || !storage.Encrypted(raw()) {
		t.Errorf("exit code %d: %s: %q", code, said, raw())
	}
	if code, said := ends(t, "check", "--config", file); code != 0 {
		t.Errorf("afterwards check: exit code %d: %s", code, said)
	}
	other := strings.Replace(key, "MDE", "MDA", 1)
	for _, args := range [][]string{{"--storage-key", other}, nil} {
		if code, said := ends(t, append([]string{"certs", "list", "--storage", filepath.Join(dir, "storage")}, args...)...); code != 1 || !strings.Contains(said, "another storage_key") {
			t.Errorf("%q: exit code %d: %s", args, code, said)
		}
	}
}

// padlock check finds a local CA that padlock run refuses, and makes none.
func TestCheckFindsALocalCAThatRunRefuses(t *testing.T) {
	file, dir := yaml(t, "storage: DIR\nadmin: off\nlisten: {https: [127.0.0.1:0], http: []}\nsites: [{hosts: [app.test], routes: [{to: 3000}]}]\n")
	if code, said := ends(t, "check", "--config", file); code != 0 {
		t.Fatalf("exit code %d: %s", code, said)
	}
	root := filepath.Join(dir, "localca", "root.pem")
	if _, err := os.Stat(root); err == nil {
		t.Error("check has made a local CA")
	}
	if err := os.MkdirAll(filepath.Dir(root), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"check", "run"} {
		if code, said := ends(t, command, "--config", file); code != 1 || !strings.Contains(said, root) {
			t.Errorf("%s: exit code %d: %s", command, code, said)
		}
	}
}

// No secret of any URL is printed, wherever in it that stands: by check, by the printed configuration, by an error or by the log.
func TestNoSecretOfAURLIsPrinted(t *testing.T) {
	const secret = "hunter2"
	for what, lines := range map[string]string{
		"sentinel": "storage: redis://127.0.0.1:1,127.0.0.1:2/0?master=m&sentinel_password=hunter2",
		"userinfo": "storage: redis://hunter2@127.0.0.1:1/0",
		"password": "storage: postgres://127.0.0.1:1/db?password=hunter2&sslmode=disable",
		"unknown":  "storage: redis://127.0.0.1:1/0?nonsense=hunter2",
		"fragment": "storage: 'redis://127.0.0.1:1/0#hunter2'",
		"scheme":   "storage: ftp://127.0.0.1/?key=hunter2",
		"otlp":     "storage: DIR\ntracing: {endpoint: 'http://127.0.0.1:1/?key=hunter2'}",
		"docker":   "storage: DIR\ndocker: {endpoint: 'http://u:hunter2@127.0.0.1:1'}",
		"ask":      "storage: DIR\ncertificates: {on_demand: {ask: 'http://u:hunter2@127.0.0.1:1/ok?token=hunter2#hunter2'}, issuers: ['https://127.0.0.1:1/dir?key=hunter2']}",
		"issuer":   "storage: DIR\ncertificates: {issuers: ['ftp://127.0.0.1:1/dir?key=hunter2']}",
	} {
		t.Run(what, func(t *testing.T) {
			file, _ := yaml(t, lines+"\nadmin: off\nlisten: {https: [127.0.0.1:0], http: []}\nsites: [{hosts: [app.test], routes: [{to: 3000}]}]\n")
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			for _, args := range [][]string{{"check", "--config", file}, {"run", "--config", file, "--print-config"}, {"certs", "list", "--config", file}} {
				var out servicetest.Buffer
				run(ctx, args, strings.NewReader(""), &out, &out)
				if strings.Contains(out.String(), secret) || out.String() == "" {
					t.Errorf("%q: %s", args, &out)
				}
			}
		})
	}
}

// A file of a directory that cannot be used stops padlock check, which says which and why, and not padlock run, which serves the others
// (TestAnUnusableFileOfADirectoryIsLeftOut).
func TestAnUnusableFileOfADirectoryStopsCheckAlone(t *testing.T) {
	certificates := t.TempDir()
	servicetest.Certificate(t, certificates) // for localhost
	file, _ := yaml(t, "storage: DIR/storage\nadmin: 127.0.0.1:0\nlisten: {https: [127.0.0.1:0], http: []}\ncertificates: {files: [{directory: "+certificates+"}]}\n"+
		"sites: [{hosts: [localhost], routes: [{respond: {body: x}}]}]\n")
	if code, said := ends(t, "check", "--config", file); code != 0 {
		t.Fatalf("exit code %d: %s", code, said)
	}
	bad := filepath.Join(certificates, "broken.pem")
	if err := os.WriteFile(bad, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, said := ends(t, "check", "--config", file); code != 1 || !strings.Contains(said, bad+":1") || !strings.Contains(said, "padlock run serves the rest") {
		t.Errorf("exit code %d: %s", code, said)
	}
}

// A request for a name that is longer than a common name may be has a shorter one of its names as that, or none: CAs refuse it otherwise.
func TestALongNameIsNoCommonName(t *testing.T) {
	long := strings.Repeat("a", 60) + ".example.com"
	for _, c := range []struct {
		names []string
		want  string
	}{{[]string{"a.example.com", long}, "a.example.com"}, {[]string{long, "b.example.com"}, "b.example.com"}, {[]string{long}, ""}} {
		file := filepath.Join(t.TempDir(), "request.csr")
		code, said := ends(t, append([]string{"certs", "csr", "--out", file, "--key", file + ".key"}, c.names...)...)
		content, err := os.ReadFile(file)
		if code != 0 || err != nil {
			t.Errorf("%v: exit code %d, %v: %s", c.names, code, err, said)
			continue
		}
		block, _ := pem.Decode(content)
		request, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil || request.Subject.CommonName != c.want || !slices.Equal(request.DNSNames, c.names) {
			t.Errorf("%v: common name %q, names %v, %v", c.names, request.Subject.CommonName, request.DNSNames, err)
		}
	}
}

// What padlock run serves with a warning is valid, and the check warns of it too.
func TestTheCheckWarnsAsTheStartDoes(t *testing.T) {
	file, dir := yaml(t, "storage: DIR/storage\nadmin: off\ncertificates: {files: [{cert: DIR/cert.pem, key: DIR/key.pem}]}\nsites: [{hosts: [app.test], routes: [{to: 3000}]}]\n")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "app.test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	code, said := ends(t, "check", "--config", file)
	if code != 0 || !strings.Contains(said, "certificate names no host; browsers will refuse it") || !strings.Contains(said, "is valid") || strings.Count(said, "warning") != 1 {
		t.Errorf("exit code %d: %s", code, said)
	}
}

// A storage key that is none is an error of check and start, also where every name is local and the storage is hardly needed: what is in it is not
// passed over.
func TestAStorageKeyThatIsNoneIsAnError(t *testing.T) {
	for key, want := range map[string]string{
		"short": "must be 32 bytes", strings.Repeat("00", 31): "must be 32 bytes", "file:DIR/none": "no such file", "file:DIR/cut": "must be 32 bytes",
	} {
		file, dir := yaml(t, "storage: DIR/storage\nstorage_key: "+strconv.Quote(key)+"\nadmin: off\nlisten: {https: [127.0.0.1:0], http: []}\nsites: [{hosts: [localhost], routes: [{to: 3000}]}]\n")
		if err := os.WriteFile(filepath.Join(dir, "cut"), []byte(strings.Repeat("ab", 20)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, command := range []string{"check", "run"} {
			if code, said := ends(t, command, "--config", file); code != 1 || !strings.Contains(said, "storage_key") || !strings.Contains(said, want) {
				t.Errorf("%s with %s: exit code %d: %s", command, key, code, said)
			}
		}
	}
}
