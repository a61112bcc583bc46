//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/quic-go/quic-go/http3"

	"padlock/internal/servicetest"
)

var (
	soakTime = flag.Duration("soak", 15*time.Second, "how long TestSoak lasts")
	soakRace = flag.Bool("soak-race", true, "TestSoak with the race detector")
)

// Mixed traffic for as long as -soak says: HTTP/1.1, 2 and 3, WebSockets and TCP; clients that break off, reloads, and certificates of two
// minutes that are renewed all the time. No innocent request fails, and nothing is left when it is over.
func TestSoak(t *testing.T) {
	works(t)
	ca := startCA(t, servicetest.PebbleOptions{Lifetime: 2 * time.Minute})
	s := &soak{t: t, tcp: tcpEchoes(t)}
	file := filepath.Join(t.TempDir(), "padlock.yaml")
	target := echoes(t)
	configure := func(n int) {
		text := fmt.Sprintf(`
listen: {https: ["127.0.0.1:%d"], http: ["127.0.0.1:%d"]}
admin: 127.0.0.1:0
storage: %s
access_log: {format: "off"}
handshakes: {show: failures, format: line}
timeouts: {idle: 5s}
certificates:
  issuers: [{directory: %q, root: %q}]
  dns: {resolvers: [%q]}
sites:
  - hosts: [app.example.com]
    routes: [{to: [%q]}, {path: /version-%d, respond: {status: 200}}]
  - {hosts: [tcp.localhost], tcp: {to: %q}}
`, ca.TLS, ca.HTTP, filepath.Dir(file), ca.URL, ca.Root, ca.DNS, target, n, s.tcp)
		replaceFile(t, file, text)
	}
	configure(0)
	path := plain
	if *soakRace {
		path = binary
	}
	p := &padlock{home: t.TempDir(), storage: filepath.Dir(file)}
	p.run(t, program(path, p.home, "run", "--config", file))
	ca.issued(t, "app.example.com", nil)
	s.roots = ca.roots()
	pem, err := os.ReadFile(p.root(t))
	if err != nil || !s.roots.AppendCertsFromPEM(pem) {
		t.Fatal(err)
	}
	s.address = net.JoinHostPort("127.0.0.1", strconv.Itoa(ca.TLS))
	before := s.sample(p)
	ctx, cancel := context.WithTimeout(context.Background(), *soakTime)
	defer cancel()
	s.everybody(ctx)
	var samples []sample
	reloads := 0
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			samples = append(samples, s.sample(p))
			reloads++
			configure(reloads)
			if err := syscall.Kill(p.pid, syscall.SIGHUP); err != nil {
				t.Fatalf("padlock has ended: %v", err)
			}
		}
	}
	s.all.Wait()
	orders := ca.orders()
	t.Logf("%d requests, %d messages, %d TCP exchanges, %d clients that broke off, %d reloads, %d certificates", s.requests.Load(), s.messages.Load(), s.exchanges.Load(), s.aborted.Load(), reloads, orders)
	if *soakTime > 4*time.Minute && orders < int(soakTime.Minutes()/2) {
		t.Errorf("only %d certificates: the renewals stopped", orders)
	}
	s.report(samples)
	if !*long { // idle connections to targets end after 90 seconds, or with a reload that leaves their target out
		target = echoes(t)
		configure(reloads + 1)
		if err := syscall.Kill(p.pid, syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	eventuallyIn(t, 3*time.Minute, func() error { // those of clients end after five seconds
		now := s.sample(p)
		if now.goroutines > before.goroutines+64+15 || // 64 wait for the next connections, with the stacks that those need
			now.descriptors > before.descriptors+10 {
			return fmt.Errorf("left over: at the start %+v, now %+v", before, now)
		}
		return nil
	})
	t.Logf("at the start %+v, at the end %+v", before, s.sample(p))
	for _, bad := range []string{"panic", "DATA RACE", "level=ERROR"} {
		if text := p.stderr.wait(t); strings.Contains(text, bad) {
			t.Errorf("%s in the log:\n%.4000s", bad, text[strings.Index(text, bad):])
		}
	}
}

func eventuallyIn(t *testing.T, limit time.Duration, try func() error) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(200 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Error(err)
			return
		}
	}
}

// tcpEchoes is a service that sends back what it gets.
func tcpEchoes(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn); conn.Close() }()
		}
	}()
	return l.Addr().String()
}

type soak struct {
	t                                      *testing.T
	address, tcp                           string
	roots                                  *x509.CertPool
	all                                    sync.WaitGroup
	requests, messages, exchanges, aborted atomic.Int64
	failures                               atomic.Int64
}

// fail tells the first of the failures in full.
func (s *soak) fail(format string, args ...any) {
	if s.failures.Add(1) < 20 {
		s.t.Errorf(time.Now().Format(time.TimeOnly)+" "+format, args...)
	}
}

func (s *soak) everybody(ctx context.Context) {
	for i := range 3 {
		s.all.Go(func() { s.client(ctx, fmt.Sprint("HTTP/1.1 ", i), s.transport(false, false)) })
		s.all.Go(func() { s.client(ctx, fmt.Sprint("HTTP/2 ", i), s.transport(true, false)) })
	}
	s.all.Go(func() { s.client(ctx, "new connections", s.transport(false, true)) })
	s.all.Go(func() {
		three := &http3.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots, ServerName: "app.example.com", NextProtos: []string{"h3"}}}
		defer three.Close()
		s.client(ctx, "HTTP/3", three)
	})
	for i := range 2 {
		s.all.Go(func() { s.chats(ctx, i) })
		s.all.Go(func() { s.streams(ctx, i) })
	}
	s.all.Go(func() { s.breakers(ctx) })
}

func (s *soak) tls(name string) *tls.Config { return &tls.Config{RootCAs: s.roots, ServerName: name} }

func (s *soak) transport(two, fresh bool) *http.Transport {
	return &http.Transport{
		TLSClientConfig: s.tls("app.example.com"), ForceAttemptHTTP2: two, DisableKeepAlives: fresh,
		IdleConnTimeout: 2 * time.Second, // before padlock's own
	}
}

// content of 0 to 128 KiB, mostly little.
func content() []byte {
	b := make([]byte, mathrand.IntN(1<<mathrand.IntN(18)))
	_, _ = rand.Read(b)
	return b
}

func (s *soak) client(ctx context.Context, who string, transport http.RoundTripper) {
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	for n := 0; ctx.Err() == nil; n++ {
		sent := content()
		request, _ := http.NewRequest("POST", "https://"+s.address+"/", bytes.NewReader(sent))
		request.Host = "app.example.com"
		response, err := client.Do(request)
		if err != nil {
			s.fail("%s: request %d: %v", who, n, err)
			continue
		}
		got, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != 200 || !bytes.Equal(got, sent) {
			s.fail("%s: request %d: %d bytes came back of %d, %d, %v", who, n, len(got), len(sent), response.StatusCode, err)
		}
		s.requests.Add(1)
		rest(ctx, 20)
	}
	if closer, ok := transport.(*http.Transport); ok {
		closer.CloseIdleConnections()
	}
}

// rest waits for some milliseconds, so that the machine is busy and not choked.
func rest(ctx context.Context, most int) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Duration(mathrand.IntN(most)) * time.Millisecond):
	}
}

// chats opens one WebSocket after another, each for some messages.
func (s *soak) chats(ctx context.Context, i int) {
	client := &http.Client{Transport: s.transport(false, true)}
	for n := 0; ctx.Err() == nil; n++ {
		limited, cancel := context.WithTimeout(context.Background(), time.Minute)
		conn, _, err := websocket.Dial(limited, "https://"+s.address+"/chat", &websocket.DialOptions{HTTPClient: client, Host: "app.example.com"})
		if err != nil {
			s.fail("WebSocket %d of client %d: %v", n, i, err)
			cancel()
			continue
		}
		for range 20 {
			sent := content()[:0]
			sent = fmt.Append(sent, i, n, time.Now())
			err := conn.Write(limited, websocket.MessageText, sent)
			var got []byte
			if err == nil {
				_, got, err = conn.Read(limited)
			}
			if err != nil || !bytes.Equal(got, sent) {
				s.fail("WebSocket %d of client %d: %q, %v", n, i, got, err)
				break
			}
			s.messages.Add(1)
			rest(ctx, 50)
		}
		_ = conn.Close(websocket.StatusNormalClosure, "")
		cancel()
	}
}

// streams opens one connection of TCP after another; the end of what is sent is passed on, and so is the end of what comes back.
func (s *soak) streams(ctx context.Context, i int) {
	for n := 0; ctx.Err() == nil; n++ {
		conn, err := tls.Dial("tcp", s.address, s.tls("tcp.localhost"))
		if err != nil {
			s.fail("connection %d of client %d: %v", n, i, err)
			continue
		}
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		sent := content()
		go func() { _, _ = conn.Write(sent); _ = conn.CloseWrite() }()
		if got, err := io.ReadAll(conn); err != nil || !bytes.Equal(got, sent) {
			s.fail("connection %d of client %d: %d bytes of %d, %v", n, i, len(got), len(sent), err)
		}
		conn.Close()
		s.exchanges.Add(1)
		rest(ctx, 50)
	}
}

// breakers break off: in a hello, after a handshake, in a request, in an answer, in a WebSocket, in a stream.
func (s *soak) breakers(ctx context.Context) {
	two := s.transport(true, false)
	defer two.CloseIdleConnections()
	for n := 0; ctx.Err() == nil; n++ {
		switch n % 6 {
		case 0:
			if conn, err := net.Dial("tcp", s.address); err == nil {
				_, _ = conn.Write([]byte{22, 3, 1, 2, 0, 1, 0})
				reset(conn)
			}
		case 1, 2, 3:
			name := "app.example.com"
			if n%6 == 3 {
				name = "tcp.localhost"
			}
			conn, err := tls.Dial("tcp", s.address, s.tls(name))
			if err != nil {
				break
			}
			if n%6 > 1 {
				fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 100000\r\n\r\nabc")
			}
			reset(conn.NetConn())
		default:
			limited, cancel := context.WithTimeout(ctx, time.Duration(mathrand.IntN(5000))*time.Microsecond)
			var transport http.RoundTripper = two
			if n%6 == 5 {
				transport = s.transport(false, true)
			}
			request, _ := http.NewRequestWithContext(limited, "POST", "https://"+s.address+"/", bytes.NewReader(make([]byte, 100_000)))
			request.Host = "app.example.com"
			if response, err := transport.RoundTrip(request); err == nil {
				_, _ = response.Body.Read(make([]byte, 10))
				response.Body.Close()
			}
			cancel()
		}
		s.aborted.Add(1)
		rest(ctx, 50)
	}
}

// reset closes with RST.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}

// sample is what padlock holds at a moment.
type sample struct{ goroutines, descriptors, heapKiB, residentKiB int }

func (s *soak) sample(p *padlock) sample {
	s.t.Helper()
	response, err := http.Get(p.admin + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	value := func(name string) int {
		_, rest, _ := strings.Cut(string(text), "\n"+name+" ")
		line, _, _ := strings.Cut(rest, "\n")
		v, err := strconv.ParseFloat(line, 64)
		if err != nil {
			s.t.Fatalf("%s: %v", name, err)
		}
		return int(v)
	}
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid))
	if err != nil {
		s.t.Fatal(err)
	}
	return sample{value("go_goroutines"), len(open), value("go_memstats_heap_alloc_bytes") >> 10, value("process_resident_memory_bytes") >> 10}
}

// report tells how what is held has changed: the means of the second and of the last quarter, by which time everything has been seen once.
func (s *soak) report(samples []sample) {
	if len(samples) < 8 {
		return
	}
	quarter := len(samples) / 4
	mean := func(of []sample) (m sample) {
		for _, x := range of {
			m.goroutines, m.descriptors, m.heapKiB, m.residentKiB = m.goroutines+x.goroutines, m.descriptors+x.descriptors, m.heapKiB+x.heapKiB, m.residentKiB+x.residentKiB
		}
		n := len(of)
		return sample{m.goroutines / n, m.descriptors / n, m.heapKiB / n, m.residentKiB / n}
	}
	early, late := mean(samples[quarter:2*quarter]), mean(samples[len(samples)-quarter:])
	hours := (time.Duration(len(samples)*5) * time.Second).Hours() * 5 / 8 // between the middles of the two quarters
	s.t.Logf("in the second quarter %+v, in the last %+v", early, late)
	s.t.Logf("an hour: %+.1f goroutines, %+.1f descriptors, %+.0f KiB of heap, %+.0f KiB resident", float64(late.goroutines-early.goroutines)/hours,
		float64(late.descriptors-early.descriptors)/hours, float64(late.heapKiB-early.heapKiB)/hours, float64(late.residentKiB-early.residentKiB)/hours)
	grows := late.residentKiB > early.residentKiB*11/10+8<<10
	if *soakRace { // the detector keeps more and more for itself
		grows = late.heapKiB > early.heapKiB*11/10+8<<10
	}
	if *soakTime >= 10*time.Minute && (late.goroutines > early.goroutines+20 || late.descriptors > early.descriptors+20 || grows) {
		s.t.Error("what padlock holds grows")
	}
}
