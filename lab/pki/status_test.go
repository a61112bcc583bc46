package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// served is a revocation server with a revoked and a good leaf.
func served(t *testing.T) (a *Authority, url string, revoked, good []byte) {
	t.Helper()
	a = made(t)
	server := httptest.NewServer(a.Handler())
	t.Cleanup(server.Close)
	a.Serve(server.URL)

	m := a.Maker("host.example")
	make := func(bad bool) []byte {
		return m.Chain(func(t *x509.Certificate) {
			t.OCSPServer = []string{m.Watch(t, a.Inter, bad) + "/ocsp"}
			t.CRLDistributionPoints = []string{m.StatusURL() + "/crl/" + t.SerialNumber.String()}
		}).Certificate[0]
	}
	revoked, good = make(true), make(false)
	if m.Err() != nil {
		t.Fatal(m.Err())
	}
	return a, server.URL, revoked, good
}

func get(t *testing.T, url string) (int, []byte) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, body
}

// The responder answers by POST and by GET, signed by the issuer, and counts who asks.
func TestTheResponderAnswers(t *testing.T) {
	a, url, revoked, good := served(t)
	for want, der := range map[int][]byte{ocsp.Revoked: revoked, ocsp.Good: good} {
		leaf := parsed(t, der)
		request, err := ocsp.CreateRequest(leaf, a.Inter.Cert, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.Post(url+"/ocsp", "application/ocsp-request", bytes.NewReader(request))
		if err != nil {
			t.Fatal(err)
		}
		posted, _ := io.ReadAll(response.Body)
		response.Body.Close()
		_, got := get(t, url+"/ocsp/"+strings.ReplaceAll(base64.StdEncoding.EncodeToString(request), "/", "%2F"))
		for how, body := range map[string][]byte{"POST": posted, "GET": got} {
			if answer, err := ocsp.ParseResponseForCert(body, leaf, a.Inter.Cert); err != nil || answer.Status != want || time.Now().After(answer.NextUpdate) {
				t.Errorf("%s: %+v, %v", how, answer, err)
			}
		}
	}
	if n := a.Asked("host.example"); n != 4 {
		t.Errorf("asked %d times, not 4", n)
	}

	stranger, err := ocsp.CreateRequest(parsed(t, a.Maker("other.example").Chain(nil).Certificate[0]), a.Inter.Cert, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Post(url+"/ocsp", "application/ocsp-request", bytes.NewReader(stranger))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, _ := io.ReadAll(response.Body); !bytes.Equal(body, ocsp.UnauthorizedErrorResponse) {
		t.Errorf("about a certificate that it does not know: %x", body)
	}
}

// What nobody can mean is an error of HTTP.
func TestTheRevocationServerRefuses(t *testing.T) {
	_, url, _, _ := served(t)
	for path, want := range map[string]int{
		"/ocsp": http.StatusBadRequest, "/ocsp/AAAA": http.StatusBadRequest, "/ocsp/%00": http.StatusBadRequest, "/crl/1": http.StatusNotFound, "/crl/x": http.StatusNotFound,
		"/issuer/x": http.StatusNotFound, "/": http.StatusNotFound,
	} {
		if status, body := get(t, url+path); status != want {
			t.Errorf("%s: %d, %q", path, status, body)
		}
	}
}

// The certificate of an issuer can be downloaded by its name.
func TestIssuersAreServed(t *testing.T) {
	a, url, _, _ := served(t)
	ca := a.Maker("").CA("by-url", a.Root, nil)
	if status, body := get(t, url+"/issuer/by-url"); status != http.StatusOK || !bytes.Equal(body, ca.Cert.Raw) {
		t.Errorf("%d, %d bytes", status, len(body))
	}
}

// OpenSSL reads the lists and the responses, and says the same as we do.
func TestOpenSSLReadsRevocations(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}
	a, url, revoked, good := served(t)
	dir := t.TempDir()
	file := func(name, kind string, ders ...[]byte) string {
		var b bytes.Buffer
		for _, der := range ders {
			if err := pem.Encode(&b, &pem.Block{Type: kind, Bytes: der}); err != nil {
				t.Fatal(err)
			}
		}
		name = filepath.Join(dir, name)
		written(t, name, b.Bytes())
		return name
	}
	root, inter := file("root", "CERTIFICATE", a.Root.Cert.Raw), file("inter", "CERTIFICATE", a.Inter.Cert.Raw)
	run := func(args ...string) string {
		out, _ := exec.Command(openssl, args...).CombinedOutput()
		return string(out)
	}

	for want, der := range map[string][]byte{"revoked": revoked, "good": good} {
		leaf := file(want, "CERTIFICATE", der)
		_, list := get(t, parsed(t, der).CRLDistributionPoints[0])
		crl := file(want+".crl", "X509 CRL", list)
		out := run("verify", "-x509_strict", "-crl_check", "-CAfile", root, "-untrusted", inter, "-CRLfile", crl, leaf)
		if ok := strings.Contains(out, ": OK"); ok != (want == "good") || !ok && !strings.Contains(out, "error 23 at 0 depth lookup: certificate revoked") {
			t.Errorf("%s by its list: %s", want, out)
		}
		out = run("ocsp", "-no_nonce", "-issuer", inter, "-cert", leaf, "-url", url+"/ocsp", "-CAfile", root)
		if !strings.Contains(out, "Response verify OK") || !strings.Contains(out, leaf+": "+want) {
			t.Errorf("%s by the responder: %s", want, out)
		}
	}
}

// Staples are what their endpoints need: good, revoked, out of date, and signed by somebody else.
func TestStaples(t *testing.T) {
	a := made(t)
	m := a.Maker("host.example")
	der := m.Chain(nil).Certificate[0]
	leaf, now := parsed(t, der), time.Now().Add(-time.Hour)
	for status, name := range map[int]string{ocsp.Good: "good", ocsp.Revoked: "revoked"} {
		r, err := ocsp.ParseResponseForCert(m.Staple(der, a.Inter, a.Inter, status, now), leaf, a.Inter.Cert)
		if err != nil || r.Status != status || time.Now().After(r.NextUpdate) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	r, err := ocsp.ParseResponseForCert(m.Staple(der, a.Inter, a.Inter, ocsp.Good, now.Add(-10*Day)), leaf, a.Inter.Cert)
	if err != nil || time.Since(r.NextUpdate) < 7*Day {
		t.Errorf("out of date: %+v, %v", r, err)
	}
	if _, err := ocsp.ParseResponseForCert(m.Staple(der, a.Inter, m.CA("other", nil, nil), ocsp.Good, now), leaf, a.Inter.Cert); err == nil {
		t.Error("another signer's response is verified by the issuer's key")
	}
	if m.Err() != nil {
		t.Error(m.Err())
	}
}
