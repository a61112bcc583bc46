//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/http2"

	"padlock/proxy/message"
)

// holding is a way of one client to have padlock hold as much memory as it can, with connections of which each opens all that it may.
type holding struct {
	name  string
	conns int
	most  int // KiB of one connection
	run   func(ctx context.Context, b *besieged)
}

// What one client can hold is bounded for each of its connections, and docs/operations.md says by what: heads of requests that are not
// answered, content that no target reads, answers and WebSockets that nobody reads. What all its connections hold of heads is bounded by
// limits.buffers.
func TestWhatOneClientHolds(t *testing.T) {
	floods(t)
	over := make(chan struct{})
	target := httptest.NewServer(mute(over))
	t.Cleanup(target.Close)
	t.Cleanup(func() { close(over) })
	for _, h := range holdings() {
		t.Run(h.name, func(t *testing.T) {
			b := besiegeTo(t, &besieged{}, "", target.URL)
			ctx, cancel := context.WithCancel(t.Context())
			var all sync.WaitGroup
			defer all.Wait()
			defer cancel()
			before, _ := b.memory(t)
			for range h.conns {
				all.Go(func() { h.run(ctx, b) })
			}

			most := b.settled(t)
			t.Logf("| %s | %d connections | %d MiB | %d KiB |", h.name, h.conns, (most-before)>>10, (most-before)/h.conns)
			if each := (most - before) / h.conns; each > h.most {
				t.Errorf("each of %d connections holds %d KiB, not %d at most", h.conns, each, h.most)
			}
		})
	}
}

// settled is the most memory that the process has had, in KiB, once that has not grown for a while: a client only sees that nothing more is
// taken.
func (b *besieged) settled(t *testing.T) (most int) {
	t.Helper()
	for began, grown := time.Now(), time.Now(); time.Since(began) < 10*time.Second && time.Since(grown) < 2*time.Second; time.Sleep(100 * time.Millisecond) {
		if _, now := b.memory(t); now > most+most/100 {
			most, grown = now, time.Now()
		}
	}
	return most
}

// mute is a target that reads no content, and sends without end.
func mute(over <-chan struct{}) http.HandlerFunc {
	large := make([]byte, 64<<10)
	return func(w http.ResponseWriter, r *http.Request) {
		out := io.Writer(w)
		switch r.URL.Path {
		case "/socket":
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			out = conn
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
				"Sec-WebSocket-Accept: "+message.WebSocketAccept(r.Header.Get("Sec-Websocket-Key"))+"\r\n\r\n")
			_, _ = conn.Write([]byte{fin | opBinary, 127, 0, 0, 1, 0, 0, 0, 0, 0}) // a terabyte
		case "/hang":
			select {
			case <-r.Context().Done():
			case <-over:
			}
			return
		}
		for {
			if _, err := out.Write(large); err != nil {
				return
			}
		}
	}
}

const (
	mostOfOne  = 700      // KiB of a connection of HTTP/1.1
	mostOfMany = 32 << 10 // of one with 100 requests
)

func holdings() []holding {
	h1, h2 := 40, 4
	if *long {
		h1, h2 = 100, 8
	}
	long := strings.Repeat("abcdefghij", 6000)
	head := func(path string, more ...string) string {
		return "GET " + path + " HTTP/1.1\r\nHost: localhost\r\n" + strings.Join(more, "\r\n") + "\r\n\r\n"
	}
	socket := "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + wsKey
	connect := []string{":method=CONNECT", ":protocol=websocket", ":scheme=https", ":authority=localhost", ":path=/socket", "sec-websocket-version=13"}
	request := func(fields ...string) func([]byte, uint32) []byte {
		return func(b []byte, id uint32) []byte {
			return twoHead(b, whole, id, asking("GET", fields[0], fields[1:]...))
		}
	}
	return []holding{
		{"HTTP/1.1: long heads", h1, mostOfOne, oneHolds(head("/hang", "X-Long: "+long))},
		{"HTTP/1.1: content", h1, mostOfOne, oneHolds("POST /hang HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n")},
		{"HTTP/1.1: answers", h1, mostOfOne, oneHolds(strings.Repeat(head("/endless"), 100))},
		{"HTTP/1.1: WebSockets", h1, mostOfOne, oneHolds(head("/socket", socket))},
		{"HTTP/2: long heads", h2, mostOfMany, twoHolds(request("/hang", "x="+long))},
		{"HTTP/2: content", h2, mostOfMany, twoHolds(func(b []byte, id uint32) []byte {
			return frame(twoHead(b, endHeaders, id, asking("POST", "/hang")), http2.FrameData, 0, id, make([]byte, 1<<10)...)
		})},
		{"HTTP/2: answers", h2, mostOfMany, twoHolds(request("/endless"))},
		{"HTTP/2: WebSockets", h2, mostOfMany, twoHolds(func(b []byte, id uint32) []byte {
			return frame(twoHead(b, endHeaders, id, block(connect...)), http2.FrameData, 0, id, make([]byte, 1<<10)...)
		})},
		{"HTTP/3: long heads", h2, mostOfMany, threeHolds(threeAsking("GET", "/hang", "x="+long), false)},
		{"HTTP/3: content", h2, mostOfMany, threeHolds(threeAsking("POST", "/hang"), true)},
		{"HTTP/3: answers", h2, mostOfMany, threeHolds(threeAsking("GET", "/endless"), false)},
		{"HTTP/3: WebSockets", h2, mostOfMany, threeHolds(threeAsking("CONNECT", "/socket", connect[1], connect[5]), true)},
		{"HTTP/2: long heads of many connections", 64, 4 << 10, twoHolds(request("/hang", "x="+long))},
	}
}

// oneHolds sends a text, and then what it is let.
func oneHolds(text string) func(context.Context, *besieged) {
	return func(ctx context.Context, b *besieged) {
		d := tls.Dialer{Config: b.tls("http/1.1")}
		conn, err := d.DialContext(ctx, "tcp", b.address)
		if err != nil {
			return
		}
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
		_, err = io.WriteString(conn, text)
		for more := make([]byte, 16<<10); err == nil && !strings.HasPrefix(text, "GET /hang"); {
			_, err = conn.Write(more)
		}
		<-ctx.Done()
	}
}

// twoHead appends a head in as many frames as it needs.
func twoHead(b []byte, flags http2.Flags, id uint32, block []byte) []byte {
	const most = 16 << 10
	kind := http2.FrameHeaders
	for ; len(block) > most; block = block[most:] {
		b = frame(b, kind, flags&^endHeaders, id, block[:most]...)
		kind, flags = http2.FrameContinuation, endHeaders
	}
	return frame(b, kind, flags, id, block...)
}

// twoHolds opens as many streams as it may, whose answers have no room.
func twoHolds(open func(b []byte, id uint32) []byte) func(context.Context, *besieged) {
	return func(ctx context.Context, b *besieged) {
		d := tls.Dialer{Config: b.tls("h2")}
		conn, err := d.DialContext(ctx, "tcp", b.address)
		if err != nil {
			return
		}
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
		go func() { _, _ = io.Copy(io.Discard, conn) }()
		none := append([]byte{0, byte(http2.SettingInitialWindowSize)}, number(0)...)
		_, err = conn.Write(frame([]byte(http2.ClientPreface), http2.FrameSettings, 0, 0, none...))
		for i := uint32(0); i < 100 && err == nil; i++ {
			_, err = conn.Write(open(nil, 2*i+1))
		}
		<-ctx.Done()
	}
}

// threeHolds opens as many streams as it may, sends content on them if that is wanted, and reads none.
func threeHolds(head []byte, content bool) func(context.Context, *besieged) {
	data := threeFrame(nil, threeData, bytes.Repeat([]byte{'x'}, 16<<10)...)
	return byQUIC(func(ctx context.Context, conn *quic.Conn) {
		var all sync.WaitGroup
		defer all.Wait()
		for range 100 {
			q, err := conn.OpenStreamSync(ctx)
			if err != nil {
				break
			}
			_, err = q.Write(head)
			if !content {
				_ = q.Close()
				continue
			}
			all.Go(func() {
				for err == nil {
					_, err = q.Write(data)
				}
			})
		}
		<-ctx.Done()
		_ = conn.CloseWithError(0x100, "") // which ends what is written
	})
}
