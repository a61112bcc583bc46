//go:build e2e

package e2e

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"padlock/internal/servicetest"
)

// acmeFile writes a configuration that gets certificates from a CA on the ports that it validates. More is YAML below certificates.
func acmeFile(t *testing.T, ca *servicetest.CA, storage, more string, hosts ...string) string {
	t.Helper()
	if !strings.Contains(more, "dns:") {
		more += fmt.Sprintf("\ndns: {resolvers: [%q]}", ca.DNS)
	}
	text := fmt.Sprintf(`
listen: {https: ["127.0.0.1:%d"], http: ["127.0.0.1:%d"]}
storage: %s
access_log: {format: "off"}
certificates:
  email: ops@example.com
  issuers: [{directory: %q, root: %q}]
%s
sites:
  - hosts: [%s]
`, ca.TLS, ca.HTTP, storage, ca.URL, ca.Root, indent(more), strings.Join(hosts, ", "))
	return write(t, "padlock.yaml", text)
}

func indent(more string) string {
	var b strings.Builder
	for line := range strings.Lines(more) {
		b.WriteString("  " + line)
	}
	return b.String()
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// run starts padlock with a configuration, and can be started again after stop.
func runFile(t *testing.T, file string) *padlock {
	t.Helper()
	return runFileEnv(t, nil, file)
}

// runFileEnv starts it with more variables in its environment.
func runFileEnv(t *testing.T, env []string, file string) *padlock {
	t.Helper()
	return runProgram(t, binary, env, file)
}

// runPlain starts padlock as it is released, for what takes many starts and is no matter of races.
func runPlain(t *testing.T, file string) *padlock {
	t.Helper()
	return runProgram(t, plain, nil, file)
}

func runProgram(t *testing.T, path string, env []string, file string) *padlock {
	t.Helper()
	p := &padlock{home: t.TempDir()}
	c := program(path, p.home, "run", "--config", file)
	c.Env = append(c.Env, env...)
	p.run(t, c)
	return p
}

// see makes a handshake and returns the connection's state; roots may be nil for any certificate.
func see(address, name string, change func(*tls.Config)) (tls.ConnectionState, error) {
	c := &tls.Config{ServerName: name, InsecureSkipVerify: true}
	if change != nil {
		change(c)
	}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 15 * time.Second}, "tcp", address, c)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		return tls.ConnectionState{}, err
	}
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", name)
	var b [1]byte
	_, err = conn.Read(b[:]) // with what comes after the handshake: tickets, or an alert
	return conn.ConnectionState(), err
}

func (ca *theCA) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.IssuingRoot())
	return pool
}

type theCA struct{ *servicetest.CA }

func startCA(t *testing.T, o servicetest.PebbleOptions) *theCA {
	t.Helper()
	return &theCA{servicetest.StartPebble(t, o)}
}

func (ca *theCA) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(ca.TLS)) }

// issued waits until a name is served with a certificate that the CA's root vouches for.
func (ca *theCA) issued(t *testing.T, name string, change func(*tls.Config)) *x509.Certificate {
	t.Helper()
	roots := ca.roots()
	var leaf *x509.Certificate
	eventually(t, func() (string, error) {
		state, err := see(ca.address(), name, func(c *tls.Config) {
			c.InsecureSkipVerify, c.RootCAs = false, roots
			if change != nil {
				change(c)
			}
		})
		if err == nil {
			leaf = state.PeerCertificates[0]
		}
		return "", err
	})
	return leaf
}

// validated are the names that certificates were ordered for.
func (ca *theCA) validated() []string {
	var names []string
	for _, m := range regexp.MustCompile(`vaTask\{Identifier:acme\.Identifier\{Type:"dns", Value:"([^"]*)"`).FindAllStringSubmatch(ca.Output(), -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// orders counts those that a CA has taken.
func (ca *theCA) orders() int { return strings.Count(ca.Output(), "Added order") }

// Each challenge gets a certificate and renews it, with each client; the CA's validation is marked in the handshakes.
func TestCertificateByEachChallengeAndClient(t *testing.T) {
	besides(t)
	for _, c := range []struct{ name, more string }{
		{"certmagic http-01", "challenges: [http-01]"},
		{"certmagic tls-alpn-01", "challenges: [tls-alpn-01]"},
		{"autocert", "client: autocert"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ca := startCA(t, servicetest.PebbleOptions{Lifetime: 45 * time.Second})
			p := runFile(t, acmeFile(t, ca.CA, filepath.Join(t.TempDir(), "storage"), c.more, "app.example.com"))
			first := ca.issued(t, "app.example.com", nil)
			if strings.Contains(c.more, "http-01") {
				p.stderr.wait(t, "challenge=http-01", `stage="validation seen"`, "validating that we control the name (HTTP-01)", "stage=certificate")
			} else {
				p.stderr.wait(t, "validating that we control the name (TLS-ALPN-01)", "stage=certificate")
			}
			for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(200 * time.Millisecond) {
				if next := ca.issued(t, "app.example.com", nil); !next.Equal(first) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("the certificate was not renewed:\n%s", p.stderr.wait(t))
				}
			}
		})
	}
}

// autocert turns to http-01 where the CA's tls-alpn-01 arrives nowhere.
func TestAutocertByHTTP(t *testing.T) {
	besides(t)
	ca := startCA(t, servicetest.PebbleOptions{Lifetime: 45 * time.Second})
	address := local(servicetest.FreePort(t))
	p := runFile(t, nodeFile(t, ca, t.TempDir(), address, local(ca.HTTP), "client: autocert", "app.example.com"))
	served := func() (leaf *x509.Certificate) {
		eventually(t, func() (string, error) {
			state, err := see(address, "app.example.com", func(c *tls.Config) { c.InsecureSkipVerify, c.RootCAs = false, ca.roots() })
			if err == nil {
				leaf = state.PeerCertificates[0]
			}
			return "", err
		})
		return leaf
	}
	first := served()
	p.stderr.wait(t, "validating that we control the name (HTTP-01)")
	for begin := time.Now(); served().Equal(first); time.Sleep(200 * time.Millisecond) {
		if time.Since(begin) > 60*time.Second {
			t.Fatalf("the certificate was not renewed:\n%s", p.stderr.wait(t))
		}
	}
}

// A CDN in front begins to send everybody to HTTPS, the CA too: the answer to http-01 is given there, and the certificate is renewed.
func TestACAThatACDNSendsToHTTPS(t *testing.T) {
	t.Parallel()
	for client, more := range map[string]string{"certmagic": "challenges: [http-01]", "autocert": "client: autocert"} { // which turns to http-01 where tls-alpn-01 arrives nowhere
		t.Run(client, func(t *testing.T) {
			besides(t)
			ca := startCA(t, servicetest.PebbleOptions{Lifetime: 45 * time.Second, Environment: []string{"PEBBLE_AUTHZREUSE=0"}})
			https, plain := servicetest.FreePort(t), servicetest.FreePort(t)
			var redirects atomic.Bool
			var redirected atomic.Int32
			origin := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(&url.URL{Scheme: "http", Host: local(plain)})
				r.Out.Host = r.In.Host
			}}
			l, err := net.Listen("tcp", local(ca.HTTP))
			if err != nil {
				t.Fatal(err)
			}
			cdn := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !redirects.Load() {
					origin.ServeHTTP(w, r)
					return
				}
				redirected.Add(1)
				host, _, _ := net.SplitHostPort(r.Host)
				http.Redirect(w, r, fmt.Sprintf("https://%s:%d%s", host, https, r.URL.RequestURI()), http.StatusMovedPermanently)
			})}
			go func() { _ = cdn.Serve(l) }()
			t.Cleanup(func() { cdn.Close() })

			p := runFile(t, nodeFile(t, ca, t.TempDir(), local(https), local(plain), more, "app.example.com"))
			roots := ca.roots()
			served := func() (leaf *x509.Certificate) {
				eventually(t, func() (string, error) {
					state, err := see(local(https), "app.example.com", func(c *tls.Config) { c.InsecureSkipVerify, c.RootCAs = false, roots })
					if err == nil {
						leaf = state.PeerCertificates[0]
					}
					return "", err
				})
				return leaf
			}
			first := served()
			redirects.Store(true)
			// A renewal may have been under way.
			for begin := time.Now(); redirected.Load() == 0 || served().Equal(first); time.Sleep(200 * time.Millisecond) {
				if time.Since(begin) > 2*time.Minute {
					t.Fatalf("the certificate was not renewed, and the CA was sent to HTTPS %d times:\n%s", redirected.Load(), p.stderr.wait(t))
				}
				if redirected.Load() == 0 {
					first = served()
				}
			}
		})
	}
}

// A wildcard comes by dns-01, here with the provider that runs a program.
func TestWildcardByDNS(t *testing.T) {
	besides(t)
	ca := startCA(t, servicetest.PebbleOptions{Lifetime: 45 * time.Second})
	p := runFileEnv(t, execProvider(t, ca), acmeFile(t, ca.CA, filepath.Join(t.TempDir(), "storage"),
		fmt.Sprintf("dns: {provider: exec, resolvers: [%q], timeout: 20s}", ca.DNS), `"*.example.com"`))
	leaf := ca.issued(t, "shop.example.com", nil)
	if leaf.DNSNames[0] != "*.example.com" {
		t.Errorf("%v", leaf.DNSNames)
	}
	p.stderr.wait(t, "challenge=dns-01")
	for begin := time.Now(); ca.issued(t, "shop.example.com", nil).Equal(leaf); time.Sleep(200 * time.Millisecond) {
		if time.Since(begin) > 60*time.Second {
			t.Fatalf("the certificate was not renewed:\n%s", p.stderr.wait(t))
		}
	}
}

// An address gets a certificate, without a server name; so do two key types, each for the clients that want it.
func TestCertificatesForAnAddressAndForOldClients(t *testing.T) {
	besides(t)
	ca := startCA(t, servicetest.PebbleOptions{})
	storage := filepath.Join(t.TempDir(), "storage")
	file := acmeFile(t, ca.CA, storage, "key_types: [p256, rsa2048]", "app.example.com")
	runFile(t, file)
	if leaf := ca.issued(t, "app.example.com", nil); leaf.PublicKeyAlgorithm != x509.ECDSA {
		t.Errorf("%v", leaf.PublicKeyAlgorithm)
	}
	old := func(c *tls.Config) {
		c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	}
	if leaf := ca.issued(t, "app.example.com", old); leaf.PublicKeyAlgorithm != x509.RSA {
		t.Errorf("an old client: %v", leaf.PublicKeyAlgorithm)
	}
}

func TestExternalAccountBindingAndTheNextIssuer(t *testing.T) {
	besides(t)
	ca := startCA(t, servicetest.PebbleOptions{EAB: map[string]string{"kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}})
	said.keep("the key of the binding", []byte("zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"))
	text, err := os.ReadFile(acmeFile(t, ca.CA, filepath.Join(t.TempDir(), "storage"), "", "app.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	down := fmt.Sprintf("issuers: [{directory: https://127.0.0.1:%d/dir}, ", servicetest.FreePort(t))
	bound := fmt.Sprintf("root: %q, eab: {kid: kid-1, hmac_key: zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W}}]", ca.Root)
	file := strings.Replace(string(text), "issuers: [", down, 1)
	file = strings.Replace(file, fmt.Sprintf("root: %q}]", ca.Root), bound, 1)
	p := runFile(t, write(t, "padlock.yaml", file))
	ca.issued(t, "app.example.com", nil)
	said := p.stderr.wait(t, "an issuer gave no certificate", "the CA cannot be reached", "stage=certificate")
	if strings.Contains(said, "zWNDZM6e") {
		t.Error("the key of the binding is in the log")
	}
}

// A problem document is translated: what is wrong, what to do, and when the next try is.
func TestTheCAsProblemIsTranslated(t *testing.T) {
	besides(t)
	ca := startCA(t, servicetest.PebbleOptions{})
	file := acmeFile(t, ca.CA, filepath.Join(t.TempDir(), "storage"), "challenges: [http-01]", "app.example.com", "blocked.example")
	ca.Manage("/set-default-ipv4", map[string]string{"ip": "127.0.0.9"})
	p := runFile(t, file)
	p.stderr.wait(t, "no certificate for app.example.com: the CA could not reach port 80 of", "connection refused", "open ports 80 and 443", "next_try=",
		"no certificate for blocked.example: the CA does not sign for this name",
		"127.0.0.9:"+strconv.Itoa(ca.HTTP)+" refuses connections") // said beforehand
}

// A renewal that fails in the last third is told again and again, everywhere where somebody may look, until it is mended.
func TestAFailingRenewalIsRepeatedUntilItIsMended(t *testing.T) {
	besides(t)
	ca := startCA(t, servicetest.PebbleOptions{Lifetime: 60 * time.Second})
	admin := local(servicetest.FreePort(t))
	text, err := os.ReadFile(acmeFile(t, ca.CA, filepath.Join(t.TempDir(), "storage"), "", "app.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, "padlock.yaml", "admin: "+admin+"\n"+string(text))
	p := runFile(t, file)
	ca.issued(t, "app.example.com", nil)
	ask := func(path string) string {
		response, err := http.Get("http://" + admin + path)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	gauge := `padlock_certificate_expiring{issuer="` + strings.TrimPrefix(strings.TrimSuffix(ca.URL, "/dir"), "https://") + `-dir",key_type="p256",name="app.example.com"} `
	if health := ask("/healthz"); health != "ok\n" {
		t.Errorf("%q", health)
	}
	if m := ask("/metrics"); !strings.Contains(m, gauge+"0\n") {
		t.Errorf("no %s in\n%s", gauge, m)
	}
	ca.Stop()
	for deadline := time.Now().Add(80 * time.Second); strings.Count(p.stderr.wait(t), "the certificate expires soon, and could not be renewed") < 2; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not repeated:\n%s", p.stderr.wait(t))
		}
	}
	if health := ask("/healthz"); !strings.Contains(health, "warning: the certificate of app.example.com") {
		t.Errorf("%q", health)
	}
	if m := ask("/metrics"); !strings.Contains(m, gauge+"1\n") {
		t.Errorf("no %s1 in\n%s", gauge, m)
	}
	out, _, _ := tool{t, p.home}.certs("list", "--config", file)
	if !strings.Contains(out, "next try") || !strings.Contains(out, "the CA cannot be reached") {
		t.Errorf("the list says\n%s", out)
	}
	ca.Start()
	p.stderr.wait(t, "the certificate is in order again")
	if health := ask("/healthz"); health != "ok\n" {
		t.Errorf("%q", health)
	}
}

// The storage holds what a restart needs, and nothing is ordered anew.
func TestARestartOrdersNothing(t *testing.T) {
	besides(t)
	ca := startCA(t, servicetest.PebbleOptions{})
	file := acmeFile(t, ca.CA, filepath.Join(t.TempDir(), "storage"), "", "app.example.com")
	p := runFile(t, file)
	first := ca.issued(t, "app.example.com", nil)
	p.kill()
	before := ca.orders()
	_, took := startTimed(t, file, ca.address(), "app.example.com")

	// A padlock that has nobody to ask for a certificate serves as late.
	other := local(servicetest.FreePort(t))
	_, usual := startTimed(t, write(t, "padlock.yaml", fmt.Sprintf("listen: {https: [%q], http: []}\nadmin: off\nstorage: %q\nsites: [{hosts: [localhost]}]\n", other, t.TempDir())), other, "localhost")
	t.Logf("serving %.0f ms after the start, others after %.0f ms", ms(took), ms(usual))
	if took > 3*usual+500*time.Millisecond {
		t.Errorf("serving only %s after the start, others after %s", took, usual)
	}
	if again := ca.issued(t, "app.example.com", nil); !again.Equal(first) {
		t.Error("another certificate")
	}
	if after := ca.orders(); after != before || before == 0 {
		t.Errorf("%d orders, then %d", before, after)
	}
}

func (ca *theCA) issuedFingerprint(t *testing.T, name string) string {
	t.Helper()
	return fingerprintOf(ca.issued(t, name, nil))
}

// fingerprintOf is as openssl and padlock write it.
func fingerprintOf(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return strings.ToUpper(strings.ReplaceAll(strings.Trim(fmt.Sprintf("% x", sum), " "), " ", ":"))
}

// execProvider is the environment in which the DNS provider exec writes to the CA's DNS server.
func execProvider(t *testing.T, ca *theCA) []string {
	t.Helper()
	script := write(t, "dns.sh", `#!/bin/sh
# exec mode RAW would pass the token; the default passes the record and its value.
name="$2"; value="$3"
case "$1" in
present) body="{\"host\": \"$name\", \"value\": \"$value\"}"; path=/set-txt ;;
cleanup) body="{\"host\": \"$name\"}"; path=/clear-txt ;;
esac
curl -sS --fail -d "$body" "$DNS_MANAGEMENT$path"
`)
	if err := os.Chmod(script, 0o700); err != nil {
		t.Fatal(err)
	}
	return []string{"EXEC_PATH=" + script, "DNS_MANAGEMENT=http://" + ca.Names(), "LEGO_DISABLE_CNAME_SUPPORT=true", "EXEC_SEQUENCE_INTERVAL=1"}
}
