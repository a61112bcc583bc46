package http1

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"padlock/internal/servicetest"
	"padlock/proxy/message"
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

// While an answer is waited for, which may take long, a head is held by the request alone, and not by what has sent it.
func TestAHeadThatWasSentIsNotKept(t *testing.T) {
	const requests, size = 50, 60 << 10
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var came atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(io.Discard, c)
				c.Close()
			}()
			came.Add(1)
		}
	}()

	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what is pooled goes with the second
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	tr := NewTransport(TransportOptions{Network: "tcp", Address: l.Addr().String(), Connect: time.Hour, ResponseHeader: time.Hour})
	defer tr.Close()
	fields := message.Fields{{Name: "X-Long", Value: strings.Repeat("x", size)}} // of which all have one
	before := heap()
	var all sync.WaitGroup
	contexts := make([]message.Context, requests)
	for i := range contexts {
		all.Go(func() {
			r := &message.Request{Method: "GET", Host: "test", Target: "/", Proto: "HTTP/1.1", Fields: fields}
			if _, err := tr.RoundTrip(&contexts[i], r, noInterim{}); err == nil {
				t.Error("it was answered")
			}
		})
	}
	defer all.Wait()
	defer func() {
		for i := range contexts {
			contexts[i].Cancel()
		}
	}()

	servicetest.Until(t, func() error {
		if n := came.Load(); n < requests {
			return fmt.Errorf("%d connections", n)
		}
		if each := (heap() - before) / requests; each > responseBuffer+size/2 {
			return fmt.Errorf("%d bytes are held of each request", each)
		}
		return nil
	})
}

// A request that finds its connection, is answered and gives it back allocates what outlives it, and no more.
func TestARoundTripAllocatesLittle(t *testing.T) {
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
	if allocated := testing.AllocsPerRun(200, once); allocated > 4 {
		t.Errorf("%v allocations", allocated)
	}
}

// So does a request on a connection of a client.
func TestServingAllocatesLittle(t *testing.T) {
	server, client := net.Pipe()
	s := NewServer(ServerOptions{
		Header: time.Minute, Idle: time.Minute, BodyIdle: time.Minute, Head: 8 << 10, Log: slog.New(slog.DiscardHandler),
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
	if allocated := testing.AllocsPerRun(200, once); allocated > 4 {
		t.Errorf("%v allocations", allocated)
	}
	client.Close()
	<-ended
}

// piped takes no deadlines but those that end a read at once, which a slow machine needs: net.Pipe's allocate.
type piped struct {
	net.Conn
	facts message.Conn
	ended bool
}

func (p *piped) Facts() *message.Conn             { return &p.facts }
func (p *piped) Cork()                            {}
func (p *piped) Uncork() error                    { return nil }
func (p *piped) SetWriteDeadline(time.Time) error { return nil }

func (p *piped) SetReadDeadline(at time.Time) error {
	ends := at.Equal(time.Unix(1, 0))
	if !ends && !p.ended {
		return nil
	}
	p.ended = ends
	return p.Conn.SetReadDeadline(at)
}
