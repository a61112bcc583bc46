package http2

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"padlock/proxy/message"
)

// A target that takes no streams costs no connections: those that are of no use end at once.
func TestConnectionsThatTakeNoStreamsEnd(t *testing.T) {
	var mu sync.Mutex
	open := 0
	tr := target(t, []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 0}}, func(p *peer) {
		mu.Lock()
		open++
		mu.Unlock()
		for {
			f := p.next()
			if f == nil {
				break
			}
			if head, ok := f.(*http2.MetaHeadersFrame); ok {
				_ = p.WriteRSTStream(head.StreamID, http2.ErrCodeRefusedStream)
			}
		}
		mu.Lock()
		open--
		mu.Unlock()
	})
	for range 10 {
		if got := ask(tr, getting("/")); !strings.Contains(got, ErrUnprocessed.Error()) {
			t.Error(got)
		}
	}
	for limit := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		mu.Lock()
		n := open
		mu.Unlock()
		if n == 0 && connections(tr) == 0 {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("%d connections are open", n)
		}
	}
}

// A silent stream of gRPC lasts: servers of gRPC take repeated PINGs for abuse.
func TestServersOfGRPCAreNotAskedTooOften(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, status := grpc.NewServer(), health.NewServer()
	grpc_health_v1.RegisterHealthServer(server, status)
	go func() { _ = server.Serve(l) }()
	defer server.Stop()
	tr := NewTransport(TransportOptions{Address: l.Addr().String(), Connect: 5 * time.Second, ResponseHeader: 5 * time.Second})

	r := posting("/grpc.health.v1.Health/Watch", whole(string(make([]byte, 5))), 5)
	r.Fields = message.Fields{{Name: "Content-Type", Value: "application/grpc"}, {Name: "TE", Value: "trailers"}}
	response, err := tr.RoundTrip(new(message.Context), r, &interims{})
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	for n := range 3 {
		var head [5]byte
		if _, err := io.ReadFull(response.Body, head[:]); err != nil {
			t.Fatalf("message %d: %v", n, err)
		}
		if _, err := io.CopyN(io.Discard, response.Body, int64(binary.BigEndian.Uint32(head[1:]))); err != nil {
			t.Fatal(err)
		}
		b := tr.backends[0]
		for range 5 {
			b.mu.Lock()
			b.seen, b.quiet = b.came, b.quiet.Add(-time.Minute)
			b.mu.Unlock()
			b.tick()
			for waits := true; waits; time.Sleep(time.Millisecond) {
				b.mu.Lock()
				waits = !b.ping.IsZero() && b.err == nil
				b.mu.Unlock()
			}
		}
		status.SetServingStatus("", []grpc_health_v1.HealthCheckResponse_ServingStatus{grpc_health_v1.HealthCheckResponse_NOT_SERVING, grpc_health_v1.HealthCheckResponse_SERVING}[n%2])
	}
}

// Replies that are written do not count as ones that wait, however busy the connection is.
func TestRepliesToATargetThatReadsAreNotCountedTogether(t *testing.T) {
	tr := NewTransport(TransportOptions{ResponseHeader: time.Minute})
	b := newBackend(tr, &script{}, 0, firstStreams)
	for n := range 3 * maxReplies {
		b.mu.Lock()
		b.rounds++ // as the writer does that finds more to write each time
		b.out = b.out[:0]
		b.mu.Unlock()
		if err := b.onPing(&http2.PingFrame{}); err != nil {
			t.Fatalf("PING %d: %v", n, err)
		}
	}
}

// The sender of content ends with its request, also where it waits for a target that reads nothing.
func TestSendersDoNotWaitForATargetThatReadsNothing(t *testing.T) {
	held := make(chan struct{})
	defer close(held)
	tr := target(t, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1}}, func(p *peer) {
		_ = p.WriteWindowUpdate(0, 1<<30)
		<-held
	})
	body := whole(strings.Repeat("x", 64<<20))
	var ctx message.Context
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if response, err := tr.RoundTrip(&ctx, posting("/", body, -1), &interims{}); err == nil {
			response.Body.Close()
		}
	}()
	for before, again := int64(-1), 0; again < 10; time.Sleep(10 * time.Millisecond) {
		if now := body.Received(); now != before || now == 0 {
			before, again = now, 0
		} else {
			again++
		}
	}
	ctx.Cancel()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("the sender still waits")
	}
}

// Padding that nobody reads is given back, or it would use up a stream's window.
func TestPaddingIsGivenBack(t *testing.T) {
	tr := target(t, nil, func(p *peer) {
		id, _ := p.request()
		p.head(id, false, ":status: 200")
		window := unread
		for n := 0; n < 4*unread/256; n++ {
			for window < 256 {
				f, err := p.ReadFrame()
				if err != nil {
					return
				}
				if update, ok := f.(*http2.WindowUpdateFrame); ok && update.StreamID == id {
					window += int(update.Increment)
				}
			}
			_ = p.WriteDataPadded(id, false, nil, make([]byte, 255))
			window -= 256
		}
		_ = p.WriteData(id, true, []byte("end"))
		p.next()
	})
	if got := ask(tr, getting("/")); got != "200 end []" {
		t.Error(got)
	}
}

// gated is a connection whose writes wait, on which a target says text when it is told to.
type gated struct {
	script
	writes  chan struct{} // closed: they need not wait
	wrote   chan struct{} // one has begun
	fault   chan struct{} // closed: the rest of what is said comes
	first   bool
	mu      sync.Mutex
	written []byte
}

func (g *gated) Read(p []byte) (int, error) {
	if g.first {
		<-g.fault
	}
	g.first = true
	// SETTINGS alone, and then its parts.
	return g.script.Read(p[:min(len(p), 9)])
}

func (g *gated) Write(p []byte) (int, error) {
	select {
	case g.wrote <- struct{}{}:
	default:
	}
	<-g.writes
	g.mu.Lock()
	defer g.mu.Unlock()
	g.written = append(g.written, p...)
	return len(p), nil
}

// A request that goes out again, as nothing of it has left, does not leave with the GOAWAY of its connection.
func TestWhatHasNotLeftDoesNotLeaveLater(t *testing.T) {
	g := &gated{writes: make(chan struct{}), wrote: make(chan struct{}, 1), fault: make(chan struct{})}
	g.text = bytes.NewReader(frames(func(f *http2.Framer) {
		_ = f.WriteSettings()
		_ = f.WriteWindowUpdate(0, 1<<31-1)
	}))
	b := newBackend(NewTransport(TransportOptions{ResponseHeader: time.Minute}), g, 1, firstStreams)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.serve()
	}()
	<-g.wrote
	r := posting("/once", whole("content"), 7)
	x, err := b.start(new(message.Context), &upload{r: r, head: appendRequest(nil, r, schemeHTTP, "")})
	if err != nil {
		t.Fatal(err)
	}
	close(g.fault)
	_, err = x.answer(&interims{})
	close(g.writes)
	<-ended
	if !errors.Is(err, ErrUnprocessed) || bytes.Contains(g.written, []byte("/once")) {
		t.Errorf("%v, and the target got %q", err, g.written)
	}
}

// Clients that leave while a target is dialled leave nothing behind: the last takes the attempt with it.
func TestDiallingEndsWithTheLastWhoWaits(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var open sync.WaitGroup
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			// It says nothing, so the handshake lasts until we give up.
			open.Go(func() {
				_, _ = io.Copy(io.Discard, conn)
				conn.Close()
			})
		}
	}()
	tr := NewTransport(TransportOptions{Address: l.Addr().String(), TLS: &tls.Config{ServerName: "localhost"}, Connect: time.Minute})
	for range 20 {
		var contexts [5]message.Context
		var asking sync.WaitGroup
		for n := range contexts {
			asking.Go(func() {
				if _, err := tr.RoundTrip(&contexts[n], getting("/"), &interims{}); err == nil {
					t.Error("there is an answer")
				}
			})
			time.AfterFunc(time.Duration(n)*time.Millisecond, contexts[n].Cancel)
		}
		asking.Wait()
	}
	l.Close()
	<-accepting
	open.Wait()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.dialing != nil {
		t.Error("the target is still dialled")
	}
}
