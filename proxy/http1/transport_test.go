package http1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"padlock/proxy/message"
	"padlock/proxy/park"
)

// answering is a backend that sends the same response to whatever head comes.
func answering(t testing.TB, response string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buffer, response := make([]byte, 4096), []byte(response)
				for {
					if _, err := c.Read(buffer); err != nil {
						return
					}
					if _, err := c.Write(response); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

func transport(t testing.TB, address string) *Transport {
	tr := NewTransport(TransportOptions{Network: "tcp", Address: address, Connect: 5 * time.Second, ResponseHeader: 5 * time.Second})
	t.Cleanup(tr.Close)
	return tr
}

type noInterim struct{}

func (noInterim) Interim(int, message.Fields) error { return nil }

// A request that finds its connection, is answered and gives it back costs no allocation: neither the parser nor the pool has one.
func TestARoundTripAllocatesNothing(t *testing.T) {
	tr := transport(t, answering(t, "HTTP/1.1 200 OK\r\nServer: test\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"))
	var ctx message.Context
	request := &message.Request{Method: "GET", Target: "/a?b", Host: "localhost", Fields: message.Fields{{Name: "Accept", Value: "*/*"}, {Name: "User-Agent", Value: "test"}}}
	room := make([]byte, 1024)
	once := func() {
		response, err := tr.RoundTrip(&ctx, request, noInterim{})
		if err != nil {
			t.Fatal(err)
		}
		n, err := response.Body.Read(room)
		if string(room[:n]) != "hello" || err != nil && !errors.Is(err, io.EOF) {
			t.Fatalf("%q, %v", room[:n], err)
		}
		response.Body.Close()
	}
	once()
	if allocated := testing.AllocsPerRun(200, once); allocated > 0.1 { // the poller's own, now and then
		t.Errorf("%v allocations", allocated)
	}
}

// So does a request on a connection of a client.
func TestServingAllocatesNothing(t *testing.T) {
	server, client := net.Pipe()
	s := NewServer(ServerOptions{
		Header: time.Minute, Idle: time.Minute, Stall: time.Minute, Head: 8 << 10, Log: slog.New(slog.DiscardHandler),
		Handler: handler(func(_ *message.Context, _ *message.Request, w message.Writer) {
			_ = w.Head(200, nil, 5)
			copy(w.Room(), "hello")
			_, _ = w.Write(w.Room()[:5])
		}),
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.ServeConn(&piped{Conn: server})
	}()
	head := []byte("GET /a?b HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nAccept-Encoding: gzip\r\nUser-Agent: test\r\nConnection: keep-alive\r\n\r\n")
	buffer := make([]byte, 1024)
	once := func() {
		if _, err := client.Write(head); err != nil {
			t.Fatal(err)
		}
		for n := 0; n == 0 || !bytes.HasSuffix(buffer[:n], []byte("hello")); {
			m, err := client.Read(buffer[n:])
			if err != nil {
				t.Fatal(err)
			}
			n += m
		}
	}
	once()
	if allocated := testing.AllocsPerRun(200, once); allocated > 0.1 {
		t.Errorf("%v allocations", allocated)
	}
	client.Close()
	<-ended
}

// piped takes no deadlines: net.Pipe's allocate.
type piped struct {
	net.Conn
	facts message.Conn
}

func (p *piped) Facts() *message.Conn             { return &p.facts }
func (p *piped) Cork()                            {}
func (p *piped) Uncork() error                    { return nil }
func (p *piped) SetReadDeadline(time.Time) error  { return nil }
func (p *piped) SetWriteDeadline(time.Time) error { return nil }

// Idle connections give all back but themselves, serve again when they are spoken to, and end with their time or with the server.
func TestIdleConnectionsAreParked(t *testing.T) {
	lot, err := park.New()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("nothing is parked on this system")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer lot.Close()
	s := NewServer(ServerOptions{
		Handler: handler(echo), Header: 5 * time.Second, Idle: 4 * time.Second, Stall: 5 * time.Second, Head: 8 << 10, Log: slog.New(slog.DiscardHandler), Park: lot,
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.ServeConn(&plain{TCPConn: c.(*net.TCPConn)})
		}
	}()
	connect := func() (net.Conn, *bufio.Reader) {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c, bufio.NewReader(c)
	}
	parked := func(n int) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); lot.Parked() != n; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d are parked, not %d", lot.Parked(), n)
			}
		}
	}
	c, r := connect()
	for range 2 {
		_, _ = io.WriteString(c, "GET /one HTTP/1.1\r\nHost: a\r\n\r\nGET /two HTTP/1.1\r\nHost: a\r\n\r\n")
		for _, want := range []string{"GET /one ", "GET /two "} {
			if _, body, _ := answer(t, r, "GET"); body != want {
				t.Fatalf("got %q", body)
			}
		}
		parked(1)
	}
	began := time.Now()
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) || time.Since(began) > 8*time.Second {
		t.Errorf("an idle connection ended with %v after %s", err, time.Since(began))
	}
	gone, r := connect()
	_, _ = io.WriteString(gone, "GET /one HTTP/1.1\r\nHost: a\r\n\r\n")
	answer(t, r, "GET")
	parked(1)
	gone.Close()
	parked(0)
	last, r := connect()
	_, _ = io.WriteString(last, "GET /one HTTP/1.1\r\nHost: a\r\n\r\n")
	answer(t, r, "GET")
	parked(1)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error("Shutdown:", err)
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Error("a parked connection outlives Shutdown:", err)
	}
}
