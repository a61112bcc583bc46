package servicetest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// CA is Pebble, Let's Encrypt's test CA, with its DNS server in which every name leads to 127.0.0.1. Its nonces are
// bad at times, and its validations late, unless the environment says otherwise.
type CA struct {
	*Service        // URL is the directory's
	Root     string // PEM file that the directory's certificate is verified against
	HTTP     int    // port that it validates http-01 on
	TLS      int    // and tls-alpn-01
	DNS      string // address of the DNS server

	management string // of Pebble
	names      string // of the DNS server
	client     *http.Client
}

// PebbleOptions are for StartPebble; zero means Pebble's own.
type PebbleOptions struct {
	Lifetime    time.Duration     // of certificates
	EAB         map[string]string // key identifiers and base64url keys; accounts need one of them
	Profile     string            // another profile, of six days
	Responder   string            // URL of an OCSP responder
	RSA         bool              // for IntermediateKey, which Pebble gives out in RSA only
	Environment []string
}

// build makes one program of go.mod's tools per test process.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "padlock-pebble-")
	if err != nil {
		return "", err
	}
	for _, name := range []string{"pebble", "pebble-challtestsrv"} {
		if err := BuildPlain(filepath.Join(dir, name), "github.com/letsencrypt/pebble/v2/cmd/"+name); err != nil {
			return "", err
		}
	}
	return dir, nil
})

// StartPebble starts Pebble and its DNS server on ports of the kernel's choice.
func StartPebble(t testing.TB, o PebbleOptions) *CA {
	t.Helper()
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	ca := &CA{HTTP: FreePort(t), TLS: FreePort(t), DNS: local(FreePort(t)), management: local(FreePort(t)), names: local(FreePort(t))}
	listen := local(FreePort(t))
	ca.Root = Certificate(t, dir)
	pool := x509.NewCertPool()
	root, _ := os.ReadFile(ca.Root)
	pool.AppendCertsFromPEM(root)
	ca.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}, Timeout: 10 * time.Second}

	if o.Lifetime == 0 {
		o.Lifetime = 90 * 24 * time.Hour
	}

	algorithm := "ecdsa"
	if o.RSA {
		algorithm = "rsa"
	}

	profiles := map[string]any{"default": map[string]any{"description": "as asked for", "validityPeriod": int(o.Lifetime.Seconds())}}
	// Pebble takes an order without a profile whatever profiles it has.
	if o.Profile != "" {
		profiles[o.Profile] = map[string]any{"description": "six days", "validityPeriod": 518400}
	}
	settings, _ := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": listen, "managementListenAddress": ca.management,
		"certificate": filepath.Join(dir, "cert.pem"), "privateKey": filepath.Join(dir, "key.pem"),
		"httpPort": ca.HTTP, "tlsPort": ca.TLS, "ocspResponderURL": o.Responder, "keyAlgorithm": algorithm, "profiles": profiles,
		"externalAccountBindingRequired": o.EAB != nil, "externalAccountMACKeys": o.EAB,
		"domainBlocklist": []string{"blocked.example"}, "retryAfter": map[string]int{"authz": 1, "order": 1},
	}})

	file := filepath.Join(dir, "pebble.json")
	if err := os.WriteFile(file, settings, 0o600); err != nil {
		t.Fatal(err)
	}

	dns := &Service{t: t, alive: open(ca.names)}
	dns.command = func() *exec.Cmd {
		return exec.Command(filepath.Join(bin, "pebble-challtestsrv"), "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "",
			"-dnsserver", ca.DNS, "-management", ca.names, "-defaultIPv6", "")
	}

	dns.Start()
	t.Cleanup(dns.Stop)
	ca.Service = &Service{t: t, URL: "https://" + listen + "/dir", alive: open(listen, ca.management)}
	ca.command = func() *exec.Cmd {
		c := exec.Command(filepath.Join(bin, "pebble"), "-config", file, "-dnsserver", ca.DNS)
		c.Env = append(append(os.Environ(), "PEBBLE_VA_SLEEPTIME=1", "PEBBLE_CHAIN_LENGTH=2"), o.Environment...)
		return c
	}

	ca.Start()
	t.Cleanup(ca.Stop)
	return ca
}

// Output is what Pebble has logged. It is complete once Pebble is stopped.
func (ca *CA) Output() string { return ca.output.String() }

// IssuingRoot is the root of the certificates that Pebble issues, which changes with every start.
func (ca *CA) IssuingRoot() []byte { return ca.AlternateRoot(0) }

// AlternateRoot is the root of an alternate chain, counted from 1; PEBBLE_ALTERNATE_ROOTS says how many there are.
func (ca *CA) AlternateRoot(n int) []byte {
	return ca.get(fmt.Sprintf("https://%s/roots/%d", ca.management, n))
}

// Manage posts to Pebble's management, or to that of the DNS server for a path that it has.
func (ca *CA) Manage(path string, body any) {
	ca.t.Helper()
	data, _ := json.Marshal(body)
	url := "http://" + ca.names + path
	if path == "/set-renewal-info/" {
		url = "https://" + ca.management + path
	}

	response, err := ca.client.Post(url, "application/json", bytes.NewReader(data))
	if err != nil {
		ca.t.Fatal(err)
	}
	defer response.Body.Close()

	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(response.Body)
		ca.t.Fatalf("%s: %s %s", path, response.Status, text)
	}
}

// IntermediateKey is the key that signs leaves, and its certificate.
func (ca *CA) IntermediateKey() (certificate, key []byte) {
	return ca.get("https://" + ca.management + "/intermediates/0"), ca.get("https://" + ca.management + "/intermediate-keys/0")
}

func (ca *CA) get(url string) []byte {
	ca.t.Helper()
	response, err := ca.client.Get(url)
	if err != nil {
		ca.t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		ca.t.Fatalf("%s: %s %v", url, response.Status, err)
	}
	return data
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func open(addresses ...string) func() bool {
	return func() bool {
		for _, address := range addresses {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				return false
			}
			conn.Close()
		}
		return true
	}
}

// Certificate makes cert.pem and key.pem for 127.0.0.1, self-signed so that it is its own root, and returns the
// first's path.
func Certificate(t testing.TB, dir string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}

	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "pebble"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-10 * 24 * time.Hour), NotAfter: time.Now().Add(10 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}

	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}

	encoded, _ := x509.MarshalPKCS8PrivateKey(key)
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: encoded}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	return filepath.Join(dir, "cert.pem")
}

// Names is the address of the DNS server's management.
func (ca *CA) Names() string { return ca.names }
