//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"padlock/internal/servicetest"
)

// The search that the whole run ends with finds a secret in whatever form it was written, and nothing where there is none.
func TestSecretsAreFoundInWhateverFormTheyAreWritten(t *testing.T) {
	besides(t)
	fresh := func() *written {
		w, err := newWritten(filepath.Join(t.TempDir(), "said"))
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	older, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []any{curve, edwards, older} {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		number := private(der)
		for i, form := range append(forms(number), hex.EncodeToString(der), base64.StdEncoding.EncodeToString(der), strings.Join(strings.Split(string(text), "\n")[1:4], "\n")) {
			for prefix := range 3 { // wherever it stands in other bytes
				w := fresh()
				w.keepKey("a key", text)
				if len(w.search([]byte("level=INFO msg=hello key="+strings.Repeat("x", prefix)+form+"\n"))) == 0 {
					t.Errorf("%T: form %d is not found: %.60q", key, i, form)
				}
			}
		}
		for offset := range 3 {
			w := fresh()
			w.keepKey("a key", text)
			blob := base64.StdEncoding.EncodeToString(append(make([]byte, offset), number...))
			if len(w.search([]byte(blob))) == 0 {
				t.Errorf("%T: base64 at offset %d is not found", key, offset)
			}
		}
		for _, line := range strings.Split(string(text), "\n")[:1] {
			if len(fresh().search([]byte("a key of somebody's: "+line))) == 0 {
				t.Errorf("%T: %q is not found", key, line)
			}
		}
		// A key that nobody has told of is found by how keys begin.
		if whole := base64.StdEncoding.EncodeToString(der); len(fresh().search([]byte(whole))) == 0 || len(fresh().search([]byte(hex.EncodeToString(der)))) == 0 {
			t.Errorf("%T: an unknown key is not found", key)
		}
	}
	w := fresh()
	w.keep("a password", []byte("correct horse"))
	w.keep("a secret", []byte(strings.Repeat("\x01\x02\x03\x04", 8)))
	for _, clean := range []string{"level=INFO msg=\"correct\" horse", strings.Repeat("0102030", 3), "CLIENT_RANDOM", "-----BEGIN CERTIFICATE-----", "", "short"} {
		if found := w.search([]byte(clean)); len(found) > 0 {
			t.Errorf("%q: found %q", clean, found)
		}
	}
	random := strings.Repeat("ab", 32)
	for _, dirty := range []string{"password=\"correct horse\"", "CLIENT_TRAFFIC_SECRET_0 " + random + " " + random, "CLIENT_RANDOM " + random + " " + random, "hash $2a$10$abcdefghijklmnopqrstuv"} {
		if len(w.search([]byte(dirty))) == 0 {
			t.Errorf("%q: nothing found", dirty)
		}
	}
	// Also where the pieces meet in which a long log is searched.
	if _, err := w.Write([]byte(strings.Repeat("x", piece-5) + "correct horse")); err != nil {
		t.Fatal(err)
	}
	if said, _, found, err := w.verdict(); err != nil || said != piece+8 || len(found) != 1 {
		t.Errorf("%d bytes, %q, %v", said, found, err)
	}
}

// Whatever padlock is asked to tell, of what works and what fails, on its terminal, in its logs, at its admin endpoint and by its commands,
// none of it holds a key, a password, a token or a traffic secret.
func TestNoSecretIsWritten(t *testing.T) {
	besides(t)
	const (
		password, token, hmac = "Tr0ub4dor-and-3-horses", "an-admin-token-nobody-should-see", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
		cookie, bearer        = "session-of-a-visitor-4711", "bearer-of-a-visitor-0815"
	)
	storageKey := make([]byte, 32)
	_, _ = rand.Read(storageKey)
	mac, err := base64.RawURLEncoding.DecodeString(hmac)
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWritten(filepath.Join(t.TempDir(), "said"))
	if err != nil {
		t.Fatal(err)
	}
	for what, secret := range map[string][]byte{"password": []byte(password), "admin token": []byte(token), "HMAC key": []byte(hmac), "HMAC key's bytes": mac, "storage key": storageKey, "cookie": []byte(cookie), "bearer": []byte(bearer)} {
		w.keep(what, secret)
	}
	ca := startCA(t, servicetest.PebbleOptions{EAB: map[string]string{"kid-1": hmac}})
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	bought := clientCA(t)
	admin := local(servicetest.FreePort(t))
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("token", token)
	put("storage.key", base64.StdEncoding.EncodeToString(storageKey))
	put("hmac", hmac)
	storage := filepath.Join(dir, "storage")
	configure := func(format string) {
		put("padlock.yaml", fmt.Sprintf(`
listen: {https: ["127.0.0.1:%d"], http: ["127.0.0.1:%d"]}
admin: {address: %q, token_file: token}
storage: %s
storage_key_file: storage.key
error_details: true
certificates:
  email: ops@example.com
  issuers: [{directory: %q, root: %q, eab: {kid: kid-1, hmac_key_file: hmac}}]
  dns: {resolvers: [%q]}
access_log: {format: json, output: access.log, headers: [Authorization, Cookie, X-Api-Key]}
handshakes: {format: %s, output: handshakes-%s.log}
sites:
  - hosts: [localhost]
    routes:
      - {path: /staff, basic_auth: {users: {anna: %q}}, respond: {body: "hello"}}
      - {path: /gone, to: "127.0.0.1:1"}
      - {respond: {body: "hello"}}
  - {hosts: [app.example.com], routes: [{respond: {body: hello}}]}
  - {hosts: [secret.localhost], tls: {client_auth: {mode: require, ca: %q}}, routes: [{respond: {body: hello}}]}
`, ca.TLS, ca.HTTP, admin, storage, ca.URL, ca.Root, ca.DNS, format, format, hash, bought.file))
	}
	keyLog := filepath.Join(t.TempDir(), "keylog")
	keys, err := os.Create(keyLog)
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) {
		c := program(plain, dir, args...) // what they say is looked at, and they are many
		c.Dir = dir
		out, _ := c.CombinedOutput() // some fail, as they should
		_, _ = w.Write(out)
	}
	requests := 0
	visit := func(name string, change func(*tls.Config)) {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			c := &tls.Config{ServerName: name, InsecureSkipVerify: true, KeyLogWriter: keys, MaxVersion: version}
			if change != nil {
				change(c)
			}
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}}
			for _, path := range []string{"/", "/staff?password=" + password, "/staff", "/gone?token=" + bearer, "/api_key?api_key=" + bearer} {
				request, _ := http.NewRequest("GET", "https://"+ca.address()+path, nil)
				request.Host = name
				request.Header.Set("Cookie", "session="+cookie)
				request.Header.Set("X-Api-Key", bearer)
				if path != "/gone" {
					request.SetBasicAuth("anna", password)
				} else {
					request.Header.Set("Authorization", "Bearer "+bearer)
				}
				if response, err := client.Do(request); err == nil {
					requests++
					body, _ := io.ReadAll(response.Body)
					response.Body.Close()
					_, _ = w.Write(body)
				}
			}
		}
	}
	for _, format := range []string{"story", "line", "json"} {
		configure(format)
		p := &padlock{home: dir, storage: storage}
		c := program(binary, dir, "run", "--config", "padlock.yaml")
		c.Dir = dir
		p.run(t, c)
		ca.issued(t, "app.example.com", func(c *tls.Config) { c.KeyLogWriter = keys })
		visit("localhost", nil)
		visit("app.example.com", nil)
		visit("secret.localhost", nil)
		visit("secret.localhost", func(c *tls.Config) { c.Certificates = []tls.Certificate{bought.client} })
		visit("nobody.example", nil)
		visit("localhost", func(c *tls.Config) { c.InsecureSkipVerify = false })
		visit("localhost", func(c *tls.Config) { c.NextProtos = []string{"nonsense"} })
		for _, path := range []string{"/", "/traffic", "/keys", "/metrics", "/status", "/certificates", "/handshakes", "/handshakes/1", "/handshakes/2", "/trends", "/healthz", "/readyz", "/debug/pprof/heap", "/debug/pprof/goroutine?debug=2", "/nothing"} {
			for _, authorization := range []string{"Bearer " + token, "Bearer " + token + "x", ""} {
				request, _ := http.NewRequest("GET", "http://"+admin+path, nil)
				request.Header.Set("Authorization", authorization)
				if response, err := http.DefaultClient.Do(request); err == nil {
					body, _ := io.ReadAll(response.Body)
					response.Body.Close()
					_, _ = w.Write(body)
				}
			}
		}
		for _, args := range [][]string{
			{"status", "--config", "padlock.yaml"}, {"certs", "list", "--config", "padlock.yaml"}, {"reload", "--config", "padlock.yaml"}, {"check", "--config", "padlock.yaml"}, {"run", "--config", "padlock.yaml", "--print-config"},
			{"doctor", "--config", "padlock.yaml"}, {"doctor"}, {"probe", ca.address(), "--name", "localhost"}, {"probe", ca.address(), "--name", "secret.localhost"}, {"certs", "inspect", "app.example.com", "--config", "padlock.yaml"}, {"trust", "--print", "--storage", storage},
			{"certs", "renew", "app.example.com", "--config", "padlock.yaml"}, {"explain", "bad certificate"}, {"run", "--config", "padlock.yaml", "--nonsense"}, {"version"},
		} {
			run(args...)
		}
		put("padlock.yaml", strings.Replace(readText(t, filepath.Join(dir, "padlock.yaml")), "app.example.com]", "app.example.com], nonsense: "+password+"x", 1))
		_ = syscall.Kill(p.pid, syscall.SIGHUP) // a file that is refused, for a reason that is told
		p.stderr.wait(t, "nonsense")
		p.stop(t)
		_, _ = w.Write([]byte(p.stderr.wait(t)))
	}
	if requests < 60 {
		t.Fatalf("only %d requests were answered: there was not much to tell", requests)
	}
	if err := keys.Close(); err != nil {
		t.Fatal(err)
	}
	w.keepLog(keyLog)
	w.collect(dir)
	said, secrets, found, err := w.verdict()
	if err != nil || secrets < 100 || said < 100_000 {
		t.Fatalf("%d bytes were searched for %d secrets: %v", said, secrets, err)
	}
	for _, what := range found {
		t.Error(what)
	}
	t.Logf("%d bytes were searched for %d secrets", said, secrets)
	// Only where it is told so does padlock give traffic secrets away.
	if exec.Command("grep", "-rqE", "TRAFFIC_SECRET|CLIENT_RANDOM", dir).Run() == nil {
		t.Error("a file holds the secrets of handshakes")
	}
}

func readText(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
