//go:build e2e

package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A client that trusts the local CA gets the page, and the terminal tells that very handshake from hello to first byte.
func TestCurlAndOpenSSLSeeThePageAndTheTerminalTellsEveryStage(t *testing.T) {
	besides(t)
	p := start(t)
	root := p.root(t)
	for _, version := range []string{"--http1.0", "--http1.1", "--http2"} {
		out, err := exec.Command(need(t, "curl"), "-sS", "--fail", version, "--cacert", root, p.url).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "This connection is encrypted") || !strings.Contains(string(out), "CertificateVerify") {
			t.Fatalf("curl %s: %v\n%s", version, err, out)
		}
	}
	p.stderr.wait(t, "ClientHello", "ServerHello", "EncryptedExtensions", "Certificate ", "CertificateVerify", "server ←           Finished", "the padlock is closed")
	c := exec.Command(need(t, "openssl"), "s_client", "-connect", strings.TrimPrefix(p.url, "https://"), "-servername", "localhost", "-CAfile", root, "-verify_return_error", "-tls1_2", "-ign_eof")
	c.Stdin = strings.NewReader("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "Verify return code: 0") {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	p.stderr.wait(t, "ServerKeyExchange", "ClientKeyExchange", "ServerHelloDone")
}

// A client that does not trust the CA is told so, with the alert read off the wire instead of the library's misleading text.
func TestCurlWithoutTheCAIsDiagnosed(t *testing.T) {
	besides(t)
	p := start(t)
	if out, err := exec.Command(need(t, "curl"), "-sS", p.url).CombinedOutput(); err == nil {
		t.Fatalf("curl was content:\n%s", out)
	}
	p.stderr.wait(t, "alert 48, unknown_ca", "the client does not trust the CA", "padlock trust")
}

// padlock trust makes a browser's store trust the root and says so by reading it back; untrust takes it out again.
func TestTrustIsVerifiedStoreByStore(t *testing.T) {
	besides(t)
	need(t, "certutil")
	home := t.TempDir()
	out, _ := command(home, "trust").CombinedOutput()
	if want := "Chromium and Chrome " + filepath.Join(home, ".pki", "nssdb") + ": trusts it"; !strings.Contains(string(out), want) {
		t.Errorf("%q is missing in\n%s", want, out)
	}
	out, _ = command(home, "untrust").CombinedOutput()
	if want := ": does not trust it"; !strings.Contains(string(out), want) {
		t.Errorf("%q is missing in\n%s", want, out)
	}
}

// trust --allow makes a root that may sign for one more name, and for no other.
func TestTrustAllowMakesARootForAFurtherName(t *testing.T) {
	besides(t)
	p := &padlock{home: t.TempDir()}
	storage := filepath.Join(p.home, "storage")
	if out, err := command(p.home, "trust", "--print", "--storage", storage, "--allow", "dev.example.com").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p = start(t, "proxy", "--from", "api.dev.example.com", "--to", app(t, "python3"), "--storage", storage)
	port := p.url[strings.LastIndex(p.url, ":")+1:]
	out, err := exec.Command(need(t, "curl"), "-sS", "--fail", "--cacert", p.root(t), "--resolve", "api.dev.example.com:"+port+":127.0.0.1", p.url).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	// Other names are not the local CA's: a public CA would have to know them.
	if out, err := command(p.home, "proxy", "--from", "intranet", "--to", "3000", "--storage", storage).CombinedOutput(); err == nil || !strings.Contains(string(out), "hint:") {
		t.Errorf("%v\n%s", err, out)
	}
}
