package proxy_test

//lint:file-ignore SA1019 a client speaks x/net/http2.

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"

	"padlock/config"
	"padlock/internal/servicetest"
	"padlock/proxy"
)

// A client that has connected before the listeners close gets an answer to its first request, however late in its handshake it is.
func TestNewConnectionsAreAnsweredAtTheEnd(t *testing.T) {
	t.Parallel()
	e := start(t, backend(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "answer") }), func(c *config.Config) {
		c.Timeouts.Shutdown = time.Minute
	})
	closed := make(chan struct{})

	answers := map[string]func() (*http.Response, error){}
	for _, protocol := range []string{"http/1.1", "h2"} {
		for phase, pause := range map[string]<-chan struct{}{"connected": nil, "in its handshake": closed} {
			connection, greeted := e.begin(t, protocol, pause)
			<-greeted
			answers[protocol+", "+phase] = func() (*http.Response, error) { return ask(protocol, connection) }
		}
	}
	// Closing the listener of QUIC ends handshakes that are not complete.
	config := e.tls()
	config.NextProtos = []string{"h3"}
	three, err := quic.DialAddr(t.Context(), e.address, config, servicetest.Patient(nil))
	if err != nil {
		t.Fatal(err)
	}
	transport := &http3.Transport{Dial: func(context.Context, string, *tls.Config, *quic.Config) (*quic.Conn, error) { return three, nil }}
	defer transport.Close()
	answers["h3, connected"] = func() (*http.Response, error) { return firstAnswer(transport) }

	stopped := make(chan error, 1)
	go func() { stopped <- e.stop() }()
	untilRefused(t, e.address)
	time.Sleep(100 * time.Millisecond) // the fronts have been told
	close(closed)

	for who, ask := range answers {
		response, err := ask()
		if err != nil {
			t.Errorf("%s: %v", who, err)
			continue
		}
		if body, err := io.ReadAll(response.Body); err != nil || string(body) != "answer" {
			t.Errorf("%s: %q, %v", who, body, err)
		}
		response.Body.Close()
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
		if left := e.server.Traffic().Targets; len(left) != 0 {
			t.Errorf("targets that nobody has let go of: %+v", left)
		}
		reloads.Wait()
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

// ask sends a request on a connection.
func ask(protocol string, connection <-chan *tls.Conn) (*http.Response, error) {
	dial := func(context.Context, string, string) (net.Conn, error) { return <-connection, nil }
	if protocol == "h2" {
		return firstAnswer(&http2.Transport{DialTLSContext: func(ctx context.Context, network, address string, _ *tls.Config) (net.Conn, error) {
			return dial(ctx, network, address)
		}})
	}
	return firstAnswer(&http.Transport{DialTLSContext: dial})
}

func firstAnswer(by http.RoundTripper) (*http.Response, error) {
	request, err := http.NewRequest("GET", "https://localhost/", nil)
	if err != nil {
		return nil, err
	}
	return by.RoundTrip(request)
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
