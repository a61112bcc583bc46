package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"padlock/config"
	"padlock/proxy"
)

// A client that has connected before the listeners close gets an answer to its first request, however late in its handshake it is.
func TestNewConnectionsAreAnsweredAtTheEnd(t *testing.T) {
	t.Parallel()
	e := start(t, backend(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "answer") }), func(c *config.Config) {
		c.Timeouts.Shutdown = time.Minute
	})
	closed := make(chan struct{})

	answers := map[string]func() outcome{}
	for _, protocol := range []string{"http/1.1", "h2"} {
		for phase, pause := range map[string]<-chan struct{}{"connected": nil, "in its handshake": closed} {
			connection, greeted := e.begin(t, protocol, pause)
			<-greeted
			answers[protocol+", "+phase] = func() outcome { return firstAnswer(protocol, <-connection) }
		}
	}
	three := e.dialHTTP3(t) // complete: closing the listener of QUIC ends other handshakes
	answers["h3, connected"] = func() outcome {
		return overHTTP3(t, three, frameHTTP3(nil, frameHeaders, fieldSection(plainGet)))
	}

	stopped := make(chan error, 1)
	go func() { stopped <- e.stop() }()
	untilRefused(t, e.address)
	time.Sleep(100 * time.Millisecond) // the fronts have been told
	close(closed)

	for who, ask := range answers {
		if got := ask(); got.status != "200" || got.body != "answer" || got.reset {
			t.Errorf("%s: %+v", who, got)
		}
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// Connections that ask for nothing hold the end up for as long as a first request may be on its way, and no longer.
func TestUnusedConnectionsDoNotHoldTheEndUp(t *testing.T) {
	t.Parallel()
	e := start(t, backend(t, func(http.ResponseWriter, *http.Request) {}), func(c *config.Config) { c.Timeouts.Shutdown = 5 * time.Minute })
	for _, protocol := range []string{"http/1.1", "h2"} {
		for range 3 {
			connection, _ := e.begin(t, protocol, nil)
			go func() { _, _ = io.Copy(io.Discard, <-connection) }()
		}
	}
	began := time.Now()
	if err := e.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("the end took %v", took)
	}
}

// Where another process has taken over and the end is hurried a moment later, requests over all protocols have timeouts.shutdown from then on, and
// no longer, although HTTP/3 has a time of its own after a handover.
func TestTheEndOfAHandoverIsHurried(t *testing.T) {
	t.Parallel()
	const limit = time.Second
	arrived := make(chan struct{}, 3)
	e := start(t, backend(t, func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
	}), func(c *config.Config) { c.Timeouts.Shutdown = limit })
	for _, client := range e.clients(t) {
		go func() {
			if response, err := client.Get("https://localhost/"); err == nil {
				response.Body.Close()
			}
		}()
	}
	stream, err := e.dialHTTP3(t).OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = stream.Write(frameHTTP3(nil, frameHeaders, fieldSection(plainGet)))
	_ = stream.Close()
	for range cap(arrived) {
		<-arrived
	}

	patience, hurry := context.WithCancel(t.Context())
	released := make(chan struct{})
	e.server.HandOver(patience, func() { close(released) })
	stopped := make(chan error, 1)
	go func() { stopped <- e.stop() }()
	untilRefused(t, e.address)
	began := time.Now()
	hurry()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	took := time.Since(began)
	if took < limit {
		t.Errorf("open requests had %v", took)
	}
	if took > limit+1500*time.Millisecond { // as it was, 3 s came before
		t.Errorf("the end took %v", took)
	}
	<-released
}

// While another process takes over, a connection of plain HTTP ends with its next request too, and not before: the request may be on its way.
func TestAPlainConnectionEndsWithItsNextRequest(t *testing.T) {
	t.Parallel()
	e := startFile(t, "sites: [{hosts: [localhost], http: serve, routes: [{respond: {body: answer}}]}]")
	conn, err := net.Dial("tcp", e.plain)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	ask := func(closes bool) {
		t.Helper()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		response, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := io.ReadAll(response.Body); string(body) != "answer" || response.Close != closes {
			t.Errorf("%q, and the connection ends: %v", body, response.Close)
		}
	}
	ask(false)

	e.server.HandOver(t.Context(), func() {})
	stopped := make(chan error, 1)
	go func() { stopped <- e.stop() }()
	untilRefused(t, e.plain)
	// It was closed when handshakes that were on their way had had their second.
	_ = conn.SetReadDeadline(time.Now().Add(3 * time.Second))
	if _, err := r.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection has not waited for its next request: %v", err)
	}
	ask(true)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// Whoever reloads when the end comes is told so, and everything is let go of once.
func TestReloadsAtTheEnd(t *testing.T) {
	target := backend(t, func(http.ResponseWriter, *http.Request) {})
	for round := range 8 {
		e := start(t, target, nil)
		var reloads sync.WaitGroup
		for _, next := range []*config.Config{longer(t, e.config, "/1"), longer(t, e.config, "/2")} {
			reloads.Go(func() {
				err := e.server.Reload(next, nil)
				for err == nil {
					err = e.server.Reload(next, nil)
				}
				if !errors.Is(err, proxy.ErrEnded) {
					t.Error(err)
				}
			})
		}
		time.Sleep(time.Duration(round) * time.Millisecond)
		if err := e.stop(); err != nil {
			t.Error(err)
		}
		reloads.Wait() // the end does not, and what they have built goes with them
		if left := e.server.Traffic().Targets; len(left) != 0 {
			t.Errorf("targets that nobody has let go of: %+v", left)
		}
	}
}

// longer is a configuration with one more route.
func longer(t *testing.T, c *config.Config, path string) *config.Config {
	t.Helper()
	next := *c
	next.Sites = slices.Clone(c.Sites)
	first := c.Sites[0].Routes[0]
	next.Sites[0].Routes = []config.Route{first, {Path: path, Upstream: config.Upstream{To: slices.Clone(first.To)}}}
	if err := next.Validate(); err != nil {
		t.Fatal(err)
	}
	return &next
}

// begin connects a client. Where pause is given, the end of the handshake waits for it; greeted is closed when the server has said its part.
func (e *edge) begin(t *testing.T, protocol string, pause <-chan struct{}) (connection <-chan *tls.Conn, greeted <-chan struct{}) {
	t.Helper()
	raw, err := net.Dial("tcp", e.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	config := e.tls()
	config.NextProtos = []string{protocol}
	heard, done := make(chan struct{}), make(chan *tls.Conn, 1)
	conn := tls.Client(&hesitant{Conn: raw, heard: heard, pause: pause}, config)
	handshake := func() {
		if err := conn.Handshake(); err != nil {
			t.Errorf("%s: %v", protocol, err)
		}
		done <- conn
	}
	if pause == nil {
		handshake()
	} else {
		go handshake()
	}
	return done, heard
}

// hesitant is a client's connection that says no more than its hello until pause ends.
type hesitant struct {
	net.Conn
	heard  chan struct{}
	read   atomic.Bool
	writes int
	pause  <-chan struct{}
}

func (h *hesitant) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	if !h.read.Swap(true) {
		close(h.heard)
	}
	return n, err
}

func (h *hesitant) Write(p []byte) (int, error) {
	if h.writes++; h.writes > 1 && h.pause != nil {
		<-h.pause
	}
	return h.Conn.Write(p)
}

// firstAnswer is that to a request on a new connection. The client is none that goes away as soon as it is told to, before its request.
func firstAnswer(protocol string, conn net.Conn) (o outcome) {
	if protocol == "h2" {
		return overHTTP2(conn, forged{fields: plainGet})
	}
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return outcome{reset: true}
	}
	body, err := io.ReadAll(response.Body)
	return outcome{status: strconv.Itoa(response.StatusCode), body: string(body), reset: err != nil}
}

// untilRefused waits until no connection is accepted any more.
func untilRefused(t *testing.T, address string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return
		}
		conn.Close()
		if time.Now().After(deadline) {
			t.Fatal("new connections are still accepted")
		}
	}
}
