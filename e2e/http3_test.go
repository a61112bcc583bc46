//go:build e2e

package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/quic-go/quic-go/http3"
	"padlock/internal/servicetest"
)

// Chromium loads a page by HTTP/3, and the handshake inside QUIC is told with what can be inferred of it.
func TestChromiumSpeaksHTTP3(t *testing.T) {
	besides(t)
	p := start(t, "--access-log", "json")
	p.trust(t, filepath.Join(p.home, ".pki", "nssdb"))
	u, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	ctx := chromium(t, p, chromedp.Flag("origin-to-force-quic-on", "localhost:"+u.Port()), chromedp.Flag("host-resolver-rules", "MAP localhost 127.0.0.1"))
	if err := chromedp.Do(ctx, chromedp.Navigate("https://localhost:"+u.Port()+"/")); err != nil {
		t.Fatalf("%v\n%s", err, p.stderr.wait(t))
	}
	heading, err := chromedp.Run(ctx, chromedp.Text("h1"))
	if err != nil || heading != "This connection is encrypted." {
		t.Errorf("the page says %q, %v", heading, err)
	}
	p.stderr.wait(t, "· h3 ·", "we will talk h3", "inferred")
}

// A client of QUIC that does not trust the certificate is told as one of TCP is: who hung up, at which stage, and what to do.
func TestHandshakesInsideQUICAreDiagnosed(t *testing.T) {
	besides(t)
	p := start(t)
	pem, err := os.ReadFile(p.root(t))
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		t.Fatal(err)
	}
	get := func(c *tls.Config) (string, error) {
		transport := &http3.Transport{TLSClientConfig: c, QUICConfig: servicetest.Patient(nil)}
		defer transport.Close()
		client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
		response, err := client.Get(p.url)
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return string(body), err
	}
	if body, err := get(&tls.Config{RootCAs: roots}); err != nil || !strings.Contains(body, "This connection is encrypted.") || !strings.Contains(body, "h3") {
		t.Errorf("%v\n%s", err, body)
	}
	if _, err := get(&tls.Config{RootCAs: x509.NewCertPool()}); err == nil {
		t.Error("a client without the CA was served")
	}
	p.stderr.wait(t, "client hung up after Certificate with alert 42, bad_certificate", "so it does not trust the CA", "padlock trust")
	if _, err := get(&tls.Config{RootCAs: roots, ServerName: "app.example"}); err == nil {
		t.Error("a name that is not served was")
	}
	p.stderr.wait(t, "no certificate for the name that the client asked for: it asked for app.example")
	if _, err := get(&tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519}}); err != nil {
		t.Error(err)
	}
}
