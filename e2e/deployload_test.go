//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"padlock/internal/servicetest"
)

var deployRate = flag.Int("deploy-rate", 0, "requests a second during the deploys of TestDeploysUnderLoadFailNoRequest; 0: 100, or 1,000 in its long form")

// appRelease is a version of an app. It ends for good when a deploy says that nothing needs it any more.
type appRelease struct {
	*httptest.Server
	name string
	sick atomic.Bool
	open atomic.Int64 // requests, those for its health and WebSockets not among them
	kill func()       // ends it and all that is open
}

// newRelease starts one.
func newRelease(t *testing.T, name string) *appRelease {
	v := &appRelease{name: name}
	ended, end := context.WithCancel(context.Background())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /up", func(w http.ResponseWriter, _ *http.Request) {
		if v.sick.Load() {
			w.WriteHeader(500)
		}
	})
	mux.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		v.open.Add(1)
		defer v.open.Add(-1)
		body, err := io.ReadAll(r.Body)
		if err == nil {
			_, _ = w.Write(body)
		}
	})
	mux.HandleFunc("POST /upload", func(w http.ResponseWriter, r *http.Request) {
		v.open.Add(1)
		defer v.open.Add(-1)
		sum := sha256.New()
		if _, err := io.Copy(sum, r.Body); err == nil {
			_, _ = io.WriteString(w, hex.EncodeToString(sum.Sum(nil)))
		}
	})
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) {
		v.open.Add(1)
		defer v.open.Add(-1)
		w.Header().Set("Content-Type", "text/event-stream")
		for n := range streamEvents {
			fmt.Fprintf(w, "data: %d\n\n", n)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-time.After(50 * time.Millisecond): // so that a stream lasts as long as a few of the deploy's steps
			case <-r.Context().Done():
				return
			}
		}
		_, _ = io.WriteString(w, "data: end\n\n")
	})
	mux.HandleFunc("GET /chat", func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		for {
			kind, data, err := conn.Read(ended)
			if err != nil || conn.Write(ended, kind, data) != nil {
				return
			}
		}
	})
	v.Server = httptest.NewServer(mux)
	v.kill = sync.OnceFunc(func() {
		end()
		v.CloseClientConnections()
		v.Close()
	})
	t.Cleanup(v.kill)
	return v
}

const streamEvents = 20

// deployCrowd is the clients of a site while deploys replace its app.
type deployCrowd struct {
	t       *testing.T
	address string
	roots   *x509.CertPool

	ctx    context.Context
	leave  context.CancelFunc
	all    sync.WaitGroup
	failed atomic.Int64

	mu   sync.Mutex
	done map[string]int // by what was done
}

func (c *deployCrowd) did(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done[what]++
}

func (c *deployCrowd) fail(format string, args ...any) {
	if c.failed.Add(1) < 20 {
		c.t.Errorf(time.Now().Format("15:04:05.000 ")+format, args...)
	}
}

// numbers are what was done so far.
func (c *deployCrowd) numbers() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for what, n := range c.done {
		all = append(all, fmt.Sprintf("%d %s", n, what))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func (c *deployCrowd) requests() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done["HTTP/1.1"] + c.done["HTTP/2.0"] + c.done["HTTP/3.0"]
}

var errNoQUIC = errors.New("no connection of QUIC")

// quicOrTCP asks by HTTP/3 where a connection can be made, and by TCP else, as browsers do.
type quicOrTCP struct {
	three *http3.Transport
	tcp   http.RoundTripper
}

func (c *deployCrowd) tls() *tls.Config { return &tls.Config{RootCAs: c.roots} }

func (c *deployCrowd) transport(two bool) *http.Transport {
	h := &http.Transport{TLSClientConfig: c.tls(), ForceAttemptHTTP2: two, DisableCompression: true, MaxIdleConnsPerHost: 64}
	c.t.Cleanup(h.CloseIdleConnections)
	return h
}

func (c *deployCrowd) quicOrTCP() *quicOrTCP {
	three := &http3.Transport{DisableCompression: true, TLSClientConfig: c.tls()}
	three.Dial = func(ctx context.Context, address string, t *tls.Config, q *quic.Config) (*quic.Conn, error) {
		conn, err := quic.DialAddr(ctx, address, t, q)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNoQUIC, err)
		}
		return conn, nil
	}
	c.t.Cleanup(func() { three.Close() })
	return &quicOrTCP{three, c.transport(true)}
}

// RoundTrip implements http.RoundTripper.
func (h *quicOrTCP) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := h.three.RoundTrip(r)
	if errors.Is(err, errNoQUIC) {
		return h.tcp.RoundTrip(r)
	}
	return response, err
}

// asks sends requests, one each interval at most.
func (c *deployCrowd) asks(name string, over http.RoundTripper, again bool, interval time.Duration) {
	client := &http.Client{Transport: over, Timeout: 60 * time.Second}
	next := time.Now()
	for n := 0; c.ctx.Err() == nil; n++ {
		sent := fmt.Sprint(name, " ", n, strings.Repeat(".", n%500))
		request, _ := http.NewRequest("POST", c.address+"/", strings.NewReader(sent))
		if !again {
			// By HTTP/1.1 the transport must not send it again, so that what is lost is seen. By HTTP/2 and 3 it does so only with
			// what was certainly not processed (RFC 9113 section 8.7, RFC 9114 section 4.1.1).
			request.GetBody = nil
		}
		response, err := client.Do(request)
		if err != nil {
			c.fail("%s %d: %v", name, n, err)
			continue
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != 200 || string(body) != sent {
			c.fail("%s %d: %v %s %.200q", name, n, err, response.Status, body)
			continue
		}
		c.did(response.Proto)
		// A client that is late does not catch up: the rate is what the machine takes.
		if next = next.Add(interval); time.Until(next) < -time.Second {
			next = time.Now()
		}
		time.Sleep(time.Until(next))
	}
}

// uploads sends content that takes as long as some steps of a deploy. again says whether the client may send it anew where it
// was certainly not processed, as asks does.
func (c *deployCrowd) uploads(name string, over http.RoundTripper, again bool) {
	const pieces = 20
	client := &http.Client{Transport: over, Timeout: 60 * time.Second}
	piece := []byte(strings.Repeat(name+" ", 1000))
	sum := sha256.Sum256(bytes.Repeat(piece, pieces))
	content := func() (io.ReadCloser, error) {
		reader, writer := io.Pipe()
		go func() {
			for range pieces {
				if _, err := writer.Write(piece); err != nil {
					return
				}
				time.Sleep(25 * time.Millisecond)
			}
			writer.Close()
		}()
		return reader, nil
	}
	for n := 0; c.ctx.Err() == nil; n++ {
		body, _ := content()
		request, _ := http.NewRequest("POST", c.address+"/upload", body)
		if again {
			request.GetBody = content
		}
		response, err := client.Do(request)
		if err != nil {
			c.fail("upload %s %d: %v", name, n, err)
			continue
		}
		answer, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != 200 || string(answer) != hex.EncodeToString(sum[:]) {
			c.fail("upload %s %d: %v %s %.200q", name, n, err, response.Status, answer)
			continue
		}
		c.did("uploads")
	}
}

// follows reads streams of events.
func (c *deployCrowd) follows(name string, over http.RoundTripper) {
	var want strings.Builder
	for n := range streamEvents {
		fmt.Fprintf(&want, "data: %d\n\n", n)
	}
	want.WriteString("data: end\n\n")
	client := &http.Client{Transport: over, Timeout: 60 * time.Second}
	for n := 0; c.ctx.Err() == nil; n++ {
		response, err := client.Get(c.address + "/events")
		if err != nil {
			c.fail("events %s %d: %v", name, n, err)
			continue
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != 200 || string(body) != want.String() {
			c.fail("events %s %d: %v %s %.200q", name, n, err, response.Status, body)
			continue
		}
		c.did("event streams")
	}
}

// chats has a WebSocket, and a new one when padlock closes it with the status that says why. Each lasts for a number of
// messages; 0: as long as it may.
func (c *deployCrowd) chats(name string, messages int) {
	client := &http.Client{Transport: c.transport(false)}
	for n := 0; c.ctx.Err() == nil; n++ {
		if err := c.chat(client, name, messages); err != nil {
			c.fail("WebSocket %s %d: %v", name, n, err)
		}
	}
}

func (c *deployCrowd) chat(client *http.Client, name string, messages int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, c.address+"/chat", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		return err
	}
	defer conn.CloseNow()

	for n := 0; c.ctx.Err() == nil && (messages == 0 || n < messages); n++ {
		limited, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		sent := fmt.Sprint(name, " ", n)
		err := conn.Write(limited, websocket.MessageText, []byte(sent))
		var got []byte
		// A Write that fails may have met the Close that the other side has sent, which Read has then.
		_, got, failed := conn.Read(limited)
		cancel()
		switch {
		case websocket.CloseStatus(failed) == websocket.StatusGoingAway:
			c.did("WebSockets that were closed with 1001")
			return nil
		case err != nil || failed != nil || string(got) != sent:
			return fmt.Errorf("message %d: %q %w", n, got, errors.Join(err, failed))
		}
		c.did("messages")
		time.Sleep(50 * time.Millisecond)
	}
	c.did("WebSockets")
	return conn.Close(websocket.StatusNormalClosure, "")
}

// come has all clients begin. Half of the WebSockets last for a number of messages; 0: as long as they may.
func (c *deployCrowd) come(rate, each, messages int) {
	interval := time.Duration(3*each) * time.Second / time.Duration(rate)
	for i := range each {
		one, two, three := c.transport(false), c.transport(true), c.quicOrTCP()
		c.all.Go(func() { c.asks(fmt.Sprint("HTTP/1.1 ", i), one, false, interval) })
		c.all.Go(func() { c.asks(fmt.Sprint("HTTP/2 ", i), two, true, interval) })
		c.all.Go(func() { c.asks(fmt.Sprint("HTTP/3 ", i), three, true, interval) })
		if i > 1 {
			continue
		}
		c.all.Go(func() { c.uploads(fmt.Sprint("HTTP/1.1 ", i), one, false) })
		c.all.Go(func() { c.uploads(fmt.Sprint("HTTP/2 ", i), two, true) })
		c.all.Go(func() { c.uploads(fmt.Sprint("HTTP/3 ", i), three, true) })
		c.all.Go(func() { c.follows(fmt.Sprint("HTTP/1.1 ", i), one) })
		c.all.Go(func() { c.follows(fmt.Sprint("HTTP/2 ", i), two) })
		c.all.Go(func() { c.follows(fmt.Sprint("HTTP/3 ", i), three) })
		c.all.Go(func() { c.chats(fmt.Sprint("long ", i), messages) })
		c.all.Go(func() { c.chats(fmt.Sprint("short ", i), 10) })
	}
}

// busy waits until the clients have had some answers more.
func (c *deployCrowd) busy(t *testing.T) {
	t.Helper()
	before := c.requests()
	eventually(t, func() (string, error) {
		if n := c.requests() - before; n < 100 {
			return "", fmt.Errorf("only %d requests were answered", n)
		}
		return "", nil
	})
}

// Deploys follow each other under load by HTTP/1.1, 2 and 3, with uploads, event streams and WebSockets, and each old version
// ends for good when its deploy has. Between them are reloads, restarts, and versions that are sick before the switch or after
// it: no request fails, and WebSockets are closed with the status that says why, if at all.
func TestDeploysUnderLoadFailNoRequest(t *testing.T) {
	works(t)
	deploys, rate, each, path := 4, 100, 4, binary
	// Longer than anything takes that is to end by itself; WebSockets of the long form last until they are closed.
	handover, drain, messages := 20*time.Second, 30*time.Second, 40
	if *long {
		deploys, rate, each, path = 10, 1000, 16, plain
		handover, drain, messages = 8*time.Second, 15*time.Second, 0
	}
	if *deployRate > 0 {
		rate = *deployRate
	}

	current := newRelease(t, "0")
	home, dir, port := t.TempDir(), t.TempDir(), servicetest.FreePort(t)
	replaceFile(t, filepath.Join(dir, "padlock.yaml"), fmt.Sprintf(`
listen: {https: ["127.0.0.1:%d"], http: []}
access_log: {format: "off"}
handshakes: {show: "off"}
timeouts: {handover: %s}
sites: [{hosts: [localhost], routes: [{to: %q}]}]
`, port, handover, current.URL))
	p := &padlock{home: home, storage: filepath.Join(home, ".local", "share", "padlock")}
	run := program(path, home, "run", "--config", "padlock.yaml")
	run.Dir = dir
	p.run(t, run)

	c := &deployCrowd{t: t, address: fmt.Sprintf("https://localhost:%d", port), roots: p.roots(t), done: map[string]int{}}
	c.ctx, c.leave = context.WithCancel(context.Background())
	t.Cleanup(func() { c.leave(); c.all.Wait() })
	began := time.Now()
	c.come(rate, each, messages)
	c.busy(t)

	deploy := func(to *appRelease, code int, says string, args ...string) {
		t.Helper()
		cmd := program(path, home, append([]string{"deploy", "localhost", "--to", strings.TrimPrefix(to.URL, "http://"), "--health", "/up", "--drain", drain.String(), "--observe", "500ms"}, args...)...)
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(strings.Join(strings.Fields(string(out)), " "), says) {
			t.Errorf("the deploy of %s ends with code %d:\n%s", to.name, got, out)
		}
	}
	replace := func(name string, args ...string) {
		t.Helper()
		next := newRelease(t, name)
		deploy(next, 0, "switched from", args...)
		if n := current.open.Load(); n > 0 {
			t.Errorf("after the deploy of %s the version before still has %d requests", name, n)
		}
		current.kill()
		current = next
		c.busy(t)
	}
	restarts := 0
	restart := func() {
		t.Helper()
		pid := p.pid
		if restarts > 0 {
			pid = child(t, p, restarts-2)
		}
		if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		restarts++
	}
	restarted := func() {
		t.Helper()
		next := child(t, p, restarts-2)
		t.Cleanup(func() { end(t, next) })
		// The last that moves. Until then, a signal is lost.
		eventually(t, func() (string, error) {
			p.stderr.mu.Lock()
			defer p.stderr.mu.Unlock()
			if served := strings.Count(p.stderr.text.String(), "HTTP/3 is served"); served < restarts {
				return "", fmt.Errorf("%d of %d restarts serve HTTP/3", served, restarts)
			}
			return "", nil
		})
	}

	for n := 1; n <= deploys && !t.Failed(); n++ {
		name := fmt.Sprint(n)
		switch n {
		case 2: // a reload in the middle, and versions that are sick
			replace(name)
			if out, err := program(path, home, "reload").CombinedOutput(); err != nil {
				t.Errorf("%v %s", err, out)
			}
			sick := newRelease(t, "sick")
			sick.sick.Store(true)
			deploy(sick, 1, "and nothing has changed", "--timeout", "1s")
			sick.sick.Store(false)
			var falls sync.WaitGroup
			falls.Go(func() {
				eventuallyIn(t, time.Minute, func() error {
					if sick.open.Load() == 0 {
						return errors.New("it has no requests")
					}
					return nil
				})
				sick.sick.Store(true)
			})
			deploy(sick, 3, "has the requests again", "--observe", "30s")
			falls.Wait()
			c.busy(t)
		case 3: // a restart between two, so that this one has a padlock before
			restart()
			restarted()
			replace(name)
		case 4, 8: // a restart that waits for the deploy, and a reload during it
			before := strings.Count(p.stderr.wait(t), "switched from")
			var meanwhile sync.WaitGroup
			meanwhile.Go(func() {
				eventuallyIn(t, time.Minute, func() error {
					if strings.Count(p.stderr.wait(t), "switched from") == before {
						return errors.New("no switch")
					}
					return nil
				})
				if out, err := program(path, home, "reload").CombinedOutput(); err != nil {
					t.Errorf("%v %s", err, out)
				}
				restart()
			})
			replace(name)
			meanwhile.Wait()
			restarted()
		case 6:
			replace(name, "--pause")
		default:
			replace(name)
		}
		t.Logf("%s deploy %d: %s", time.Since(began).Round(time.Second), n, c.numbers())
	}

	took := time.Since(began)
	c.leave()
	c.all.Wait()
	t.Logf("%s: %.0f requests a second; %d failed", c.numbers(), float64(c.requests())/took.Seconds(), c.failed.Load())
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0", "HTTP/3.0", "uploads", "event streams", "messages"} {
		if c.done[protocol] == 0 {
			t.Errorf("nothing of %s", protocol)
		}
	}
	for _, bad := range []string{"panic", "DATA RACE", "level=ERROR"} {
		if text := p.stderr.wait(t); strings.Contains(text, bad) {
			t.Errorf("%s in the log:\n%.4000s", bad, text[strings.Index(text, bad):])
		}
	}
}
