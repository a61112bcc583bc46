package proxy_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"padlock/proxy"
	"padlock/traffic"
)

// revocations is a list of the authority that expires at a time, in PEM.
func (a *authority) revocations(t *testing.T, next time.Time, serials ...int64) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "list")
	a.crl(t, file, next, serials...)
	der, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// intermediate is a CA that this one has signed.
func (a *authority) intermediate(t *testing.T, serial int64, name string) *authority {
	t.Helper()
	pair := a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	})
	return ofPair(t, pair)
}

func write(t *testing.T, name string, parts ...[]byte) {
	t.Helper()
	if err := os.WriteFile(name, bytes.Join(parts, nil), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Wherever client certificates are accepted, a list counts in whatever form it is written: four lists of four CAs joined without a line end,
// behind a byte order mark. Revoked is whoever stands in any of them, and the intermediate of whoever does, also where the intermediate is
// trusted by itself.
func TestARevokedCertificateIsRefusedEverywhere(t *testing.T) {
	t.Parallel()
	root, other := newAuthority(t), newAuthority(t)
	below := root.intermediate(t, 50, "below")
	gone := root.intermediate(t, 51, "gone")
	dir := t.TempDir()
	bundle, lists := filepath.Join(dir, "clients.pem"), filepath.Join(dir, "revoked.crl")
	var cas [][]byte
	for _, ca := range []*authority{root, other, below, gone} {
		cas = append(cas, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}))
	}
	write(t, bundle, cas...)
	later := time.Now().Add(time.Hour)
	write(t, lists, []byte("\xef\xbb\xbf"), bytes.TrimSpace(other.revocations(t, later, 60)), bytes.TrimSpace(below.revocations(t, later, 61)), bytes.TrimSpace(gone.revocations(t, later)), bytes.TrimSpace(root.revocations(t, later, 51, 62)))

	own := listen(t)
	e := startFile(t, `
sites:
  - {hosts: [localhost], tls: {client_auth: {mode: require, ca: %[1]s, crl: %[2]s}}, routes: [{to: %[3]q}]}
  - {hosts: [optional.test], tls: {client_auth: {mode: optional-verify, ca: %[1]s, crl: %[2]s}}, routes: [{to: %[3]q}]}
  - {hosts: [tcp.test], tls: {client_auth: {mode: require, ca: %[1]s, crl: %[2]s}}, tcp: {to: %[4]q, alpn: [echo]}}
  - {hosts: [own.test], listen: [%[5]q], tls: {client_auth: {mode: require, ca: %[1]s, crl: %[2]s}}, routes: [{to: %[3]q}]}
`, bundle, lists, named(t, "app"), strings.TrimPrefix(named(t, "tcp"), "http://"), own.Addr().String())
	e.server.Add(proxy.Listener{Listener: own, Address: own.Addr().String()})

	chained := func(ca *authority, serial int64) tls.Certificate {
		pair := ca.client(t, serial, pkix.Name{CommonName: "client"})
		pair.Certificate = append(pair.Certificate, ca.cert.Raw)
		return pair
	}
	for name, c := range map[string]struct {
		client tls.Certificate
		in     bool
	}{
		"of the root":                             {root.client(t, 70, pkix.Name{CommonName: "a"}), true},
		"of the other":                            {other.client(t, 62, pkix.Name{CommonName: "a"}), true},
		"of the intermediate":                     {below.client(t, 62, pkix.Name{CommonName: "a"}), true},
		"of the intermediate, with its chain":     {chained(below, 62), true},
		"revoked by the root":                     {root.client(t, 62, pkix.Name{CommonName: "a"}), false},
		"revoked by the other":                    {other.client(t, 60, pkix.Name{CommonName: "a"}), false},
		"revoked by the intermediate":             {below.client(t, 61, pkix.Name{CommonName: "a"}), false},
		"revoked by the intermediate, with chain": {chained(below, 61), false},
		"of an intermediate that is revoked":      {gone.client(t, 71, pkix.Name{CommonName: "a"}), false},
		"of a revoked one, with its chain":        {chained(gone, 71), false},
	} {
		with := func(name string, protocols ...string) *tls.Config {
			return &tls.Config{RootCAs: e.roots, ServerName: name, Certificates: []tls.Certificate{c.client}, NextProtos: protocols}
		}
		for _, front := range fronts {
			for _, host := range []string{"localhost", "optional.test"} {
				if status, _ := e.once(t, front, with(host), host); (status == 200) != c.in {
					t.Errorf("%s, by %s, %s: %d", name, front, host, status)
				}
			}
		}
		apart := &edge{address: own.Addr().String(), roots: e.roots}
		if status, _ := apart.once(t, "h1", with("own.test"), "own.test"); (status == 200) != c.in {
			t.Errorf("%s, on a listener of its own: %d", name, status)
		}
		conn, err := tls.Dial("tcp", e.address, with("tcp.test", "echo"))
		if err == nil {
			_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			answer, _ := io.ReadAll(conn)
			conn.Close()
			if c.in != bytes.HasPrefix(answer, []byte("HTTP/1.1 200")) {
				t.Errorf("%s, by TCP: %.50q", name, answer)
			}
		} else if c.in {
			t.Errorf("%s, by TCP: %v", name, err)
		}
	}
}

// While padlock runs, a list that cannot be used leaves the one before in force, and nothing else; that is told, and shown. A kept list that
// expires lets nobody in any more.
func TestAListThatCannotBeUsedLeavesTheOneBefore(t *testing.T) {
	t.Parallel()
	ca, stranger := newAuthority(t), newAuthority(t)
	lists := filepath.Join(t.TempDir(), "revoked.crl")
	later := time.Now().Add(time.Hour)
	good := ca.revocations(t, later, 66)
	write(t, lists, good)
	alice, old := ca.client(t, 10, pkix.Name{CommonName: "alice"}), ca.client(t, 66, pkix.Name{CommonName: "old"})
	e := startFile(t, `
sites: [{hosts: [localhost], tls: {client_auth: {mode: require, ca: %[1]s, crl: %[2]s}}, routes: [{to: %[3]q}]}]
`, ca.file, lists, named(t, "app"))
	ask := func(c tls.Certificate) int {
		status, _ := e.ask(t, &tls.Config{RootCAs: e.roots, Certificates: []tls.Certificate{c}}, "localhost", "localhost")
		return status
	}
	expires := func() time.Time { return e.server.Traffic().Trust.Lists[0].Expires }

	whole := ca.revocations(t, later)
	for name, c := range map[string]struct {
		content []byte
		reason  string
	}{
		"expired":           {ca.revocations(t, time.Now().Add(-time.Minute)), `:1: the revocation list of "CN=clients" has expired at `},
		"of another CA":     {stranger.revocations(t, later), `:1: the revocation list of "CN=clients" is not signed by the CA of that name`},
		"cut short":         {whole[:len(whole)-30], ":1: the X509 CRL that begins here has no END line"},
		"damaged":           {bytes.Replace(whole, []byte("BEGIN"), []byte("BEGIM"), 1), ":1: \"-----BEGIM X509 CRL-----\" is a damaged BEGIN or END line"},
		"joined and cut":    {append(bytes.TrimSpace(bytes.Clone(whole)), whole[:len(whole)-30]...), "has no END line"},
		"empty":             {nil, "holds no revocation list"},
		"a certificate":     {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}), "where revocation lists are expected"},
		"zeros, at its end": {append(bytes.Clone(whole), make([]byte, 100)...), "is not text"},
	} {
		write(t, lists, c.content)
		if err := e.server.Reload(e.config, nil); err != nil {
			t.Errorf("%s: what needs no list cannot be reloaded: %v", name, err)
		}
		if a, o := ask(alice), ask(old); a != 200 || o != 0 {
			t.Errorf("%s: a good certificate %d, a revoked one %d", name, a, o)
		}
		if u := e.server.Traffic().Trust.Unusable; len(u) != 1 || u[0].File != lists || !strings.Contains(u[0].Reason, c.reason) {
			t.Errorf("%s: %+v", name, u)
		}

		checked := *e.config
		if err := checked.Validate(); err == nil || !strings.Contains(err.Error(), c.reason) || !strings.Contains(err.Error(), "sites[0].tls.client_auth.crl[0]: "+lists) {
			t.Errorf("%s: the check says %v", name, err)
		}
	}
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(e.log.String(), "what it held before counts"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing was said")
		}
	}

	write(t, lists, ca.revocations(t, time.Now().Add(2*time.Second)))
	if err := e.server.Reload(e.config, nil); err != nil || ask(alice) != 200 || ask(old) != 200 || len(e.server.Traffic().Trust.Unusable) != 0 {
		t.Fatalf("a good list: %v, %d, %+v", err, ask(old), e.server.Traffic().Trust)
	}
	for until := expires(); ask(alice) != 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(until.Add(20 * time.Second)) {
			t.Fatal("the list in force has expired, and its CA's clients get in")
		}
	}
	if u := e.server.Traffic().Trust.Unusable; !slices.ContainsFunc(u, func(f traffic.TrustFile) bool {
		return strings.Contains(f.Reason, "all clients of this CA are refused")
	}) {
		t.Errorf("%+v", u)
	}
}

// A name of one kind does not pass for a name of another, and a wildcard stands for one label of a DNS name.
func TestNamesOfClientsMatchTheirOwnKind(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	uri := func(text string) *url.URL {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	certificates := map[string]*x509.Certificate{
		"dns":        {DNSNames: []string{"alice.Blue.test"}},
		"deep dns":   {DNSNames: []string{"a.alice.blue.test"}},
		"parent":     {DNSNames: []string{"blue.test"}},
		"wild":       {DNSNames: []string{"*.blue.test"}},
		"email":      {EmailAddresses: []string{"alice.x@corp.blue.test", "alice@blue.test"}},
		"other case": {EmailAddresses: []string{"Alice@blue.test"}},
		"uri":        {URIs: []*url.URL{uri("spiffe://blue.test/app")}},
		"odd uri":    {URIs: []*url.URL{uri("x://alice.blue.test"), uri("x.blue.test")}},
		"path":       {URIs: []*url.URL{uri("spiffe://blue.test/APP")}},
		"dns as uri": {DNSNames: []string{"spiffe.blue.test"}},
		"ip":         {IPAddresses: []net.IP{{10, 0, 0, 1}}},
	}
	for _, c := range []struct{ allow, in string }{
		{`"*.blue.test"`, "dns, dns as uri"},
		{`"*.test"`, "parent"},
		{`alice.blue.test`, "dns"},
		{`alice@BLUE.test`, "email"},
		{`"email:alice@blue.test"`, "email"},
		{`"dns:blue.test"`, "parent"},
		{`"spiffe://BLUE.test/app"`, "uri"},
		{`"uri:spiffe://blue.test/app"`, "uri"},
		{`"::ffff:10.0.0.1"`, "ip"},
		{`"*.blue.test", 10.0.0.1`, "dns, dns as uri, ip"},
	} {
		e := startFile(t, `sites: [{hosts: [localhost], tls: {client_auth: {mode: require, ca: %[1]s, allow: {names: [`+c.allow+`]}}}, routes: [{to: %[2]q}]}]`, ca.file, named(t, "app"))
		for name, template := range certificates {
			template.SerialNumber, template.ExtKeyUsage = big.NewInt(2), []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
			status, _ := e.ask(t, &tls.Config{RootCAs: e.roots, Certificates: []tls.Certificate{ca.sign(t, template)}}, "localhost", "localhost")
			want := false
			for in := range strings.SplitSeq(c.in, ", ") {
				want = want || in == name
			}
			if (status == 200) != want {
				t.Errorf("%s: %s: %d", c.allow, name, status)
			}
		}
	}
}
