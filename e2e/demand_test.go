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
	"flag"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"padlock/internal/servicetest"
)

var stored = flag.Int("stored", 2_000, "certificates in the storage of TestStoredCertificatesOnDemand")

// asked is an application that agrees to names below shop.example.
type asked struct {
	*httptest.Server
	questions atomic.Int64
}

func startAsked(t *testing.T) *asked {
	a := &asked{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.questions.Add(1)
		if !strings.HasSuffix(r.URL.Query().Get("domain"), ".shop.example") {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	t.Cleanup(a.Close)
	return a
}

// A name that nobody has listed gets its certificate at the first handshake, which waits for it; many at once make one order.
func TestCertificatesOnDemand(t *testing.T) {
	besides(t)
	ca, ask, storage := startCA(t, servicetest.PebbleOptions{}), startAsked(t), t.TempDir()
	file := acmeFile(t, ca.CA, storage, "on_demand: {ask: "+ask.URL+"}", `"*"`)
	p := runFile(t, file)
	trusting := func(c *tls.Config) { c.InsecureSkipVerify, c.RootCAs = false, ca.roots() }
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := see(ca.address(), "one.shop.example", trusting); err != nil {
				t.Errorf("the first handshakes: %v", err)
			}
		})
	}
	wg.Wait()
	if ca.orders() != 1 || ask.questions.Load() != 1 {
		t.Errorf("%d orders and %d questions for one name", ca.orders(), ask.questions.Load())
	}
	if _, err := see(ca.address(), "other.example.com", nil); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("a name that the application does not want: %v", err)
	}
	before := ask.questions.Load()
	_, _ = see(ca.address(), "other.example.com", nil)
	if ask.questions.Load() != before {
		t.Error("a no is asked for again at once")
	}
	p.stop(t)
	runFile(t, file)
	if _, err := see(ca.address(), "one.shop.example", trusting); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if ca.orders() != 1 {
		t.Errorf("%d orders after a restart", ca.orders())
	}
}

// Thousands of handshakes for invented names: no order, few questions, memory that stays, and names that exist are served all the while.
func TestInventedNames(t *testing.T) {
	works(t)
	ca, ask, storage := startCA(t, servicetest.PebbleOptions{}), startAsked(t), t.TempDir()
	file := acmeFile(t, ca.CA, storage, "on_demand: {ask: "+ask.URL+"}", `"*"`)
	p := &padlock{home: t.TempDir()}
	p.run(t, program(plain, p.home, "run", "--config", file))
	if _, err := see(ca.address(), "good.shop.example", nil); err != nil {
		t.Fatalf("%v\n%s", err, p.stderr.wait(t))
	}
	flood := func(from, to int) {
		var wg sync.WaitGroup
		slots := make(chan struct{}, 16)
		for i := from; i < to; i++ {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				if _, err := see(ca.address(), fmt.Sprintf("n%d.invented%d.example", i, i), nil); err == nil {
					t.Error("an invented name has a certificate")
				}
			})
		}
		wg.Wait()
	}
	first, all := 1000, 4000
	if *long {
		first, all = 2000, 10_000
	}
	flood(0, first)
	warm := resident(t, p.pid)
	flood(first, all)
	after := resident(t, p.pid)
	t.Logf("%d MiB after %d invented names, %d MiB after %d; %d questions", warm>>20, first, after>>20, all, ask.questions.Load())
	if names := ca.validated(); !slices.Equal(names, []string{"good.shop.example"}) { // more than once, perhaps: a busy CA may not reach padlock in time
		t.Errorf("certificates were ordered for %q", names)
	}
	if after > warm+16<<20 {
		t.Errorf("memory grows from %d to %d MiB", warm>>20, after>>20)
	}
	if q := ask.questions.Load(); q > 1+10*5 {
		t.Errorf("%d questions, though one client may bring ten new names in a minute", q)
	}
	if _, err := see(ca.address(), "good.shop.example", nil); err != nil {
		t.Errorf("a name that exists: %v", err)
	}
}

// resident is what a process holds in memory, in bytes.
func resident(t *testing.T, pid int) int64 {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// maker fills a storage with certificates as if they had been ordered.
type maker struct {
	root    *x509.Certificate
	key     *ecdsa.PrivateKey
	storage string
	issuer  string // the directory below certificates/
}

func newMaker(t *testing.T, storage, issuer string) *maker {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	m := &maker{key: key, storage: storage, issuer: issuer, root: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Maker"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
	}}
	return m
}

func (m *maker) add(name string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(mathrand.Int64()), DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(60 * 24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, m.root, key.Public(), m.key)
	if err != nil {
		return err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	dir := filepath.Join(m.storage, "certificates", m.issuer, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for ext, data := range map[string][]byte{
		".key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), ".crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		".json": fmt.Appendf(nil, `{"sans": [%q], "issuer_data": {}}`, name),
	} {
		if err := os.WriteFile(filepath.Join(dir, name+ext), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (m *maker) fill(t *testing.T, count int, name func(int) string) {
	t.Helper()
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := worker; i < count; i += 4 {
				if err := m.add(name(i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// startTimed runs a configuration, and says how long it took until it answered a handshake of a name.
func startTimed(t *testing.T, file, address, name string) (*padlock, time.Duration) {
	t.Helper()
	p := &padlock{home: t.TempDir()}
	begin := time.Now()
	p.run(t, program(plain, p.home, "run", "--config", file))
	eventuallyOften(t, func() error { _, err := see(address, name, nil); return err })
	return p, time.Since(begin)
}

func eventuallyOften(t *testing.T, try func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// Certificates that lie in the storage are loaded when somebody comes for them. Neither the start nor the memory depends on how many there are.
func TestStoredCertificatesOnDemand(t *testing.T) {
	works(t)
	https, plainHTTP := local(servicetest.FreePort(t)), local(servicetest.FreePort(t))
	name := func(i int) string { return fmt.Sprintf("c%d.customers.example", i) }
	config := func(storage string) string {
		return write(t, "padlock.yaml", fmt.Sprintf(`
listen: {https: [%q], http: [%q]}
storage: %q
handshakes: {show: "off"}
access_log: {format: "off"}
certificates:
  issuers: [{directory: "https://127.0.0.1:1/dir"}]
  on_demand: {allow: ["*.customers.example"], cache: 1000}
sites: [{hosts: ["*"]}]
`, https, plainHTTP, storage))
	}
	few, many := t.TempDir(), t.TempDir()
	newMaker(t, few, "127.0.0.1-1-dir").fill(t, 1, name)
	newMaker(t, many, "127.0.0.1-1-dir").fill(t, *stored, name)

	p, alone := startTimed(t, config(few), https, name(0))
	base := resident(t, p.pid)
	p.stop(t)
	p, crowded := startTimed(t, config(many), https, name(0))
	var took []time.Duration
	var lock sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, 2)
	for _, i := range mathrand.Perm(*stored)[:min(4000, *stored)] {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			begin := time.Now()
			if _, err := see(https, name(i), nil); err != nil {
				t.Errorf("%s: %v", name(i), err)
			}
			lock.Lock()
			defer lock.Unlock()
			took = append(took, time.Since(begin))
		})
	}
	wg.Wait()
	slices.Sort(took)
	memory := resident(t, p.pid)
	t.Logf("%d stored: start %.0f ms (with one stored %.0f ms); %d names' first handshakes with a request: median %.1f ms, p99 %.1f ms; %d MiB (with one %d MiB), 1,000 certificates in memory",
		*stored, ms(crowded), ms(alone), len(took), ms(took[len(took)/2]), ms(took[len(took)*99/100]), memory>>20, base>>20)
	if crowded > alone+time.Second {
		t.Errorf("the start takes %s instead of %s", crowded, alone)
	}
	if memory > base+64<<20 {
		t.Errorf("memory grows from %d to %d MiB", base>>20, memory>>20)
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// Five hundred names of sites, whose certificates are there: each is served, from the first moment on, though the CA is away.
func TestFiveHundredNames(t *testing.T) {
	works(t)
	https, plainHTTP, storage := local(servicetest.FreePort(t)), local(servicetest.FreePort(t)), t.TempDir()
	var names []string
	for i := range 500 {
		names = append(names, fmt.Sprintf("n%d.example.com", i))
	}
	newMaker(t, storage, "127.0.0.1-1-dir").fill(t, len(names), func(i int) string { return names[i] })
	file := write(t, "padlock.yaml", fmt.Sprintf(`
listen: {https: [%q], http: [%q]}
storage: %q
handshakes: {show: "off"}
access_log: {format: "off"}
certificates:
  issuers: [{directory: "https://127.0.0.1:1/dir"}]
sites: [{hosts: [%s]}]
`, https, plainHTTP, storage, strings.Join(names, ", ")))
	p, took := startTimed(t, file, https, names[499])
	begin := time.Now()
	for _, name := range names {
		if state, err := see(https, name, nil); err != nil || state.PeerCertificates[0].DNSNames[0] != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Logf("500 names: %.0f ms to the first handshake of the last, %.0f ms for one of each after it; %d MiB", ms(took), ms(time.Since(begin)), resident(t, p.pid)>>20)
}
