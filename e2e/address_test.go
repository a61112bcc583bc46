//go:build e2e

package e2e

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// curl sends no server name to an address: a site named by one that asks for client certificates lets in who has one, and nobody else.
func TestCurlReachesASiteNamedByAnAddress(t *testing.T) {
	besides(t)
	curl := need(t, "curl")
	ca := newAuthority(t, "Clients", nil)
	der, key := sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "Alice"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, ca, nil)
	dir := t.TempDir()
	for name, content := range map[string][]byte{
		"clients.pem": pemOf("CERTIFICATE", ca.cert.Raw), "alice.pem": pemOf("CERTIFICATE", der), "alice-key.pem": keyPEM(t, key),
		"padlock.yaml": []byte(`
listen: {https: ["127.0.0.1:0"], http: []}
sites:
  - {hosts: [localhost], routes: [{respond: {body: open}}]}
  - {hosts: [127.0.0.1], tls: {client_auth: {mode: require, ca: clients.pem}}, routes: [{respond: {body: secret}}]}
`),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := startFile(t, dir)
	address := strings.Replace(p.url, "localhost", "127.0.0.1", 1)
	shown := []string{"--cert", filepath.Join(dir, "alice.pem"), "--key", filepath.Join(dir, "alice-key.pem")}
	ask := func(args ...string) (string, error) {
		out, err := exec.Command(curl, append([]string{"-sS", "--cacert", p.root(t), "-w", " %{http_code}"}, args...)...).CombinedOutput()
		return string(out), err
	}
	for _, version := range []string{"--http1.1", "--http2"} {
		if got, err := ask(append(shown, version, address)...); err != nil || got != "secret 200" {
			t.Errorf("%s with a certificate: %s %v", version, got, err)
		}
		if got, err := ask(version, address); err == nil {
			t.Errorf("%s without a certificate: %s", version, got)
		}
		if got, err := ask(append(shown, version, "-H", "Host: localhost", address)...); err != nil || !strings.HasSuffix(got, " 421") {
			t.Errorf("%s, another host: %s %v", version, got, err)
		}
		if got, err := ask(version, p.url); err != nil || got != "open 200" {
			t.Errorf("%s, the open site: %s %v", version, got, err)
		}
	}
}
