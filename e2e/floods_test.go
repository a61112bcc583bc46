//go:build e2e

package e2e

//lint:file-ignore SA1019 the polite speak x/net/http2, as the server under test does.

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"

	"padlock/internal/servicetest"
)

// floodTime is for how long each flood lasts: make floods takes more of it.
var floodTime = flag.Duration("floods", time.Second, "how long each flood lasts")

const (
	flooders     = 8   // connections of a flood, where nothing else is said
	mostGrowth   = 150 // MiB
	mostLatency  = 2   // seconds, of 99 in 100 polite requests
	enoughTaken  = 5   // polite requests that a measurement needs
	floodTimeout = 60 * time.Second
	politeRest   = 60 * time.Millisecond // between handshakes, which are to measure the flood and not to be one
)

// besieged is a padlock with a backend behind it.
type besieged struct {
	*padlock
	address string
	metrics string
	pool    *x509.CertPool
	hanging atomic.Int64 // requests at the backend that do not end by themselves
	most    atomic.Int64
}

// besiege starts one; more is added to its configuration.
func besiege(t *testing.T, more string) *besieged {
	t.Helper()
	b := &besieged{}
	large := make([]byte, 1<<20)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hang":
			n := b.hanging.Add(1)
			defer b.hanging.Add(-1)
			for most := b.most.Load(); n > most && !b.most.CompareAndSwap(most, n); most = b.most.Load() {
			}
			_, _ = io.Copy(io.Discard, r.Body) // net/http only then notices that the client goes
			<-r.Context().Done()
		case "/large":
			for range 64 {
				if _, err := w.Write(large); err != nil {
					return
				}
			}
		default:
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, "hello")
		}
	}))
	t.Cleanup(backend.Close)
	return besiegeTo(t, b, more, backend.URL)
}

// besiegeTo starts one before a target.
func besiegeTo(t *testing.T, b *besieged, more, to string) *besieged {
	t.Helper()
	dir := t.TempDir()
	admin := servicetest.FreePort(t)
	file := write(t, "padlock.yaml", fmt.Sprintf(`
listen: {https: ["127.0.0.1:0"], http: []}
admin: 127.0.0.1:%d
storage: %q
handshakes: {output: %q}
access_log: {output: %q}
%s
sites: [{hosts: [localhost], routes: [{to: %q}]}]
`, admin, filepath.Join(dir, "storage"), filepath.Join(dir, "handshakes"), filepath.Join(dir, "access"), more, to))
	b.padlock = &padlock{home: dir, storage: filepath.Join(dir, "storage")}
	b.run(t, program(plain, dir, "run", "--config", file)) // the race detector takes more memory than any flood
	u, err := url.Parse(b.url)
	if err != nil {
		t.Fatal(err)
	}
	b.address, b.metrics, b.pool = "127.0.0.1:"+u.Port(), fmt.Sprintf("http://127.0.0.1:%d/metrics", admin), b.roots(t)
	return b
}

func (b *besieged) tls(protocol string) *tls.Config {
	return &tls.Config{RootCAs: b.pool, ServerName: "localhost", NextProtos: []string{protocol}}
}

// memory is what the process has in memory, and what it had at most since it was last asked, in KiB.
func (b *besieged) memory(t *testing.T) (now, most int) {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		for name, value := range map[string]*int{"VmRSS:": &now, "VmHWM:": &most} {
			if rest, ok := strings.CutPrefix(line, name); ok {
				*value, _ = strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			}
		}
	}
	if now == 0 || most == 0 {
		t.Fatalf("no memory in\n%s", data)
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", b.pid), []byte("5"), 0); err != nil { // proc(5): the peak begins anew
		t.Fatal(err)
	}
	return now, most
}

// cuts are how often clients were cut, by reason.
func (b *besieged) cuts(t *testing.T) map[string]int {
	t.Helper()
	client := http.Client{Timeout: 20 * time.Second}
	response, err := client.Get(b.metrics)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	cuts := map[string]int{}
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), `padlock_clients_rejected_total{reason="`); ok {
			reason, value, _ := strings.Cut(rest, `"} `)
			if n, _ := strconv.ParseFloat(value, 64); n > 0 {
				cuts[reason] = int(n)
			}
		}
	}
	return cuts
}

// polite are clients that keep to every rule, and what they have met.
type polite struct {
	mu     sync.Mutex
	took   []time.Duration
	failed []string
}

func (p *polite) note(took time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.took = append(p.took, took)
	if err != nil {
		p.failed = append(p.failed, err.Error())
	}
}

func (p *polite) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.took)
}

func (p *polite) quantile(q float64) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	slices.Sort(p.took)
	if len(p.took) == 0 {
		return 0
	}
	return p.took[min(len(p.took)-1, int(q*float64(len(p.took))))]
}

// visit asks again and again until ctx ends: over a connection that stays by HTTP/1.1, and over a new one each time by HTTP/2, and by
// HTTP/3 if that is wanted.
func (b *besieged) visit(ctx context.Context, from string, three bool) *polite {
	p := &polite{}
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	kept := &http.Client{Timeout: floodTimeout, Transport: &http.Transport{
		TLSClientConfig: b.tls("http/1.1"), DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, b.address)
		},
	}}
	ask := func(client *http.Client) {
		began := time.Now()
		response, err := client.Get("https://localhost/")
		if err == nil {
			var content []byte
			content, err = io.ReadAll(response.Body)
			response.Body.Close()
			if err == nil && (response.StatusCode != 200 || string(content) != "hello") {
				err = fmt.Errorf("%s, %q", response.Status, content)
			}
		}
		if ctx.Err() == nil {
			p.note(time.Since(began), err)
		}
	}
	go func() {
		for ; ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
			ask(kept)
		}
		kept.CloseIdleConnections()
	}()
	for range 4 {
		go func() {
			for ; ctx.Err() == nil; time.Sleep(politeRest) {
				fresh := &http2.Transport{TLSClientConfig: b.tls("h2"), DialTLSContext: func(ctx context.Context, network, _ string, c *tls.Config) (net.Conn, error) {
					d := tls.Dialer{NetDialer: dialer, Config: c}
					return d.DialContext(ctx, network, b.address)
				}}
				ask(&http.Client{Timeout: floodTimeout, Transport: fresh})
				fresh.CloseIdleConnections()
			}
		}()
	}
	if three {
		go func() {
			for ; ctx.Err() == nil; time.Sleep(politeRest) {
				fresh := &http3.Transport{TLSClientConfig: b.tls("h3"), Dial: func(ctx context.Context, _ string, c *tls.Config, q *quic.Config) (*quic.Conn, error) {
					return quic.DialAddr(ctx, b.address, c, servicetest.Patient(q))
				}}
				ask(&http.Client{Timeout: floodTimeout, Transport: fresh})
				_ = fresh.Close()
			}
		}()
	}
	return p
}

// flood is something that a client may do to padlock.
type flood struct {
	name   string
	reason string // for which whoever does it is cut; "" for what is borne
	conns  int    // 0: flooders
	three  bool   // the polite speak HTTP/3 too
	config string
	run    func(ctx context.Context, b *besieged) // on one connection, until that is cut or ctx ends
}

// measure floods a padlock of its own, and looks how the polite fare meanwhile. If they wait for too long, it looks again: other tests run
// beside it.
func (f *flood) measure(t *testing.T) {
	for try := 1; ; try++ {
		waited, usual := f.once(t)
		most := max(mostLatency*time.Second, 10*usual)
		if !*long {
			most *= 2 // other tests keep the processors busy
		}
		if waited <= most || t.Failed() {
			return
		}
		t.Logf("try %d: the polite have waited for %s, and for %s before the flood", try, waited, usual)
		if try == 3 {
			t.Fatal("the polite wait for too long, each time")
		}
	}
}

// once returns how long 99 in 100 polite requests took at most, and how long they took when there was no flood yet.
func (f *flood) once(t *testing.T) (waited, usual time.Duration) {
	b := besiege(t, f.config)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	warm, cold := context.WithCancel(ctx)
	first := b.visit(warm, "127.0.0.2", f.three)
	for began := time.Now(); time.Since(began) < 500*time.Millisecond || first.count() < 20 && time.Since(began) < 10*time.Second; {
		time.Sleep(10 * time.Millisecond)
	}
	cold()
	usual = first.quantile(0.99)
	before, _ := b.memory(t)
	during, over := context.WithCancel(ctx)
	defer over()
	guests := b.visit(during, "127.0.0.2", f.three)
	for wait := time.Now().Add(10 * time.Second); guests.quantile(1) == 0; time.Sleep(time.Millisecond) { // they were there first
		if time.Now().After(wait) {
			t.Fatal("the polite were not served, flood or not")
		}
	}
	end := time.Now().Add(*floodTime)
	var all sync.WaitGroup
	var connections atomic.Int64
	conns := f.conns
	if conns == 0 {
		conns = flooders
	}
	for range conns {
		all.Go(func() {
			for during.Err() == nil {
				connections.Add(1)
				f.run(during, b)
				select {
				case <-during.Done():
				case <-time.After(10 * time.Millisecond):
				}
			}
		})
	}
	time.Sleep(time.Until(end)) // as long as the flood lasts
	cuts := b.cuts(t)
	early := func() bool { return f.reason != "" && cuts[f.reason] == 0 || guests.count() < enoughTaken }
	for patience := time.Now().Add(floodTimeout / 2); early() && time.Now().Before(patience); cuts = b.cuts(t) {
		time.Sleep(100 * time.Millisecond) // on a busy machine it takes longer to do what one is cut for, and to answer
	}
	over()
	_, most := b.memory(t)
	all.Wait()
	growth := (most - before) >> 10
	t.Logf("| %s | %d connections, cut: %v | %.0f ms, %.0f ms | %d MiB |", f.name, connections.Load(), cuts,
		float64(guests.quantile(0.5).Microseconds())/1000, float64(guests.quantile(0.99).Microseconds())/1000, growth)
	if waited = guests.quantile(0.99); len(guests.took) < enoughTaken {
		waited = floodTimeout // of which most are still out
	}
	if len(guests.failed) > 0 {
		t.Errorf("the polite were not served: %d times, %s", len(guests.failed), guests.failed[0])
	}
	if growth > mostGrowth {
		t.Errorf("memory has grown by %d MiB", growth)
	}
	if f.reason == "" {
		return waited, usual
	}
	if cuts[f.reason] == 0 {
		t.Fatalf("nobody was cut for %s", f.reason)
	}
	b.stderr.wait(t, "reason="+f.reason+" ") // from where is said too, where one client is meant: TestWhoeverIsCutIsCountedAndTold
	if most := b.most.Load(); most > int64(conns)*100 {
		t.Errorf("%d requests at once reached the backend over %d connections", most, conns)
	}
	return waited, usual
}

func measureAll(t *testing.T, floods []flood) {
	for i := range floods {
		t.Run(floods[i].name, floods[i].measure)
	}
}
