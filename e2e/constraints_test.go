//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

const bank = "www.bank.example"

// forge signs a certificate with the local CA's stolen key.
func forge(t *testing.T, rootFile, name string) (cert, key string) {
	t.Helper()
	ca, err := tls.LoadX509KeyPair(rootFile, rootFile)
	if err != nil {
		t.Fatal(err)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Leaf, private.Public(), ca.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// A thief of the local CA's key gains nothing: no client that trusts the CA believes it about a name that is not local.
// Each client is shown to believe the same key about a local name, so that nothing else can be the reason.
func TestAStolenRootKeyCannotImpersonateABank(t *testing.T) {
	besides(t)
	home := start(t) // makes the CA
	rootFile := filepath.Join(home.storage, "localca", "root.pem")
	edge := func(name string) *padlock {
		cert, key := forge(t, rootFile, name)
		return start(t, "proxy", "--from", name, "--to", app(t, "python3"), "--cert", cert, "--key", key)
	}
	local, forged := edge("shop.test"), edge(bank)
	root := home.root(t)
	port := func(p *padlock) string { return p.url[strings.LastIndex(p.url, ":")+1:] }

	t.Run("curl", func(t *testing.T) {
		for p, name := range map[*padlock]string{local: "shop.test", forged: bank} {
			out, err := exec.Command(need(t, "curl"), "-sS", "--cacert", root, "--resolve", name+":"+port(p)+":127.0.0.1", p.url).CombinedOutput()
			if (err == nil) != (p == local) {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
		}
		forged.stderr.wait(t, "the client hung up")
	})
	t.Run("OpenSSL", func(t *testing.T) {
		for p, want := range map[*padlock]string{local: "Verify return code: 0 (ok)", forged: "permitted subtree violation"} {
			c := exec.Command(need(t, "openssl"), "s_client", "-connect", "127.0.0.1:"+port(p), "-servername", strings.TrimPrefix(p.url[:strings.LastIndex(p.url, ":")], "https://"), "-CAfile", root)
			if out, _ := c.CombinedOutput(); !strings.Contains(string(out), want) {
				t.Errorf("%q is missing in\n%s", want, out)
			}
		}
	})
	t.Run("Go", func(t *testing.T) {
		for p, name := range map[*padlock]string{local: "shop.test", forged: bank} {
			config := home.client(t, false).Transport.(*http.Transport).TLSClientConfig.Clone()
			config.ServerName = name
			conn, err := tls.Dial("tcp", "127.0.0.1:"+port(p), config)
			if (err == nil) != (p == local) {
				t.Errorf("%s: %v", name, err)
			}
			if err == nil {
				conn.Close()
			}
		}
	})
	t.Run("Chromium", func(t *testing.T) {
		home.trust(t, filepath.Join(home.home, ".pki", "nssdb"))
		for p, name := range map[*padlock]string{local: "shop.test", forged: bank} {
			ctx := chromium(t, home, chromedp.Flag("host-resolver-rules", "MAP "+name+" 127.0.0.1"))
			err := chromedp.Do(ctx, chromedp.Navigate(p.url))
			if p == local && err != nil || p == forged && (err == nil || !strings.Contains(err.Error(), "ERR_CERT")) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("Firefox", func(t *testing.T) {
		resolve := `user_pref("network.dns.localDomains", "shop.test,` + bank + `");` + "\n"
		believing, wary := firefox(t, home, resolve), firefox(t, home, resolve)
		home.trust(t, believing.profile)
		if out, err := exec.Command("certutil", "-L", "-d", "sql:"+wary.profile).CombinedOutput(); !strings.Contains(string(out), "padlock local CA") {
			t.Fatalf("%v\n%s", err, out)
		}
		believing.open(t, local.url)
		believing.title(t, "An app in Python")
		wary.open(t, forged.url)
		wary.title(t, "Secure Connection Failed|Security Risk")
	})
}
