package proxy_test

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
)

// echoFields answers with the fields that it was asked with.
func echoFields(t *testing.T) string {
	return backend(t, func(w http.ResponseWriter, r *http.Request) { _ = r.Header.Write(w) })
}

// The client is the right-most address that is no trusted proxy's; whatever an untrusted client claims is dropped.
func TestTheClientIsWhomTrustedProxiesTell(t *testing.T) {
	for _, c := range []struct {
		trusted, xff, forwarded string
		client, chain           string
	}{
		{"[10.0.0.0/8]", "6.6.6.6", "", "127.0.0.1", "127.0.0.1"},
		{"[127.0.0.1]", "", "", "127.0.0.1", "127.0.0.1"},
		{"[127.0.0.1]", "6.6.6.6", "", "6.6.6.6", "6.6.6.6, 127.0.0.1"},
		{"[127.0.0.1]", "1.1.1.1, 6.6.6.6", "", "6.6.6.6", "1.1.1.1, 6.6.6.6, 127.0.0.1"},
		{"[127.0.0.1, 10.0.0.0/8]", "1.1.1.1, 6.6.6.6 ,10.1.2.3, 10.9.9.9", "", "6.6.6.6", "1.1.1.1, 6.6.6.6 ,10.1.2.3, 10.9.9.9, 127.0.0.1"},
		{"[127.0.0.1, 10.0.0.0/8]", "10.1.2.3, 10.9.9.9", "", "10.1.2.3", "10.1.2.3, 10.9.9.9, 127.0.0.1"},
		{"[127.0.0.1]", "6.6.6.6, garbage", "", "unknown", "6.6.6.6, garbage, 127.0.0.1"},
		{"[127.0.0.1]", "[2001:db8::1]:4711", "", "2001:db8::1", "[2001:db8::1]:4711, 127.0.0.1"},
		{"[127.0.0.1]", "6.6.6.6:80", "for=7.7.7.7", "6.6.6.6", "6.6.6.6:80, 127.0.0.1"},
		{"[127.0.0.1]", "", `for="_a,b";by=x, For="[2001:DB8::2]:80";proto=https`, "2001:db8::2", "127.0.0.1"},
		{"[127.0.0.1]", "", `for=unknown`, "unknown", "127.0.0.1"},
	} {
		e := startFile(t, `
trusted_proxies: %s
sites: [{hosts: [localhost], routes: [{to: %q, headers: {request: {set: {X-Who: "{client_ip}"}}}}]}]
`, c.trusted, echoFields(t))
		for name, client := range e.clients(t) {
			fields := []string{"X-Forwarded-Proto", "http", "X-Forwarded-Host", "shop.example"}
			if c.xff != "" {
				fields = append(fields, "X-Forwarded-For", c.xff)
			}
			if c.forwarded != "" {
				fields = append(fields, "Forwarded", c.forwarded)
			}
			_, got := fetch(t, client, "GET", "https://localhost/", fields...)
			host, proto := "shop.example", "http"
			if c.trusted == "[10.0.0.0/8]" {
				host, proto = "localhost", "https"
			}
			for field, want := range map[string]string{"X-Who": c.client, "X-Forwarded-For": c.chain, "X-Forwarded-Host": host, "X-Forwarded-Proto": proto} {
				if !strings.Contains(got, field+": "+want+"\r\n") {
					t.Errorf("%s: trusted %s, %q %q: no %s: %s in\n%s", name, c.trusted, c.xff, c.forwarded, field, want, got)
				}
			}
		}
		if c.client != "127.0.0.1" {
			soonIn(t, e, fmt.Sprintf(`"client":%q`, c.client))
		}
	}
}

// Lists of addresses are compared with the client, not with the proxy in front of it.
func TestAddressListsMeanTheClient(t *testing.T) {
	e := startFile(t, `
trusted_proxies: [127.0.0.1]
sites: [{hosts: [localhost], deny: [6.6.6.0/24], routes: [{to: %q}]}]
`, named(t, "app"))
	client := e.clients(t)["h1"]
	for address, want := range map[string]int{"6.6.6.6": 403, "::ffff:6.6.6.7": 403, "7.7.7.7": 200} {
		if response, _ := fetch(t, client, "GET", "https://localhost/", "X-Forwarded-For", address); response.StatusCode != want {
			t.Errorf("%s: %d, not %d", address, response.StatusCode, want)
		}
	}
}

// A PROXY header is read from where it is said to come from, and tells the client; who sends none there, or one elsewhere, is cut.
func TestAProxyHeaderTellsTheClient(t *testing.T) {
	source, destination := &net.TCPAddr{IP: net.ParseIP("203.0.113.9"), Port: 4711}, &net.TCPAddr{IP: net.ParseIP("198.51.100.1"), Port: 443}
	format := func(h *proxyproto.Header) string {
		b, err := h.Format()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	withTLV := proxyproto.HeaderProxyFromAddrs(2, source, destination)
	if err := withTLV.SetTLVs([]proxyproto.TLV{{Type: proxyproto.PP2_TYPE_AUTHORITY, Value: []byte(strings.Repeat("a", 3000))}}); err != nil {
		t.Fatal(err)
	}
	const from = `
listen: {proxy_protocol: {from: [%s]}}
sites: [{hosts: [localhost], routes: [{to: %q}]}]
`
	app := echoFields(t)
	near, far := startFile(t, from, "127.0.0.0/8", app), startFile(t, from, "10.0.0.0/8", app)
	for _, c := range []struct {
		what, header string
		edge         *edge
		want         string // client, "" where the connection is cut
	}{
		{"version 1", format(proxyproto.HeaderProxyFromAddrs(1, source, destination)), near, "203.0.113.9"},
		{"version 2", format(proxyproto.HeaderProxyFromAddrs(2, source, destination)), near, "203.0.113.9"},
		{"version 2 with TLVs", format(withTLV), near, "203.0.113.9"},
		{"version 1, unknown", "PROXY UNKNOWN\r\n", near, "unknown"},
		{"version 2, local", "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", near, "127.0.0.1"},
		{"none, where one must come", "", near, ""},
		{"one without an end", "PROXY TCP4 " + strings.Repeat("1", 200), near, ""},
		{"one that is too long", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff", near, ""},
		{"one with nonsense", "PROXY TCP4 a b c d\r\n", near, ""},
		{"one from elsewhere", format(proxyproto.HeaderProxyFromAddrs(1, source, destination)), far, ""},
		{"none from elsewhere", "", far, "127.0.0.1"},
	} {
		raw, err := net.Dial("tcp", c.edge.address)
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.WriteString(raw, c.header); err != nil {
			t.Fatal(err)
		}
		conn, got := tls.Client(raw, c.edge.tls()), ""
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n"); err == nil {
			all, _ := io.ReadAll(conn)
			for line := range strings.Lines(string(all)) {
				if value, ok := strings.CutPrefix(strings.TrimSpace(line), "X-Forwarded-For: "); ok {
					got = value
				}
			}
		}
		conn.Close()
		if got != c.want {
			t.Errorf("%s: the client is %q, not %q", c.what, got, c.want)
		}
	}
	plain, err := net.Dial("tcp", near.plain)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	_, _ = io.WriteString(plain, format(proxyproto.HeaderProxyFromAddrs(2, source, destination))+"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	if answer, _ := io.ReadAll(plain); !strings.Contains(string(answer), "Location: https://localhost") {
		t.Errorf("on the plain port: %s", answer)
	}
	soonIn(t, near, `"remote":"203.0.113.9:4711"`)
}

// crl writes a revocation list.
func (a *authority) crl(t *testing.T, file string, next time.Time, serials ...int64) {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-2 * time.Hour), NextUpdate: next}
	for _, serial := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(serial), RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, der, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Each mode lets in whom it says, and targets learn who it is from padlock alone.
func TestClientCertificatesAreJudgedAndTold(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	lists := filepath.Join(t.TempDir(), "revoked.crl")
	ca.crl(t, lists, time.Now().Add(time.Hour), 66)
	clients := map[string][]tls.Certificate{
		"none": nil, "alice": {ca.client(t, 10, pkix.Name{CommonName: "alice\r\nX-Evil: 1", Organization: []string{"Blue"}}, "alice.blue.example")},
		"bob": {ca.client(t, 11, pkix.Name{CommonName: "bob", Organization: []string{"Red"}}, "bob.red.example")}, "revoked": {ca.client(t, 66, pkix.Name{CommonName: "old"})},
		"stranger": {other.client(t, 12, pkix.Name{CommonName: "alice", Organization: []string{"Blue"}})},
	}
	for _, c := range []struct {
		auth string
		want map[string]string // client to X-SSL-Client-Verify; those that are refused are not there
	}{
		{"mode: require", map[string]string{"alice": "SUCCESS", "bob": "SUCCESS", "revoked": "SUCCESS"}},
		{"mode: require, crl: [%[2]s]", map[string]string{"alice": "SUCCESS", "bob": "SUCCESS"}},
		{"mode: optional-verify, crl: [%[2]s]", map[string]string{"none": "NONE", "alice": "SUCCESS", "bob": "SUCCESS"}},
		{"mode: request, crl: [%[2]s]", map[string]string{"none": "NONE", "alice": "SUCCESS", "bob": "SUCCESS", "revoked": "FAILED:revoked", "stranger": "FAILED:x509"}},
		{"mode: require, allow: {organizations: [Blue]}", map[string]string{"alice": "SUCCESS"}},
		{"mode: require, allow: {names: [\"*.red.example\"], organizations: [Green]}", map[string]string{"bob": "SUCCESS"}},
		{"mode: require, allow: {names: [alice.blue.example]}, forward_certificate: true", map[string]string{"alice": "SUCCESS"}},
	} {
		e := startFile(t, `
sites: [{hosts: [localhost], tls: {client_auth: {ca: %[1]s, `+c.auth+`}}, routes: [{to: %[3]q}]}]
`, ca.file, lists, echoFields(t))
		for name, certificates := range clients {
			config := e.tls()
			config.Certificates = certificates
			transport := &http.Transport{DialContext: e.dial, TLSClientConfig: config}
			request, _ := http.NewRequest("GET", "https://localhost/", nil)
			for _, forged := range []string{"X-SSL-Client-Verify", "X_SSL_Client_Verify", "X-SSL-Client-Subject", "X-SSL-Client-SAN", "Client-Cert"} {
				request.Header[forged] = []string{"FORGED"}
			}
			response, err := transport.RoundTrip(request)
			want, in := c.want[name]
			if err != nil {
				if in {
					t.Errorf("%s: %s was refused: %v", c.auth, name, err)
				}
				continue
			}
			body, _ := io.ReadAll(response.Body)
			response.Body.Close()
			transport.CloseIdleConnections()
			got := string(body)
			switch {
			case !in:
				t.Errorf("%s: %s was let in", c.auth, name)
			case !strings.Contains(got, "X-Ssl-Client-Verify: "+want) || strings.Contains(got, "FORGED") || strings.Contains(got, "\nX-Evil"):
				t.Errorf("%s: of %s the target was told\n%s", c.auth, name, got)
			case name == "bob" && !strings.Contains(got, "X-Ssl-Client-Subject: CN=bob,O=Red\r\n"), name == "bob" && !strings.Contains(got, "X-Ssl-Client-San: bob.red.example\r\n"):
				t.Errorf("%s: of %s the target was told\n%s", c.auth, name, got)
			}
			if strings.Contains(c.auth, "forward_") != strings.Contains(got, "Client-Cert: :"+base64.StdEncoding.EncodeToString(append([]byte(nil), certificateOf(certificates)...))+":") {
				t.Errorf("%s: Client-Cert of %s:\n%s", c.auth, name, got)
			}
		}
	}
}

func certificateOf(certificates []tls.Certificate) []byte {
	if len(certificates) == 0 {
		return []byte("none")
	}
	return certificates[0].Certificate[0]
}

// A new list is read, and so is a new CA. Connections that were made before count no more.
func TestRevocationListsAndCAsAreReadAgain(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	lists := filepath.Join(t.TempDir(), "revoked.crl")
	ca.crl(t, lists, time.Now().Add(time.Hour), 10)
	alice := ca.client(t, 10, pkix.Name{CommonName: "alice"})
	e := startFile(t, `
sites: [{hosts: [localhost], tls: {client_auth: {mode: require, ca: %[1]s, crl: %[2]s}}, routes: [{to: %[3]q}]}]
`, ca.file, lists, named(t, "app"))
	ask := func() int {
		status, _ := e.ask(t, &tls.Config{RootCAs: e.roots, Certificates: []tls.Certificate{alice}}, "localhost", "localhost")
		return status
	}
	soon := func(what string, want int) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ask() != want; time.Sleep(100 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: not %d", what, want)
			}
		}
	}
	if got := ask(); got != 0 {
		t.Fatalf("revoked: %d", got)
	}
	ca.crl(t, lists, time.Now().Add(time.Hour))
	soon("a fresh list", 200)
	config := e.tls()
	config.Certificates = []tls.Certificate{alice}
	kept := &http.Client{Transport: &http.Transport{DialContext: e.dial, TLSClientConfig: config}}
	if response, _ := fetch(t, kept, "GET", "https://localhost/"); response.StatusCode != 200 {
		t.Fatal(response.Status)
	}
	ca.crl(t, lists, time.Now().Add(time.Hour), 10)
	soon("revoked", 0)
	if response, err := kept.Get("https://localhost/"); err == nil {
		response.Body.Close()
		t.Errorf("over a connection from before the revocation: %s", response.Status)
	}
	ca.crl(t, lists, time.Now().Add(time.Hour))
	soon("pardoned", 200)
	if err := os.WriteFile(ca.file, []byte("half a fi"), 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second) // it is looked at every two
	if got := ask(); got != 200 {
		t.Fatalf("with a CA file that cannot be used: %d", got)
	}
	ca.replace(t)
	soon("another CA", 0)
	alice = ca.client(t, 10, pkix.Name{CommonName: "alice"})
	ca.crl(t, lists, time.Now().Add(time.Hour))
	soon("a certificate of the other CA", 200)
}
