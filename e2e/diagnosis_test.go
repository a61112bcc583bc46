//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// event is what the tests read of padlock's JSON.
type event struct {
	Outcome, SNI, Version, Group, Noise string
	CipherSuite                         string `json:"cipher_suite"`
	Resumed, Retried                    bool
	Notes                               []string
	After                               *struct{ ID int }
	Failure                             *struct {
		By, Stage, Cause, Remedy, Confidence string
		AlertName                            string `json:"alert_name"`
		Alert                                int
	}
	Stages []struct{ Name, Text string }
}

// verdict is the event in one line, as the documentation shows it.
func (e *event) verdict() string {
	if e.Failure == nil {
		text := fmt.Sprintf("complete: TLS %s, %s", e.Version, e.CipherSuite)
		if e.Group != "" && !e.Resumed {
			text += ", " + e.Group
		}
		if e.Resumed {
			text += ", resumed"
		}
		if e.Retried {
			text += ", after a HelloRetryRequest"
		}
		return text + strings.Join(append([]string{""}, e.Notes...), "; note: ")
	}
	alert := ""
	if e.Failure.AlertName != "" {
		alert = " with alert " + e.Failure.AlertName
	}
	return fmt.Sprintf("the %s hung up after %s%s: %s (%s)", e.Failure.By, e.Failure.Stage, alert, e.Failure.Cause, e.Failure.Confidence)
}

// edge is a padlock whose handshakes are read through padlock watch.
type edge struct {
	*padlock
	dir    string // of its configuration
	port   string
	events chan event
}

// newEdge runs a file's configuration, with the files that it names beside it.
func newEdge(t *testing.T, configuration string, files map[string][]byte) *edge {
	t.Helper()
	return newEdgeAt(t, "listen: {https: [\"127.0.0.1:0\"], http: []}\naccess_log: {format: \"off\"}\n", configuration, files)
}

// newEdgeAt is newEdge with listeners of its own.
func newEdgeAt(t *testing.T, head, configuration string, files map[string][]byte) *edge {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "padlock.yaml"), []byte(head+configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e := &edge{padlock: startFile(t, dir), dir: dir, events: make(chan event, 64)}
	e.port = e.url[strings.LastIndex(e.url, ":")+1:]
	watch := program(plain, e.home, "watch", "--format", "json") // TestWatchShowsHandshakesAsTheyHappen has the race detector in it
	stdout, err := watch.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = watch.Process.Kill(); _ = watch.Wait() })
	ready := make(chan struct{})
	go func() {
		lines := bufio.NewScanner(stdout)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var got event
			if json.Unmarshal(lines.Bytes(), &got) == nil {
				select {
				case <-ready: // the first ones come from finding out that the watcher listens
					e.events <- got
				default:
					close(ready)
				}
			}
		}
	}()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		conn, err := net.Dial("tcp", "127.0.0.1:"+e.port)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		select {
		case <-ready:
			e.settle() // the others of these connections
			return e
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("padlock watch shows nothing")
		}
	}
}

// settle drops events until none has come for a second.
func (e *edge) settle() {
	for {
		select {
		case <-e.events:
		case <-time.After(time.Second):
			return
		}
	}
}

// next is nil when nothing more comes; that anything comes at all can be insisted on.
func (e *edge) next(t *testing.T, must bool) *event {
	t.Helper()
	patience := 3 * time.Second
	if must {
		patience = 20 * time.Second
	}
	select {
	case got := <-e.events:
		return &got
	case <-time.After(patience):
		if must {
			t.Fatal("padlock told nothing")
		}
		return nil
	}
}

// authority signs certificates for the situations that the local CA does not make.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string, parent *authority) *authority {
	t.Helper()
	return authorityOf(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}, parent)
}

func authorityOf(t *testing.T, template *x509.Certificate, parent *authority) *authority {
	t.Helper()
	der, key := sign(t, template, parent, nil)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key.(*ecdsa.PrivateKey)}
}

// sign fills in what a template leaves out; without a key it makes one on P-256.
func sign(t *testing.T, template *x509.Certificate, by *authority, key any) ([]byte, any) {
	t.Helper()
	if key == nil {
		made, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		key = made
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-24*time.Hour), time.Now().Add(90*24*time.Hour)
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, publicKey(key), signer)
	if err != nil {
		t.Fatal(err)
	}
	return der, key
}

// revocations is a list that revokes a certificate.
func revocations(t *testing.T, by *authority, der []byte) []byte {
	t.Helper()
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(24 * time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: certificate.SerialNumber, RevocationTime: time.Now()}},
	}, by.cert, by.key)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func publicKey(key any) any {
	if signer, ok := key.(crypto.Signer); ok {
		return signer.Public()
	}
	return nil
}

func pemOf(kind string, ders ...[]byte) []byte {
	var out []byte
	for _, der := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	return out
}

func keyPEM(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pemOf("PRIVATE KEY", der)
}

// scenario is a real client in a situation, and what padlock has to say of it.
type scenario struct {
	edge              *edge
	client, situation string
	run               func(t *testing.T) // ends when the client has ended
	want              []string           // parts of the verdict, or of the remedy behind "to do: "
}

// TestEveryDiagnosisWithARealClient is the table of docs/diagnosis.md, which UPDATE_DOCS=1 writes.
func TestEveryDiagnosisWithARealClient(t *testing.T) {
	besides(t)
	scenarios := diagnosisScenarios(t)
	var table bytes.Buffer
	table.WriteString("# What padlock says\n\nEach row is a real client in a situation, and padlock's verdict; `make test` runs them all.\n\n| client | situation | what padlock said | what to do |\n|---|---|---|---|\n")
	for _, s := range scenarios {
		t.Run(s.client+", "+s.situation, func(t *testing.T) { // a browser ends with its own scenario
			tries := 1
			if s.client == "Chromium" || s.client == "Firefox" || s.client == "NSS" || s.client == "Mosquitto" {
				tries = 8 // they make connections in advance, or try again
				t.Cleanup(s.edge.settle)
			}
			s.run(t)
			verdict, missing, remedy := "", "x", ""
			for try := 0; missing != "" && try < tries; try++ {
				got := s.edge.next(t, try == 0)
				if got == nil {
					break
				}
				verdict, missing, remedy = got.verdict(), "", ""
				if got.Failure != nil {
					remedy = got.Failure.Remedy
				}
				if tries > 1 && strings.Contains(verdict, "in advance, and had no use for it") {
					missing = "a connection that is used"
				}
				for _, want := range s.want {
					if !strings.Contains(verdict+"\nto do: "+remedy, want) {
						missing = want
					}
				}
			}
			if missing != "" {
				t.Errorf("%q is missing in %q", missing, verdict)
			}
			if complete := strings.HasPrefix(verdict, "complete"); complete == (remedy != "") {
				t.Errorf("%q, and to do: %q", verdict, remedy)
			}
			cell := strings.NewReplacer("|", `\|`)
			fmt.Fprintf(&table, "| %s | %s | %s | %s |\n", s.client, s.situation, cell.Replace(stable(verdict)), cell.Replace(stable(remedy)))
		})
	}
	if os.Getenv("UPDATE_CORPUS") == "1" {
		saveCorpus(t, filepath.Join(scenarios[0].edge.dir, "capture.pcapng"))
	}
	if len(scenarios) < 120 {
		t.Errorf("only %d scenarios", len(scenarios))
	}
	if os.Getenv("UPDATE_DOCS") == "1" {
		if err := os.WriteFile("../docs/diagnosis.md", table.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// stable replaces what differs from run to run.
func stable(text string) string {
	for _, changing := range [...]struct{ from, to string }{
		{`\d\d:\d\d:\d\d UTC`, "TIME"}, {`after \d+ tries`, "after N tries"}, {`another is under way|next at TIME`, "next at TIME"}, {`\bport \d{4,5}\b`, "port N"},
		{`127\.0\.0\.1:\d{4,5}\b`, "127.0.0.1:N"}, {`/tmp/\S*/`, ""}, {`we sent \d+ bytes`, "we sent N bytes"},
	} {
		text = regexp.MustCompile(changing.from).ReplaceAllString(text, changing.to)
	}
	words := strings.Fields(text)
	for i, w := range words {
		trimmed := strings.Trim(w, ",;:()")
		if _, err := time.Parse(time.DateOnly, trimmed); err == nil {
			words[i] = strings.Replace(w, trimmed, "DATE", 1)
		}
		if i > 1 && words[i-1] == "CA" && words[i-2] == "local" && len(trimmed) == 8 {
			words[i] = strings.Replace(w, trimmed, "…", 1)
		}
	}
	return strings.Join(words, " ")
}

func diagnosisScenarios(t *testing.T) []scenario {
	curlPath, openssl, python, node, java := need(t, "curl"), need(t, "openssl"), need(t, "python3"), need(t, "node"), need(t, "java")
	ca := newAuthority(t, "Test Root", nil)
	middle := newAuthority(t, "Test Intermediate", ca)
	clientDER, clientKey := sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "alice"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, ca, nil)
	staleDER, staleKey := sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "bob"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour)}, ca, nil)
	strangerDER, strangerKey := sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "mallory"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, newAuthority(t, "Other Root", nil), nil)
	server := func(name string) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment}
	}
	expired := server("expired.example")
	expired.NotBefore, expired.NotAfter = time.Now().Add(-60*24*time.Hour), time.Now().Add(-24*time.Hour)
	expiredDER, expiredKey := sign(t, expired, ca, nil)
	partial := server("partial.example")
	partial.IssuingCertificateURL = []string{"http://ca.example/intermediate.crt"}
	partialDER, partialKey := sign(t, partial, middle, nil)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	legacyDER, _ := sign(t, server("legacy.example"), ca, rsaKey)

	configuration := "sites: [{hosts: [localhost, 127.0.0.1]}]\n"
	if os.Getenv("UPDATE_CORPUS") == "1" {
		configuration += "handshakes: {capture: capture.pcapng, insecure_export_secrets: true}\n"
	}
	local := newEdge(t, configuration, nil)
	files := newEdge(t, `certificates:
  files: [{cert: legacy.pem, key: legacy-key.pem}, {cert: expired.pem, key: expired-key.pem}, {cert: partial.pem, key: partial-key.pem}]
sites:
  - hosts: [expired.example]
  - hosts: [partial.example]
  - {hosts: [legacy.example], tls: {legacy_rsa_key_exchange: true}}
`, map[string][]byte{
		"expired.pem": pemOf("CERTIFICATE", expiredDER), "expired-key.pem": keyPEM(t, expiredKey),
		"partial.pem": pemOf("CERTIFICATE", partialDER), "partial-key.pem": keyPEM(t, partialKey),
		"legacy.pem": pemOf("CERTIFICATE", legacyDER), "legacy-key.pem": keyPEM(t, rsaKey),
	})
	mutual := newEdge(t, "sites: [{hosts: [localhost], tls: {client_auth: {mode: require, ca: clients.pem}}}]\n", map[string][]byte{"clients.pem": pemOf("CERTIFICATE", ca.cert.Raw)})
	revokedDER, revokedKey := sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "carol", Organization: []string{"Blue"}}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, ca, nil)
	strict := newEdge(t, "sites: [{hosts: [localhost], tls: {client_auth: {mode: require, ca: clients.pem, crl: revoked.crl, allow: {organizations: [Blue]}}}}]\n", map[string][]byte{
		"clients.pem": pemOf("CERTIFICATE", ca.cert.Raw), "revoked.crl": revocations(t, ca, revokedDER),
	})
	modern := newEdge(t, "tls: {min_version: \"1.3\"}\nsites: [{hosts: [localhost]}]\n", nil)
	hurried := newEdge(t, "timeouts: {handshake: 1s}\nsites: [{hosts: [localhost]}]\n", nil)

	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	testRoot := file("root.pem", pemOf("CERTIFICATE", ca.cert.Raw))
	alice, aliceKey := file("alice.pem", pemOf("CERTIFICATE", clientDER)), file("alice-key.pem", keyPEM(t, clientKey))
	bob, bobKey := file("bob.pem", pemOf("CERTIFICATE", staleDER)), file("bob-key.pem", keyPEM(t, staleKey))
	carol, carolKey := file("carol.pem", pemOf("CERTIFICATE", revokedDER)), file("carol-key.pem", keyPEM(t, revokedKey))
	mallory, malloryKey := file("mallory.pem", pemOf("CERTIFICATE", strangerDER)), file("mallory-key.pem", keyPEM(t, strangerKey))
	run := func(environment []string, name string, args ...string) func(*testing.T) {
		return func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			c := exec.CommandContext(ctx, name, args...)
			c.Env = append(os.Environ(), environment...)
			c.Stdin = strings.NewReader("Q\n")
			_ = c.Run() // how the client ends is its own affair: most are meant to fail
		}
	}
	curl := func(e *edge, name string, args ...string) func(*testing.T) {
		all := append([]string{"-sS", "-o", "/dev/null", "--max-time", "10", "--resolve", name + ":" + e.port + ":127.0.0.1", "https://" + name + ":" + e.port + "/"}, args...)
		return run(nil, curlPath, all...)
	}
	s_client := func(e *edge, args ...string) func(*testing.T) {
		return run(nil, openssl, append([]string{"s_client", "-connect", "127.0.0.1:" + e.port}, args...)...)
	}
	// request is s_client that also sends a request, so that the handshake is complete.
	request := func(e *edge, host string, args ...string) func(*testing.T) {
		return func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			c := exec.CommandContext(ctx, openssl, append([]string{"s_client", "-quiet", "-connect", "127.0.0.1:" + e.port, "-servername", host}, args...)...)
			c.Stdin = strings.NewReader("GET / HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n")
			_ = c.Run()
		}
	}
	pythonGet := func(e *edge, setup string) func(*testing.T) {
		return run(nil, python, "-c", `
import socket, ssl, sys
context = ssl.create_default_context()
`+setup+`
with socket.create_connection(("127.0.0.1", `+e.port+`)) as raw:
    with context.wrap_socket(raw, server_hostname="localhost") as conn:
        conn.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        while conn.recv(65536): pass
`)
	}
	nodeGet := func(e *edge, environment ...string) func(*testing.T) {
		return run(environment, node, "-e", `require("https").get("https://localhost:`+e.port+`", {family: 4}, r => r.resume()).on("error", () => {})`)
	}
	javaClient := file("Get.java", []byte(`public class Get {
  public static void main(String[] a) throws Exception {
    var c = (javax.net.ssl.HttpsURLConnection) new java.net.URL(a[0]).openConnection();
    c.getInputStream().readAllBytes();
  }
}`))
	javaGet := func(e *edge, options ...string) func(*testing.T) {
		return run(nil, java, append(options, javaClient, "https://localhost:"+e.port+"/")...)
	}
	truststore := filepath.Join(dir, "trust.p12")
	if out, err := exec.Command(need(t, "keytool"), "-importcert", "-noprompt", "-alias", "padlock", "-file", local.root(t), "-keystore", truststore, "-storetype", "PKCS12", "-storepass", "changeit").CombinedOutput(); err != nil {
		t.Fatalf("keytool: %v\n%s", err, out)
	}
	goGet := func(e *edge, change func(*tls.Config)) func(*testing.T) {
		return func(t *testing.T) {
			config := &tls.Config{ServerName: "localhost"}
			if change != nil {
				change(config)
			}
			conn, err := tls.Dial("tcp", "127.0.0.1:"+e.port, config)
			if err != nil {
				return
			}
			defer conn.Close()
			fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
			_, _ = io.Copy(io.Discard, conn)
		}
	}
	// raw sends bytes as they are and ends as told.
	raw := func(e *edge, payload string, end func(net.Conn)) func(*testing.T) {
		return func(t *testing.T) {
			conn, err := net.Dial("tcp", "127.0.0.1:"+e.port)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			_, _ = io.WriteString(conn, payload)
			end(conn)
		}
	}
	closing := func(net.Conn) {}
	resetting := func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }
	waiting := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	answered := func(end func(net.Conn)) func(net.Conn) {
		return func(c net.Conn) { _, _ = c.Read(make([]byte, 4096)); end(c) }
	}
	hello := realHello(t)
	root := local.root(t)
	browser := func(e *edge, trust bool) func(*testing.T) {
		return func(t *testing.T) {
			home := &padlock{home: t.TempDir(), storage: e.storage}
			if trust {
				home.trust(t, filepath.Join(home.home, ".pki", "nssdb"))
			}
			_ = chromedp.Do(chromium(t, home), chromedp.Navigate(e.url))
		}
	}
	gecko := func(e *edge, trust bool, title string) func(*testing.T) {
		return func(t *testing.T) {
			home := &padlock{home: t.TempDir(), storage: e.storage}
			f := firefox(t, home, "")
			if trust {
				home.trust(t, f.profile)
			}
			f.open(t, e.url)
			f.title(t, title)
		}
	}
	session := filepath.Join(dir, "session")
	early := earlyDataTicket(t, alice, aliceKey)

	kit := workbench{ca, middle, local, hurried, file, run, curl, s_client, request, raw, hello, testRoot, root, answered, waiting, closing, curlPath, openssl, python, node, javaGet}
	further := kit.further(t)
	return append([]scenario{
		{local, "curl", "trusts the CA", curl(local, "localhost", "--cacert", root), []string{"complete: TLS 1.3"}},
		{local, "curl", "trusts the CA, TLS 1.2", curl(local, "localhost", "--cacert", root, "--tls-max", "1.2"), []string{"complete: TLS 1.2"}},
		{local, "curl", "does not trust the CA", curl(local, "localhost"), []string{"client hung up", "alert unknown_ca", "does not trust the CA", "(likely)"}},
		{local, "curl", "does not trust the CA, TLS 1.2", curl(local, "localhost", "--tls-max", "1.2"), []string{"client hung up", "alert unknown_ca", "does not trust the CA"}},
		{local, "curl", "http:// on the TLS port", run(nil, curlPath, "-s", "http://127.0.0.1:"+local.port), []string{"plain HTTP on a TLS port"}},
		{local, "curl", "HTTP/2 without TLS", run(nil, curlPath, "-s", "--max-time", "5", "--http2-prior-knowledge", "http://127.0.0.1:"+local.port), []string{"HTTP/2 without TLS"}},
		{local, "curl", "asks for a name that is not served", curl(local, "unknown.example"), []string{"server hung up", "unrecognized_name", "it asked for unknown.example"}},
		{files, "curl", "the certificate has expired", curl(files, "expired.example", "--cacert", testRoot), []string{"client hung up", "certificate_expired", "our certificate has expired", "(certain)"}},
		{files, "curl", "the intermediate certificate is missing", curl(files, "partial.example", "--cacert", testRoot), []string{"client hung up", "unknown_ca", "the intermediate certificate is missing", "(likely)"}},
		{files, "curl", "by address, and the certificate is for another name", run(nil, curlPath, "-sS", "--cacert", testRoot, "https://127.0.0.1:"+files.port), []string{"client hung up", "it is not for 127.0.0.1", "(likely)"}},
		{files, "curl", "does not verify an expired certificate", curl(files, "expired.example", "-k"), []string{"complete", "note: a browser would refuse our certificate: it expired"}},
		{mutual, "curl", "shows no client certificate", curl(mutual, "localhost", "--cacert", mutual.root(t)), []string{"server hung up", "certificate_required", "showed no certificate", "(certain)"}},
		{mutual, "curl", "shows no client certificate, TLS 1.2", curl(mutual, "localhost", "--cacert", mutual.root(t), "--tls-max", "1.2"), []string{"server hung up", "showed no certificate", "(certain)"}},
		{mutual, "curl", "client certificate from an unknown CA", curl(mutual, "localhost", "--cacert", mutual.root(t), "--cert", mallory, "--key", malloryKey), []string{"server hung up", "unknown_ca", "mallory, issued by Other Root"}},
		{mutual, "curl", "client certificate has expired", curl(mutual, "localhost", "--cacert", mutual.root(t), "--cert", bob, "--key", bobKey), []string{"server hung up", "certificate_expired", "bob"}},
		{mutual, "curl", "good client certificate", curl(mutual, "localhost", "--cacert", mutual.root(t), "--cert", alice, "--key", aliceKey), []string{"complete"}},
		{strict, "curl", "client certificate has been revoked", curl(strict, "localhost", "--cacert", strict.root(t), "--cert", carol, "--key", carolKey), []string{"server hung up", "bad_certificate", "has been revoked", "carol"}},
		{strict, "curl", "client certificate has been revoked, TLS 1.2", curl(strict, "localhost", "--cacert", strict.root(t), "--cert", carol, "--key", carolKey, "--tls-max", "1.2"), []string{"server hung up", "bad_certificate", "has been revoked", "carol"}},
		{strict, "curl", "good client certificate, but not one of those that are allowed", curl(strict, "localhost", "--cacert", strict.root(t), "--cert", alice, "--key", aliceKey), []string{"server hung up", "bad_certificate", "not among those that this site allows", "alice"}},
		{modern, "curl", "TLS 1.2 at most, where 1.3 is required", curl(modern, "localhost", "--tls-max", "1.2"), []string{"server hung up", "protocol_version", "it offers TLS 1.2", "we require 1.3 or newer"}},

		{local, "OpenSSL", "trusts the CA", request(local, "localhost", "-CAfile", root), []string{"complete: TLS 1.3"}},
		{local, "OpenSSL", "does not trust the CA", s_client(local, "-servername", "localhost", "-verify_return_error"), []string{"client hung up", "unknown_ca", "does not trust the CA"}},
		{local, "OpenSSL", "does not trust the CA, TLS 1.2", s_client(local, "-servername", "localhost", "-verify_return_error", "-tls1_2"), []string{"client hung up", "unknown_ca", "does not trust the CA"}},
		{files, "OpenSSL", "the certificate has expired", s_client(files, "-servername", "expired.example", "-verify_return_error", "-CAfile", testRoot), []string{"client hung up", "our certificate has expired"}},
		{local, "OpenSSL", "TLS 1.1 at most", s_client(local, "-servername", "localhost", "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"), []string{"server hung up", "protocol_version", "it offers TLS 1.1 at most, we require 1.2 or newer"}},
		{local, "OpenSSL", "TLS 1.0 at most", s_client(local, "-servername", "localhost", "-tls1", "-cipher", "DEFAULT@SECLEVEL=0"), []string{"server hung up", "protocol_version", "it offers TLS 1.0 at most"}},
		{local, "OpenSSL", "unknown application protocol", s_client(local, "-servername", "localhost", "-alpn", "gopher"), []string{"server hung up", "no_application_protocol", "it offers gopher, we speak h2, http/1.1 and http/1.0"}},
		{local, "OpenSSL", "RSA certificates only", s_client(local, "-servername", "localhost", "-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"), []string{"server hung up", "handshake_failure", "it can use RSA certificates only, and ours is ECDSA P-256"}},
		{local, "OpenSSL", "cipher suites that are not served", s_client(local, "-servername", "localhost", "-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256"), []string{"server hung up", "no cipher suite in common", "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256"}},
		{local, "OpenSSL", "groups that are not served", s_client(local, "-servername", "localhost", "-groups", "X448"), []string{"server hung up", "no key-exchange group in common", "it offers X448"}},
		{local, "OpenSSL", "RSA signatures only", s_client(local, "-servername", "localhost", "-sigalgs", "RSA-PSS+SHA256"), []string{"server hung up", "signature algorithm", "ours is ECDSA P-256"}},
		{local, "OpenSSL", "guesses a group that is not served", request(local, "localhost", "-groups", "X448:P-256"), []string{"complete", "secp256r1", "after a HelloRetryRequest"}},
		{local, "OpenSSL", "comes back with a lower version (fallback)", s_client(local, "-servername", "localhost", "-tls1_2", "-fallback_scsv"), []string{"server hung up", "inappropriate_fallback"}},
		{local, "OpenSSL", "first visit, keeps the ticket", request(local, "localhost", "-sess_out", session), []string{"complete"}},
		{local, "OpenSSL", "comes back with the ticket", request(local, "localhost", "-sess_in", session), []string{"complete", "resumed"}},
		{local, "OpenSSL", "early data, by a ticket of another server", s_client(local, "-servername", "localhost", "-sess_in", early, "-alpn", "http/1.1", "-early_data", file("early", []byte("GET / HTTP/1.1\r\n\r\n"))), []string{"server hung up", "unsupported_extension", "early-data ticket of another server"}},
		{modern, "OpenSSL", "comes back with a ticket of another node", request(modern, "localhost", "-sess_in", session), []string{"complete", "ticket was not taken"}},
		{files, "OpenSSL", "RSA key exchange, where the site allows it", request(files, "legacy.example", "-tls1_2", "-cipher", "AES128-GCM-SHA256"), []string{"complete: TLS 1.2, TLS_RSA_WITH_AES_128_GCM_SHA256", "no forward secrecy"}},
		{files, "OpenSSL", "RSA key exchange, where the site does not", s_client(files, "-servername", "expired.example", "-tls1_2", "-cipher", "AES128-GCM-SHA256"), []string{"server hung up", "no cipher suite in common"}},
		{local, "OpenSSL", "connects, and leaves without a byte", s_client(local, "-servername", "localhost"), []string{"client hung up", "closed after a complete handshake"}},

		{local, "Python", "trusts the CA", pythonGet(local, "context.load_verify_locations("+fmt.Sprintf("%q", root)+")"), []string{"complete: TLS 1.3"}},
		{local, "Python", "does not trust the CA", pythonGet(local, ""), []string{"client hung up", "unknown_ca", "does not trust the CA"}},
		{local, "Node.js", "trusts the CA", nodeGet(local, "NODE_EXTRA_CA_CERTS="+root), []string{"complete: TLS 1.3"}},
		{local, "Node.js", "does not trust the CA", nodeGet(local), []string{"client hung up", "without saying why", "Node.js"}},
		{local, "Java", "trusts the CA", javaGet(local, "-Djavax.net.ssl.trustStore="+truststore, "-Djavax.net.ssl.trustStorePassword=changeit"), []string{"complete: TLS 1.3"}},
		{local, "Java", "does not trust the CA (and sends no name for localhost)", javaGet(local), []string{"client hung up", "certificate_unknown", "does not trust the CA", "(likely)"}},
		{local, "Go", "trusts the CA", func(t *testing.T) { _, _ = local.client(t, true).Get(local.url) }, []string{"complete: TLS 1.3", "X25519MLKEM768"}},
		{local, "Go", "does not trust the CA", goGet(local, nil), []string{"client hung up", "bad_certificate", "does not trust the CA"}},
		{local, "Go", "TLS 1.1 at most", goGet(local, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }), []string{"server hung up", "it offers TLS 1.1 and 1.0, we require 1.2 or newer"}},
		{local, "Chromium", "trusts the CA", browser(local, true), []string{"complete: TLS 1.3", "X25519MLKEM768"}},
		{local, "Chromium", "does not trust the CA", browser(local, false), []string{"client hung up", "certificate_unknown", "does not trust the CA"}},
		{local, "Firefox", "trusts the CA", gecko(local, true, "Your handshake with localhost"), []string{"complete: TLS 1.3"}},
		{local, "Firefox", "does not trust the CA", gecko(local, false, "Security Risk"), []string{"client hung up", "does not trust the CA"}},

		{local, "a health check", "connects and closes", raw(local, "", closing), []string{"health check or a port scan"}},
		{local, "a port scan", "connects and resets", raw(local, "", resetting), []string{"port scan or a health check"}},
		{local, "SSH", "on the TLS port", raw(local, "SSH-2.0-OpenSSH_9.2\r\n", waiting), []string{"SSH on a TLS port"}},
		{local, "a load balancer", "PROXY protocol, not expected", raw(local, "PROXY TCP4 192.0.2.1 192.0.2.2 1 443\r\n", waiting), []string{"the PROXY protocol on a TLS port"}},
		{local, "an ancient client", "SSL 2.0", raw(local, "\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10"+strings.Repeat("x", 37), waiting), []string{"SSL 2.0 on a TLS port"}},
		{local, "an unknown client", "something else", raw(local, "hello?\r\n\r\n", waiting), []string{"an unknown protocol on a TLS port, which begins with"}},
		{local, "a client behind a bad path", "leaves in the middle of its hello", raw(local, hello[:100], closing), []string{"in the middle of its hello", "(possible)"}},
		{local, "a client behind a firewall", "reset after our answer", raw(local, hello, answered(resetting)), []string{"reset the connection after our answer", "(possible)"}},
		{local, "a silent client", "closes after our answer", raw(local, hello, answered(closing)), []string{"closed the connection after our answer without saying why"}},
		{local, "a faulty client", "a record that cannot be decrypted", raw(local, hello, answered(func(c net.Conn) { _, _ = io.WriteString(c, "\x17\x03\x03\x00\x20"+strings.Repeat("x", 32)); waiting(c) })), []string{"server hung up", "bad_record_mac", "could not be decrypted"}},
		{local, "a faulty client", "a hello that does not parse", raw(local, "\x16\x03\x01\x00\x08\x01\x00\x00\x04\x03\x03\x00\x00", waiting), []string{"server hung up", "does not parse"}},
		{hurried, "a slow client", "nothing until the timeout", raw(hurried, "", waiting), []string{"sent 0 bytes and then nothing", "speak first"}},
		{hurried, "a slow client", "three bytes until the timeout", raw(hurried, hello[:3], waiting), []string{"sent 3 bytes and then nothing"}},
		{hurried, "a slow client", "no answer to our flight until the timeout", raw(hurried, hello, waiting), []string{"did not answer within the handshake timeout"}},
	}, further...)
}

// earlyDataTicket is a session from OpenSSL's own server, which lets clients send data with their hello.
func earlyDataTicket(t *testing.T, cert, key string) string {
	t.Helper()
	port, ticket := freePort(t), filepath.Join(t.TempDir(), "early")
	server := exec.Command("openssl", "s_server", "-accept", "127.0.0.1:"+port, "-cert", cert, "-key", key, "-early_data", "-max_early_data", "16384", "-alpn", "http/1.1")
	if _, err := server.StdinPipe(); err != nil { // it ends with its input
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	eventually(t, func() (string, error) {
		client := exec.Command("openssl", "s_client", "-connect", "127.0.0.1:"+port, "-servername", "localhost", "-sess_out", ticket, "-alpn", "http/1.1")
		input, err := client.StdinPipe()
		if err != nil {
			return "", err
		}
		time.AfterFunc(500*time.Millisecond, func() { input.Close() }) // tickets come a moment after the handshake
		out, err := client.CombinedOutput()
		if err == nil {
			_, err = os.Stat(ticket)
		}
		return string(out), err
	})
	return ticket
}

// realHello is what Go's client sends first.
func realHello(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		_, _ = tls.Dial("tcp", l.Addr().String(), &tls.Config{ServerName: "localhost", CurvePreferences: []tls.CurveID{tls.X25519}})
	}()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	buffer := make([]byte, 4096)
	n, err := conn.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	return string(buffer[:n])
}
