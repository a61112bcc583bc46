//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"padlock/internal/servicetest"
)

// echoes is an application: POST answers with what was sent, /chat with a WebSocket's messages.
func echoes(t *testing.T) string {
	t.Helper()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/chat" {
			body, err := io.ReadAll(r.Body)
			if err == nil {
				_, _ = w.Write(body)
			}
			return
		}
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		for {
			kind, data, err := conn.Read(r.Context())
			if err != nil || conn.Write(r.Context(), kind, data) != nil {
				return
			}
		}
	}))
	t.Cleanup(app.Close)
	return strings.TrimPrefix(app.URL, "http://")
}

// crowd is 64 clients that hardly rest: 28 by HTTP/1.1 and 28 by HTTP/2, each with a connection that it keeps, and eight WebSockets.
type crowd struct {
	requests, connections, messages atomic.Int64
	closed                          atomic.Int64 // WebSockets that ended before they were told to
	ended                           atomic.Int64 // connections that padlock has ended, and not their client

	cancel context.CancelFunc
	all    sync.WaitGroup
}

// kept is a connection of a client that says who has ended it. On a busy machine Go's client ends one now and then itself, where it
// has its answer before it knows that its request is written.
type kept struct {
	net.Conn
	own   atomic.Bool // it was closed here
	ended *atomic.Int64
}

// keeping dials connections, and counts those that end before they are closed.
func keeping(ended *atomic.Int64) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &kept{Conn: conn, ended: ended}, nil
	}
}

func (k *kept) Read(p []byte) (int, error) {
	n, err := k.Conn.Read(p)
	if err != nil && !k.own.Load() {
		k.ended.Add(1)
	}
	return n, err
}

func (k *kept) Close() error {
	k.own.Store(true)
	return k.Conn.Close()
}

func gather(t *testing.T, address string, roots *x509.CertPool) *crowd {
	t.Helper()
	pause := 100 * time.Millisecond // hundreds of requests a second, which leave a processor to other tests
	if *long {
		pause = 5 * time.Millisecond
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &crowd{cancel: cancel}
	t.Cleanup(c.leave)
	for i := range 56 {
		c.all.Go(func() {
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: i%2 == 0}
			transport.TLSClientConfig.VerifyConnection = func(tls.ConnectionState) error { c.connections.Add(1); return nil }
			transport.DialContext = keeping(&c.ended)
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
			for n := 0; ctx.Err() == nil; n++ {
				sent := strings.Repeat(fmt.Sprint(i, " ", n, " "), 100)
				request, _ := http.NewRequest("POST", address+"/", strings.NewReader(sent))
				if i%2 == 1 {
					// By HTTP/1.1 the transport must not send it again, so that what is lost is seen. By HTTP/2 it does so only with
					// what GOAWAY says was never taken (RFC 9113 section 6.8), or what it had not sent yet, and closes the body before.
					request.Body, request.GetBody = io.NopCloser(strings.NewReader(sent)), nil
				}
				response, err := client.Do(request)
				if err != nil {
					t.Errorf("request %d of client %d: %v", n, i, err)
					return
				}
				body, err := io.ReadAll(response.Body)
				response.Body.Close()
				if err != nil || response.StatusCode != 200 || string(body) != sent {
					t.Errorf("request %d of client %d: %v %d, %d bytes", n, i, err, response.StatusCode, len(body))
					return
				}
				c.requests.Add(1)
				time.Sleep(pause) // they outnumber what a machine answers without it
			}
		})
	}
	for i := range 8 {
		c.all.Go(func() { c.chat(t, ctx, i, address, roots) })
	}
	return c
}

func (c *crowd) chat(t *testing.T, ctx context.Context, i int, address string, roots *x509.CertPool) {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	conn, _, err := websocket.Dial(context.Background(), address+"/chat", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.CloseNow()
	for n := 0; ctx.Err() == nil; n++ {
		limited, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		sent := fmt.Sprint(i, " ", n)
		err := conn.Write(limited, websocket.MessageText, []byte(sent))
		var got []byte
		if err == nil {
			_, got, err = conn.Read(limited)
		}
		cancel()
		if err != nil || string(got) != sent {
			t.Errorf("message %d of WebSocket %d: %q, %v", n, i, got, err)
			c.closed.Add(1)
			return
		}
		c.messages.Add(1)
		time.Sleep(50 * time.Millisecond)
	}
}

// busy waits until the clients have had some hundred answers more.
func (c *crowd) busy(t *testing.T) {
	t.Helper()
	before := c.requests.Load()
	eventually(t, func() (string, error) {
		if done := c.requests.Load() - before; done < 500 {
			return "", fmt.Errorf("only %d requests were answered", done)
		}
		return "", nil
	})
}

func (c *crowd) leave() {
	c.cancel()
	c.all.Wait()
}

func (p *padlock) roots(t *testing.T) *x509.CertPool {
	t.Helper()
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(p.root(t))
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		t.Fatal(err)
	}
	return roots
}

// The configuration is read again and again, in the long form each second for a minute, with targets and routes added and removed, under
// 64 connections that are kept: no request fails, no connection is made anew, and no WebSocket is closed.
func TestReloadAfterReloadFailsNoRequest(t *testing.T) {
	works(t)
	targets := []string{echoes(t), echoes(t), echoes(t)}
	dir := t.TempDir()
	file := filepath.Join(dir, "padlock.yaml")
	configure := func(n int) {
		to := []string{targets[n%3]}
		if n%2 == 1 {
			to = append(to, targets[(n+1)%3])
		}
		text := fmt.Sprintf(`
listen: {https: ["127.0.0.1:0"], http: []}
handshakes: {show: "off"}
access_log: {format: "off"}
sites:
  - hosts: [localhost]
    routes:
      - {to: [%s], balance: %s}
      - {path: /extra%d, respond: {body: "%d"}}
`, strings.Join(to, ", "), []string{"round_robin", "least_conn", "random"}[n%3], n, n)
		replaceFile(t, file, text)
	}
	configure(0)
	p := startFile(t, dir)
	roots := p.roots(t)
	crowd := gather(t, p.url, roots)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	reloads, pace := 20, 200*time.Millisecond
	if *long {
		reloads, pace = 60, time.Second
	}
	for n := 1; n <= reloads && !t.Failed(); n++ {
		began := time.Now()
		configure(n)
		if out, err := command(p.home, "reload").CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		response, err := client.Get(fmt.Sprintf("%s/extra%d", p.url, n))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if string(body) != strconv.Itoa(n) {
			t.Errorf("reload %d is not served: %s %s", n, response.Status, body)
		}
		time.Sleep(time.Until(began.Add(pace)))
	}
	crowd.leave()
	t.Logf("%d requests and %d messages by %d connections", crowd.requests.Load(), crowd.messages.Load(), crowd.connections.Load())
	if n := crowd.ended.Load(); n > 0 {
		t.Errorf("padlock has ended %d connections", n)
	}
}

// Another padlock takes over, three times, under the same load: no request fails and no WebSocket is closed, and the one before is gone when
// its last connection is. One that cannot start leaves all as it was.
func TestARestartFailsNoRequest(t *testing.T) {
	works(t)
	home := t.TempDir()
	program := filepath.Join(home, "padlock")
	if err := os.Link(binary, program); err != nil {
		content, err := os.ReadFile(binary)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(program, content, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	dir, port := t.TempDir(), servicetest.FreePort(t)
	file := filepath.Join(dir, "padlock.yaml")
	configure := func(text string) { replaceFile(t, file, text) }
	good := fmt.Sprintf("listen: {https: [\"127.0.0.1:%d\"], http: []}\naccess_log: {format: \"off\"}\nhandshakes: {show: \"off\"}\ntimeouts: {handover: 20s, shutdown: 5s}\nsites: [{hosts: [localhost], routes: [{to: %q}]}]\n", port, echoes(t))
	configure(good)
	p := &padlock{home: home, storage: filepath.Join(home, ".local", "share", "padlock")}
	c := exec.Command(program, "run", "--config", "padlock.yaml")
	c.Dir, c.Env = dir, append(os.Environ(), "HOME="+home, "XDG_DATA_HOME=", "NO_COLOR=1")
	p.run(t, c)
	u, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	p.url = "https://localhost:" + u.Port()
	roots := p.roots(t)
	first := gather(t, p.url, roots)
	first.busy(t)

	current := p.pid
	configure("sites: []\n")
	if err := syscall.Kill(current, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	p.stderr.wait(t, "the new padlock does not serve; this one goes on")
	configure(good)
	var others []int
	for n := range 3 {
		if err := syscall.Kill(current, syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		next := child(t, p, n)
		others = append(others, next)
		t.Cleanup(func() { end(t, next) })
		current = next
		eventually(t, func() (string, error) { // it says so when the one before reads UDP no more; until it serves, a signal is lost
			p.stderr.mu.Lock()
			defer p.stderr.mu.Unlock()
			if served := strings.Count(p.stderr.text.String(), "HTTP/3 is served"); served <= n {
				return "", fmt.Errorf("%d of %d restarts serve HTTP/3", served, n+1)
			}
			return "", nil
		})
		first.busy(t) // with the new one, before the next takes over
	}
	if out, err := command(home, "reload").CombinedOutput(); err != nil {
		t.Errorf("the admin endpoint did not come along: %v %s", err, out)
	}
	first.leave()
	t.Logf("%d requests and %d messages by %d connections", first.requests.Load(), first.messages.Load(), first.connections.Load())
	// The clients have gone, so all but the last padlock go too.
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		alive := 0
		for _, pid := range others {
			if running(pid) {
				alive++
			}
		}
		if alive == 1 && running(current) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %v are still there", alive, others)
		}
	}
	second := gather(t, p.url, roots)
	second.busy(t)
	second.leave()
}

// child waits for the padlock that the nth restart has started.
func child(t *testing.T, p *padlock, n int) int {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		p.stderr.mu.Lock()
		lines := strings.Split(p.stderr.text.String(), "\n")
		p.stderr.mu.Unlock()
		var pids []int
		for _, line := range lines {
			if _, rest, ok := strings.Cut(line, "another padlock takes over"); ok {
				_, text, _ := strings.Cut(rest, "pid=")
				pid, err := strconv.Atoi(strings.TrimSpace(text))
				if err != nil {
					t.Fatal(line)
				}
				pids = append(pids, pid)
			}
		}
		if len(pids) > n+1 { // the first was the one that could not start
			return pids[n+1]
		}
	}
	t.Fatalf("restart %d did not happen:\n%s", n, p.stderr.wait(t))
	return 0
}

func running(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(status), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func end(t *testing.T, pid int) {
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Error(err)
	}
	for deadline := time.Now().Add(30 * time.Second); running(pid); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%d does not end", pid)
			return
		}
	}
}

// What is open in the padlock before is judged as what is open in the one that has taken over: a reload there closes a WebSocket that the new rules do
// not let in, and leaves the others.
func TestAReloadAfterARestartJudgesWhatIsOpenBefore(t *testing.T) {
	works(t)
	dir, port, app := t.TempDir(), servicetest.FreePort(t), echoes(t)
	configure := func(rule string) {
		replaceFile(t, filepath.Join(dir, "padlock.yaml"), fmt.Sprintf("listen: {https: [\"127.0.0.1:%d\"], http: []}\naccess_log: {format: \"off\"}\nhandshakes: {show: \"off\"}\ntimeouts: {handover: 1m, shutdown: 5s}\n"+
			"sites: [{hosts: [localhost], %s routes: [{to: %q}]}, {hosts: [127.0.0.1], routes: [{to: %[3]q}]}]\n", port, rule, app))
	}
	configure("")
	p := startFile(t, dir)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.roots(t)}}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	open := func(host string) *websocket.Conn {
		c, _, err := websocket.Dial(ctx, fmt.Sprintf("wss://%s:%d/chat", host, port), &websocket.DialOptions{HTTPClient: client})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.CloseNow() })
		return c
	}
	refused, kept := open("localhost"), open("127.0.0.1")

	if err := syscall.Kill(p.pid, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	next := child(t, p, -1)
	t.Cleanup(func() { end(t, next) })
	configure("deny: [127.0.0.1],")
	if err := syscall.Kill(next, syscall.SIGHUP); err != nil { // it waits until the new one serves
		t.Fatal(err)
	}
	if _, _, err := refused.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("the WebSocket that is refused now: %v", err)
	}
	err := kept.Write(ctx, websocket.MessageText, []byte("hello"))
	if err == nil {
		_, _, err = kept.Read(ctx)
	}
	if err != nil || !running(p.pid) {
		t.Errorf("the other one: %v, the padlock before runs: %v", err, running(p.pid))
	}
}
