package proxy_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"padlock/certs/localca"
	"padlock/config"
	"padlock/proxy"
)

// from dials from an address of loopback.
func from(t *testing.T, address, to string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: 10 * time.Second}
	c, err := d.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// One address that takes every connection there may be, and uses each, does not keep others out, by any protocol; what others have, it
// does not push out.
func TestOneAddressDoesNotTakeEveryConnection(t *testing.T) {
	e := start(t, backend(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }), func(c *config.Config) {
		c.Limits.Connections = 40
	})
	held := tls.Client(from(t, "127.0.0.4", e.address), e.tls())
	if err := held.Handshake(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var flood sync.WaitGroup
	defer flood.Wait()
	defer cancel()
	uploading := make(chan struct{}, 1000)
	for range 60 {
		flood.Go(func() {
			for ctx.Err() == nil {
				upload(ctx, e, "127.0.0.2", uploading)
			}
		})
	}
	for range 39 {
		<-uploading
	}

	for name, client := range e.coming(t, "127.0.0.3") {
		client.Timeout = 8 * time.Second
		began := time.Now()
		response, err := client.Get("https://localhost/")
		if err != nil {
			t.Errorf("%s: %v after %s", name, err, time.Since(began))
			continue
		}
		response.Body.Close()
		t.Logf("%s: served after %s", name, time.Since(began))
	}
	_ = held.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = io.WriteString(held, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if _, err := held.Read(make([]byte, 1)); err != nil {
		t.Errorf("a connection of somebody else was pushed out: %v", err)
	}
}

// upload sends content, bit by bit, until the connection ends.
func upload(ctx context.Context, e *edge, address string, begun chan<- struct{}) {
	d := tls.Dialer{Config: e.tls(), NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}}
	c, err := d.DialContext(ctx, "tcp", e.address)
	if err != nil {
		time.Sleep(50 * time.Millisecond)
		return
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	_, err = io.WriteString(c, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
	select {
	case begun <- struct{}{}:
	default:
	}
	for err == nil && ctx.Err() == nil {
		_, err = io.WriteString(c, "bit by bit")
		time.Sleep(100 * time.Millisecond)
	}
}

// One address that opens connections and says nothing, again and again, holds up nobody else's handshake, nor anybody's plain request.
func TestOneAddressDoesNotTakeEveryHandshake(t *testing.T) {
	e := start(t, backend(t, func(http.ResponseWriter, *http.Request) {}), func(c *config.Config) {
		c.Limits.Handshakes, c.Timeouts.Handshake, c.Timeouts.Header = 10, time.Minute, time.Minute
	})
	for _, address := range []string{e.address, e.plain} {
		var silent []net.Conn
		for range 100 {
			silent = append(silent, from(t, "127.0.0.2", address))
		}
		began := time.Now()
		if address == e.address {
			for name, client := range e.coming(t, "127.0.0.3") {
				client.Timeout = 10 * time.Second
				response, err := client.Get("https://localhost/")
				if err != nil {
					t.Errorf("%s: %v", name, err)
					continue
				}
				response.Body.Close()
			}
		} else {
			c := from(t, "127.0.0.3", address)
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Errorf("plain HTTP: %v", err)
			}
		}
		if took := time.Since(began); took > 20*time.Second { // those who are silent may be so for a minute
			t.Errorf("others are served after %s", took)
		}
		for _, c := range silent {
			c.Close()
		}
	}
}

// stuck is a log that takes nothing.
type stuck struct{}

func (stuck) Write([]byte) (int, error) { select {} }

// Whatever is open, Serve ends within timeouts.shutdown: connections that are idle, or have just begun, or upload, or are tunnels, by
// every protocol, clients that read nothing, and a log that nobody reads.
func TestServeEndsInTimeWhateverIsOpen(t *testing.T) {
	const patience = time.Second
	arrived := make(chan struct{}, 100)
	e := startWith(t, backend(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		switch r.URL.Path {
		case "/idle":
		case "/tunnel":
			c, _, _ := http.NewResponseController(w).Hijack()
			defer c.Close()
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
			_, _ = io.Copy(io.Discard, c)
		case "/large":
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		default:
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}
	}), func(c *config.Config) { c.Timeouts.Shutdown = patience }, func(_ *localca.CA, d *proxy.Dependencies) { d.AccessLog = stuck{} })

	_ = from(t, "127.0.0.1", e.address) // says nothing
	half := from(t, "127.0.0.1", e.plain)
	_, _ = io.WriteString(half, "GET / HTTP/1.1\r\nHo")
	hello := from(t, "127.0.0.1", e.address)
	_, _ = hello.Write([]byte{22, 3, 1, 2})

	ctx, cancel := context.WithCancel(t.Context())
	var open sync.WaitGroup
	defer open.Wait()
	defer cancel()
	for name, client := range e.coming(t, "127.0.0.1") {
		response, err := client.Get("https://localhost/idle")
		if err != nil {
			t.Fatal(name, err)
		}
		response.Body.Close()
		<-arrived
		for _, path := range []string{"/upload", "/wait", "/large"} {
			reader, writer := io.Pipe()
			context.AfterFunc(ctx, func() { writer.Close() }) // or net/http waits for it
			method, content := "GET", io.Reader(nil)
			if path == "/upload" {
				method, content = "POST", reader
				go func() { _, _ = writer.Write([]byte("some")) }()
			}
			request, _ := http.NewRequestWithContext(ctx, method, "https://localhost"+path, content)
			open.Go(func() {
				response, err := client.Do(request)
				if err == nil {
					<-ctx.Done() // reads nothing
					response.Body.Close()
				}
				writer.Close()
				reader.Close()
			})
			select {
			case <-arrived:
			case <-time.After(10 * time.Second):
				t.Fatal(name, path, "has not arrived")
			}
		}
	}
	socket := tls.Client(from(t, "127.0.0.1", e.address), e.tls())
	fmt.Fprint(socket, "GET /tunnel HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	<-arrived

	began := time.Now()
	ended := make(chan error, 1)
	go func() { ended <- e.stop() }()
	select {
	case <-ended:
		if took := time.Since(began); took > patience+8*time.Second { // as a slow machine is; it is said to be over after 30
			t.Errorf("Serve ends after %s", took)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("Serve does not end")
	}
}
