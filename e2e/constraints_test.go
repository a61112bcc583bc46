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
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

const bank = "www.bank.example"

// forge signs a server's certificate with the local CA's stolen key.
func forge(t *testing.T, rootFile, name string) (cert, key string) {
	t.Helper()
	return forgeAny(t, rootFile, x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

// forgeAny signs whatever certificate with the local CA's stolen key.
func forgeAny(t *testing.T, rootFile string, template x509.Certificate) (cert, key string) {
	t.Helper()
	ca, err := tls.LoadX509KeyPair(rootFile, rootFile)
	if err != nil {
		t.Fatal(err)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.KeyUsage = big.NewInt(time.Now().UnixNano()), x509.KeyUsageDigitalSignature
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(90*24*time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, &template, ca.Leaf, private.Public(), ca.PrivateKey)
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
		ctx := chromium(t, home, chromedp.Flag("host-resolver-rules", "MAP shop.test 127.0.0.1, MAP "+bank+" 127.0.0.1"))
		for p, name := range map[*padlock]string{local: "shop.test", forged: bank} {
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

// Nor does he gain anything elsewhere: OpenSSL, told to trust the CA, takes no signature of his for a person's, a client's, a program's
// or a workload's, whatever the certificate says that it is for.
func TestAStolenRootKeySignsForServersAlone(t *testing.T) {
	besides(t)
	home := start(t)
	rootFile, root := filepath.Join(home.storage, "localca", "root.pem"), home.root(t)
	spiffe := &url.URL{Scheme: "spiffe", Host: "cluster.test", Path: "/sa/admin"}
	verify := func(template x509.Certificate, purpose string) (string, error) {
		cert, _ := forgeAny(t, rootFile, template)
		out, err := exec.Command(need(t, "openssl"), "verify", "-purpose", purpose, "-CAfile", root, cert).CombinedOutput()
		return string(out), err
	}
	server := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	if out, err := verify(x509.Certificate{DNSNames: []string{"shop.test"}, ExtKeyUsage: server}, "sslserver"); err != nil {
		t.Fatalf("the CA is believed about no server: %s", out)
	}
	if out, err := javaGet(t, root, home.url); err != nil {
		t.Errorf("Java does not believe the CA about a server: %v\n%s", err, out)
	}
	for _, forged := range []x509.Certificate{
		{Subject: pkix.Name{CommonName: "Anybody"}},
		{EmailAddresses: []string{"anybody@bank.example"}},
		{EmailAddresses: []string{"anybody@bank.example"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection, x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageCodeSigning}},
		{DNSNames: []string{"shop.test"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
	} {
		for _, purpose := range []string{"smimesign", "smimeencrypt", "sslclient"} {
			if out, err := verify(forged, purpose); err == nil {
				t.Errorf("%s: %v %v is believed: %s", purpose, forged.Subject, forged.EmailAddresses, out)
			}
		}
	}
	for _, forged := range []x509.Certificate{{EmailAddresses: []string{"anybody@bank.example"}}, {URIs: []*url.URL{spiffe}}, {DNSNames: []string{"shop.test"}, URIs: []*url.URL{spiffe}, ExtKeyUsage: server}} {
		for _, purpose := range []string{"any", "sslserver"} {
			if out, err := verify(forged, purpose); err == nil {
				t.Errorf("%s: %v %v is believed: %s", purpose, forged.EmailAddresses, forged.URIs, out)
			}
		}
	}
}

// javaGet has Java, trusting one CA alone, ask for a page.
func javaGet(t *testing.T, root, url string) ([]byte, error) {
	t.Helper()
	dir := t.TempDir()
	program, store := filepath.Join(dir, "Get.java"), filepath.Join(dir, "trust.p12")
	source := `public class Get { public static void main(String[] a) throws Exception { new java.net.URL(a[0]).openConnection().getInputStream().readAllBytes(); } }`
	if err := os.WriteFile(program, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(need(t, "keytool"), "-importcert", "-noprompt", "-alias", "padlock", "-file", root, "-keystore", store, "-storetype", "PKCS12", "-storepass", "changeit").CombinedOutput(); err != nil {
		t.Fatalf("keytool: %v\n%s", err, out)
	}
	return exec.Command(need(t, "java"), "-Djavax.net.ssl.trustStore="+store, "-Djavax.net.ssl.trustStorePassword=changeit", program, url).CombinedOutput()
}

// padlock trust --renew: what runs serves by the new root, browsers trust that and no longer the former one.
func TestTrustRenewReplacesTheRootEverywhere(t *testing.T) {
	besides(t)
	home := start(t)
	nss := "sql:" + filepath.Join(home.home, ".pki", "nssdb")
	trusted := func() string {
		out, err := exec.Command(need(t, "certutil"), "-L", "-d", nss).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	say := func(args ...string) string {
		// The system's store may not be ours to change, in which case it fails.
		out, _ := command(home.home, append([]string{"trust", "--storage", home.storage}, args...)...).CombinedOutput()
		return string(out)
	}
	t.Cleanup(func() { _ = command(home.home, "untrust", "--storage", home.storage).Run() })
	say()
	before := strings.Fields(regexp.MustCompile(`padlock local CA [0-9a-f]{64}`).FindString(trusted()))
	if len(before) != 4 {
		t.Fatalf("the browsers' store holds\n%s", trusted())
	}
	if out := say("--renew"); !strings.Contains(out, "no longer trusts the former") {
		t.Errorf("%s", out)
	}
	if after := trusted(); strings.Count(after, "padlock local CA ") != 1 || strings.Contains(after, before[3]) {
		t.Errorf("afterwards the browsers' store holds\n%s", after)
	}
	roots := x509.NewCertPool()
	data, err := os.ReadFile(home.root(t))
	if err != nil || !roots.AppendCertsFromPEM(data) {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(home.url, "https://"), &tls.Config{RootCAs: roots, ServerName: "localhost"})
		if err == nil {
			conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("what runs does not serve by the new root: %v", err)
		}
	}
}
