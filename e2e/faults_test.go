//go:build e2e

package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"padlock/internal/servicetest"
)

// between stands between padlock and a CA.
type between struct {
	url, root string

	// Called before a request goes to the CA and before its answer comes back. Both may be nil.
	request func(*http.Request)
	answer  func(*http.Response) error
	mu      sync.Mutex
}

func startBetween(t *testing.T, ca *theCA) *between {
	t.Helper()
	target, err := url.Parse(ca.URL)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	data, err := os.ReadFile(ca.Root)
	if err != nil {
		t.Fatal(err)
	}
	roots.AppendCertsFromPEM(data)
	b := &between{}
	reverse := &httputil.ReverseProxy{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}},
		ErrorLog:  nil,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "https", target.Host
			r.Out.Host = r.In.Host // Pebble's URLs lead back here
		},
		ModifyResponse: func(r *http.Response) error {
			b.mu.Lock()
			hook := b.answer
			b.mu.Unlock()
			if hook == nil {
				return nil
			}
			return hook(r)
		},
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		hook := b.request
		b.mu.Unlock()
		if hook != nil {
			hook(r)
		}
		reverse.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	b.url = server.URL + "/dir"
	b.root = write(t, "between.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	return b
}

func (b *between) set(request func(*http.Request), answer func(*http.Response) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.request, b.answer = request, answer
}

// file is a configuration whose CA is behind it.
func (b *between) file(t *testing.T, ca *theCA, storage, more string) string {
	t.Helper()
	copied := *ca.CA
	service := *ca.Service
	service.URL = b.url
	copied.Service, copied.Root = &service, b.root
	return acmeFile(t, &copied, storage, more, "app.example.com")
}

// padlock is killed at every step of an order: at each request to the CA, before it arrives and before its answer is seen, and at each
// change in the storage. The next start always ends with a certificate, and nothing in the storage is broken.
func TestKilledAtEveryStepOfAnOrder(t *testing.T) {
	besides(t)
	for _, c := range []struct {
		client        string
		worker, every int
	}{{"certmagic", 0, 2}, {"certmagic", 1, 2}, {"autocert", 0, 3}} {
		t.Run(fmt.Sprint(c.client, " ", c.worker), func(t *testing.T) {
			t.Parallel()
			ca := startCA(t, servicetest.PebbleOptions{})
			b := startBetween(t, ca)
			tried := 0
			for step := c.worker; ; step += c.every {
				storage := filepath.Join(t.TempDir(), "storage")
				if !killAt(t, ca, b, storage, b.file(t, ca, storage, "client: "+c.client), step) {
					break
				}
				tried++
			}
			t.Logf("killed at %d steps", tried)
			if tried < 8 {
				t.Errorf("an order has only %d steps?", tried)
			}
		})
	}
}

// killAt reports whether the order came as far as the step.
func killAt(t *testing.T, ca *theCA, b *between, storage, file string, step int) bool {
	t.Helper()
	if err := os.MkdirAll(storage, 0o700); err != nil {
		t.Fatal(err)
	}
	var count atomic.Int64
	reached, over := make(chan struct{}), make(chan struct{})
	at := func() {
		if count.Add(1)-1 == int64(step) {
			close(reached)
		}
		if count.Load() > int64(step) {
			<-over // nothing goes on after the step
		}
	}
	b.set(func(*http.Request) { at() }, func(*http.Response) error { at(); return nil })
	stopWatching := watchTree(t, storage, at)
	p := runPlain(t, file)
	issued := make(chan struct{})
	go func() {
		defer close(issued)
		for {
			select {
			case <-over:
				return
			case <-time.After(50 * time.Millisecond):
			}
			if _, err := see(ca.address(), "app.example.com", nil); err == nil {
				return
			}
		}
	}()
	hit := false
	select {
	case <-reached:
		hit = true
		p.kill()
	case <-issued:
		time.Sleep(300 * time.Millisecond) // for what is written last
		select {
		case <-reached:
			hit = true
		default:
		}
		p.kill()
	case <-time.After(60 * time.Second):
		t.Fatalf("step %d: neither reached nor done:\n%s", step, p.stderr.wait(t))
	}
	close(over)
	stopWatching()
	b.set(nil, nil)

	p = runPlain(t, file)
	leaf := ca.issued(t, "app.example.com", nil)
	p.stop(t)
	x := tool{t, t.TempDir()}
	rows := x.list(file) // each of which is opened with its key
	if len(rows) != 1 || rows[0]["fingerprint_sha256"] != fingerprintOf(leaf) {
		t.Errorf("step %d: served %s, stored %v", step, fingerprintOf(leaf), rows)
	}
	return hit
}

// watchTree calls at for every change below a directory.
func watchTree(t *testing.T, dir string, at func()) (stop func()) {
	t.Helper()
	w, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add(dir); err != nil {
		t.Fatal(err)
	}
	go func() {
		for e := range w.Events {
			if info, err := os.Stat(e.Name); err == nil && info.IsDir() {
				_ = w.Add(e.Name)
			}
			at()
		}
	}()
	return func() { w.Close() }
}

// A value in the storage is damaged, each in turn: the next start sets it aside or makes it anew, and serves a certificate with its key.
func TestAnyDamagedFileOfTheStorageIsMended(t *testing.T) {
	besides(t)
	ca := startCA(t, servicetest.PebbleOptions{})
	storage := filepath.Join(t.TempDir(), "storage")
	file := acmeFile(t, ca.CA, storage, "", "app.example.com")
	p := runPlain(t, file)
	ca.issued(t, "app.example.com", nil)
	p.stop(t)
	sound := snapshot(t, storage)
	for _, name := range slices.Sorted(maps.Keys(sound)) {
		if strings.HasPrefix(name, "localca/") || strings.HasPrefix(name, "locks/") {
			continue // the local CA says what to do about its own
		}
		for _, damage := range []func([]byte) []byte{
			func([]byte) []byte { return nil },
			func(b []byte) []byte { return b[:len(b)/2] },
			func(b []byte) []byte { return bytes.Repeat([]byte{0xff, 0}, len(b)/2) },
		} {
			restore(t, storage, sound)
			if err := os.WriteFile(filepath.Join(storage, name), damage(sound[name]), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Logf("%s damaged", name)
			p := runPlain(t, file)
			ca.issued(t, "app.example.com", nil)
			p.stop(t)
			if strings.HasPrefix(name, "acme/") { // which only an order needs
				tool{t, t.TempDir()}.expects(0, []string{"set aside"}, "renew", "--force", "app.example.com", "--config", file)
			}
			if t.Failed() {
				t.Fatalf("with %s damaged", name)
			}
		}
	}
}

func snapshot(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		files[name], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func restore(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// The storage fills up, and later turns read-only: what is served is served on, the reason and the remedy are told, and once there is room
// again the renewal goes through before the certificate expires. Nothing that was stored is lost.
func TestAFullAndAReadOnlyStorage(t *testing.T) {
	besides(t)
	ca := startCA(t, servicetest.PebbleOptions{Lifetime: 45 * time.Second})
	storage := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=400k,mode=700", "tmpfs", storage).CombinedOutput(); err != nil {
		t.Fatalf("a file system of its own cannot be mounted: %v %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", storage).Run() })
	inContainer := []string{"container=docker"} // what runs containers tells those inside
	p := runFileEnv(t, inContainer, acmeFile(t, ca.CA, storage, "", "app.example.com"))
	first := ca.issued(t, "app.example.com", nil)

	p.stderr.wait(t, "the storage ends with this container") // a file system in memory

	fill(t, storage)
	p.stderr.wait(t, "the storage is full", "free some space")
	if now := ca.issued(t, "app.example.com", nil); !now.Equal(first) {
		t.Error("another certificate is served than the one that is stored")
	}
	if err := os.Remove(filepath.Join(storage, "filler")); err != nil {
		t.Fatal(err)
	}
	second := ca.renewed(t, p, first)

	if out, err := exec.Command("mount", "-o", "remount,ro", storage).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	p.stderr.wait(t, "the storage cannot be written to", "make the storage directory writable")
	if now := ca.issued(t, "app.example.com", nil); !now.Equal(second) {
		t.Error("another certificate is served than the one that is stored")
	}
	if out, err := exec.Command("mount", "-o", "remount,rw", storage).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	ca.renewed(t, p, second)
}

func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "filler"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 4096 {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			return
		}
	}
	t.Fatal("the file system does not fill up")
}

// renewed waits for another certificate; the one before must not expire meanwhile.
func (ca *theCA) renewed(t *testing.T, p *padlock, before *x509.Certificate) *x509.Certificate {
	t.Helper()
	for time.Now().Before(before.NotAfter) {
		if next := ca.issued(t, "app.example.com", nil); !next.Equal(before) {
			return next
		}
		time.Sleep(300 * time.Millisecond) // another look
	}
	t.Fatalf("the certificate was not renewed in time:\n%s", p.stderr.wait(t))
	return nil
}

// The CA is down when padlock starts: it comes back within a minute of the CA's return.
func TestTheCAIsDownAndComesBack(t *testing.T) {
	besides(t)
	ca := startCA(t, servicetest.PebbleOptions{})
	file := acmeFile(t, ca.CA, filepath.Join(t.TempDir(), "storage"), "", "app.example.com")
	ca.Stop()
	p := runFile(t, file)
	p.stderr.wait(t, "the CA cannot be reached", "next_try=")
	time.Sleep(15 * time.Second) // so that the pauses have grown
	ca.Start()
	back := time.Now()
	ca.issuedWithin(t, 60*time.Second, p)
	t.Logf("a certificate %.1f s after the CA came back", time.Since(back).Seconds())
}

func (ca *theCA) issuedWithin(t *testing.T, limit time.Duration, p *padlock) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(200 * time.Millisecond) {
		if _, err := see(ca.address(), "app.example.com", nil); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no certificate after %s:\n%s", limit, p.stderr.wait(t))
		}
	}
}

// The CA's clock and ours differ by two days. A certificate from the future is served, one from the past too; both are told, and
// neither drives padlock to order one after another.
func TestTheClockIsTwoDaysOff(t *testing.T) {
	besides(t)
	for _, c := range []struct {
		name     string
		shift    time.Duration
		lifetime time.Duration
	}{{"ours is slow", 48 * time.Hour, 90 * 24 * time.Hour}, {"ours is fast", -48 * time.Hour, 24 * time.Hour}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ca := startCA(t, servicetest.PebbleOptions{Lifetime: c.lifetime, RSA: true})
			b := startBetween(t, ca)
			b.set(nil, func(r *http.Response) error { return shiftCertificate(ca, r, c.shift) })
			p := runFile(t, b.file(t, ca, filepath.Join(t.TempDir(), "storage"), ""))
			p.stderr.wait(t, "this machine's clock says", "set this machine's clock")
			state, err := see(ca.address(), "app.example.com", nil)
			if err != nil {
				t.Fatal(err)
			}
			if leaf := state.PeerCertificates[0]; leaf.NotBefore.Sub(time.Now().Add(c.shift)).Abs() > time.Hour {
				t.Errorf("valid from %s", leaf.NotBefore)
			}
			time.Sleep(10 * time.Second) // in which one order after another could have been made
			if n := ca.orders(); n > 1 {
				t.Errorf("%d orders in a few seconds", n)
			}
		})
	}
}

// The CA sends a certificate for another key, for another name, or one that has expired: it is refused, what was there before is served
// on and stays in the storage, and once the CA is mended the renewal goes through.
func TestACAThatSendsTheWrongCertificate(t *testing.T) {
	besides(t)
	ca := startCA(t, servicetest.PebbleOptions{Lifetime: 3 * time.Minute, RSA: true})
	b := startBetween(t, ca)
	storage := filepath.Join(t.TempDir(), "storage")
	file := b.file(t, ca, storage, "")
	p := runFile(t, file)
	first := ca.issued(t, "app.example.com", nil)
	x := tool{t, t.TempDir()}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		says   string
		change func(*x509.Certificate)
	}{
		{"private key does not match public key", func(c *x509.Certificate) { c.PublicKey = other.Public() }},
		{"not app.example.com", func(c *x509.Certificate) { c.DNSNames = []string{"www.example.org"} }},
		{"it expired on", func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = c.NotBefore.Add(-time.Hour), c.NotAfter.Add(-time.Hour)
		}},
	} {
		b.set(nil, func(r *http.Response) error { return resign(ca, r, c.change) })
		x.expects(1, []string{"the CA has sent a certificate that cannot be used", c.says, "is served on"}, "renew", "--force", "app.example.com", "--config", file)
		if now := ca.issued(t, "app.example.com", nil); !now.Equal(first) {
			t.Errorf("%s: another certificate is served", c.says)
		}
		if rows := x.list(file); len(rows) != 1 || rows[0]["fingerprint_sha256"] != fingerprintOf(first) {
			t.Errorf("%s: the storage has %v", c.says, rows)
		}
	}
	b.set(nil, nil)
	x.expects(0, []string{"app.example.com: ECDSA"}, "renew", "--force", "app.example.com", "--config", file)
	ca.renewed(t, p, first)
}

// shiftCertificate moves the dates of what Pebble has issued.
func shiftCertificate(ca *theCA, r *http.Response, shift time.Duration) error {
	return resign(ca, r, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = c.NotBefore.Add(shift), c.NotAfter.Add(shift) })
}

// resign changes what Pebble has issued, and signs it again with Pebble's own key.
func resign(ca *theCA, r *http.Response, change func(*x509.Certificate)) error {
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/pem-certificate-chain") {
		return nil
	}
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	block, rest := pem.Decode(data)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	certificate, key := ca.IntermediateKey()
	c, _ := pem.Decode(certificate)
	k, _ := pem.Decode(key)
	parent, err := x509.ParseCertificate(c.Bytes)
	if err != nil {
		return err
	}
	signer, err := privateKey(k.Bytes)
	if err != nil {
		return err
	}
	change(leaf)
	leaf.SerialNumber = new(big.Int).Add(leaf.SerialNumber, big.NewInt(1))
	leaf.SignatureAlgorithm = x509.UnknownSignatureAlgorithm
	der, err := x509.CreateCertificate(rand.Reader, leaf, parent, leaf.PublicKey, signer)
	if err != nil {
		return err
	}
	body := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), rest...)
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	r.Header.Set("Content-Length", fmt.Sprint(len(body)))
	return nil
}

func privateKey(der []byte) (any, error) {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return key, nil
	}
	var key *ecdsa.PrivateKey
	key, err := x509.ParseECPrivateKey(der)
	if err == nil {
		return key, nil
	}
	return x509.ParsePKCS1PrivateKey(der)
}
