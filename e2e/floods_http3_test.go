//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
	"padlock/internal/servicetest"
)

// Frames of HTTP/3 (RFC 9114 section 7.2, RFC 9218 section 7.1), and one that means nothing.
const (
	threeData           = 0
	threeHeaders        = 1
	threeSettings       = 4
	threePriorityUpdate = 0xf0700
	threeNothing        = 0x21
)

func threeFrame(b []byte, kind uint64, content ...byte) []byte {
	b = quicvarint.Append(b, kind)
	return append(quicvarint.Append(b, uint64(len(content))), content...)
}

// threeAsking is a head of "name=value".
func threeAsking(method, path string, more ...string) []byte {
	var fields bytes.Buffer
	coder := qpack.NewEncoder(&fields)
	for _, line := range append([]string{":method=" + method, ":scheme=https", ":authority=localhost", ":path=" + path}, more...) {
		name, value, _ := strings.Cut(line, "=")
		_ = coder.WriteField(qpack.HeaderField{Name: name, Value: value})
	}
	return threeFrame(nil, threeHeaders, fields.Bytes()...)
}

// byQUIC makes a connection, and does something on it until that ends or ctx does.
func byQUIC(do func(ctx context.Context, conn *quic.Conn)) func(context.Context, *besieged) {
	return func(ctx context.Context, b *besieged) {
		within, cancel := context.WithTimeout(ctx, 5*time.Second)
		conn, err := quic.DialAddr(within, b.address, b.tls("h3"), servicetest.Patient(nil))
		cancel()
		if err != nil {
			return
		}
		defer func() { _ = conn.CloseWithError(0x100, "") }()
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		context.AfterFunc(conn.Context(), cancel)
		do(ctx, conn)
	}
}

// threeStreams floods a connection with streams, each of which brings some bytes; reset ones are given up a little later.
func threeStreams(reset bool, text []byte) func(context.Context, *besieged) {
	return byQUIC(func(ctx context.Context, conn *quic.Conn) {
		for {
			q, err := conn.OpenStreamSync(ctx)
			if err != nil {
				return
			}
			_, _ = q.Write(text)
			if reset {
				go func() {
					time.Sleep(time.Millisecond)
					q.CancelWrite(0x10c)
					q.CancelRead(0x10c)
				}()
				continue
			}
			_ = q.Close()
			go func() { _, _ = io.Copy(io.Discard, q) }()
		}
	})
}

// onStream floods one stream.
func onStream(first, next []byte) func(context.Context, *besieged) {
	next = bytes.Repeat(next, max(1, 1000/len(next)))
	return byQUIC(func(ctx context.Context, conn *quic.Conn) {
		q, err := conn.OpenStreamSync(ctx)
		if err != nil {
			return
		}
		stop := context.AfterFunc(ctx, func() { _ = q.SetWriteDeadline(time.Unix(1, 0)) })
		defer stop()
		for _, err = q.Write(first); err == nil; {
			_, err = q.Write(next)
		}
	})
}

// packets floods with datagrams.
func packets(next func(i int) []byte) func(context.Context, *besieged) {
	return func(ctx context.Context, b *besieged) {
		conn, err := net.Dial("udp", b.address)
		if err != nil {
			return
		}
		defer conn.Close()
		for i := 0; ctx.Err() == nil; i++ {
			if _, err := conn.Write(next(i)); err != nil && !errors.Is(err, net.ErrClosed) {
				time.Sleep(time.Millisecond) // told that nobody listened, or that there is no room
			}
		}
	}
}

// deaf is a socket by which nothing is heard.
type deaf struct {
	net.PacketConn
	closed chan struct{}
}

func (d *deaf) ReadFrom([]byte) (int, net.Addr, error) {
	<-d.closed
	return 0, nil, net.ErrClosed
}

// halfHandshakes begins handshakes from a port each, and hears nothing of what comes back.
func halfHandshakes(ctx context.Context, b *besieged) {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return
	}
	d := &deaf{PacketConn: socket, closed: make(chan struct{})}
	transport := &quic.Transport{Conn: d}
	defer func() {
		close(d.closed)
		_ = transport.Close()
		_ = socket.Close()
	}()
	to, err := net.ResolveUDPAddr("udp", b.address)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if conn, err := transport.Dial(ctx, to, b.tls("h3"), nil); err == nil {
		_ = conn.CloseWithError(0x100, "")
	}
}

// Neither packets nor handshakes of QUIC, nor what is known to have brought servers of HTTP/3 down, keep padlock from serving others.
func TestFloodsOfHTTP3(t *testing.T) {
	floods(t)
	get, hang, upload := threeAsking("GET", "/"), threeAsking("GET", "/hang"), threeAsking("POST", "/hang")
	const few = "limits: {resets: 200}" // a slow machine takes longer than a second for a thousand
	garbage := make([]byte, 1200)
	_, _ = rand.Read(garbage)
	unknown := append([]byte{0xc0, 0xfa, 0xfa, 0xfa, 0xfa, 8}, garbage[:1194]...)                             // a version that there is not (RFC 9000 section 17.2.1)
	bomb := threeFrame(nil, threeHeaders, append([]byte{0, 0}, bytes.Repeat([]byte{0xff, 22}, 30_000)...)...) // entry 85 of the static table, ever again
	if !strings.HasPrefix(staticEntry(t, 63+22), "content-security-policy") {
		t.Fatal("another entry")
	}
	measureAll(t, []flood{
		{name: "packets of garbage", three: true, run: packets(func(i int) []byte { return garbage[:20+i%1180] })},
		{name: "versions that there are not", three: true, run: packets(func(int) []byte { return unknown })},
		{name: "handshakes", three: true, conns: 16, run: byQUIC(func(context.Context, *quic.Conn) {})},
		{name: "half handshakes", conns: 64, run: halfHandshakes},
		{name: "requests that are reset", three: true, reason: "resets", config: few, run: threeStreams(true, hang)},
		{name: "streams that are reset", three: true, reason: "resets", config: few, run: threeStreams(true, hang[:5])},
		{name: "malformed requests", three: true, reason: "resets", config: few, run: threeStreams(false, threeAsking("GET", "/", "connection=close"))},
		{name: "heads that are too large", three: true, reason: "resets", config: "limits: {resets: 20}", run: threeStreams(false, threeAsking("GET", "/", "x="+strings.Repeat("y", 70<<10)))},
		{name: "QPACK bomb", three: true, reason: "header_size", run: threeStreams(false, bomb)},
		{name: "heads that do not come", three: true, reason: "slow_header", config: "timeouts: {header: 300ms}", run: byQUIC(func(ctx context.Context, conn *quic.Conn) {
			for {
				q, err := conn.OpenStreamSync(ctx)
				if err != nil {
					return
				}
				_, _ = q.Write(append(quicvarint.Append([]byte{threeHeaders}, 60<<10), garbage...))
			}
		})},
		{name: "frames that mean nothing", three: true, reason: "noop_frames", run: onStream(nil, threeFrame(nil, threeNothing))},
		{name: "empty DATA", three: true, reason: "noop_frames", run: onStream(upload, threeFrame(nil, threeData))},
		{name: "DATA by the byte", three: true, run: onStream(threeAsking("POST", "/"), threeFrame(nil, threeData, 'x'))},
		{name: "priorities", three: true, reason: "noop_frames", run: byQUIC(func(ctx context.Context, conn *quic.Conn) {
			q, err := conn.OpenUniStreamSync(ctx)
			if err != nil {
				return
			}
			updates := bytes.Repeat(threeFrame(nil, threePriorityUpdate, 0, 'u', '=', '1'), 100)
			for _, err = q.Write(threeFrame([]byte{0}, threeSettings)); err == nil; {
				_, err = q.Write(updates)
			}
		})},
		{name: "streams that mean nothing", three: true, reason: "noop_frames", config: "limits: {noop_frames: 100}", run: byQUIC(func(ctx context.Context, conn *quic.Conn) {
			for {
				q, err := conn.OpenUniStreamSync(ctx)
				if err != nil {
					return
				}
				_, _ = q.Write([]byte{threeNothing})
				_ = q.Close()
			}
		})},
		{name: "requests whose answers are not read", three: true, reason: "slow_reader", config: "timeouts: {body_idle: 500ms}", run: byQUIC(func(ctx context.Context, conn *quic.Conn) {
			for range 100 {
				q, err := conn.OpenStreamSync(ctx)
				if err != nil {
					return
				}
				_, _ = q.Write(threeAsking("GET", "/large"))
				_ = q.Close()
			}
			<-ctx.Done()
		})},
		{name: "as many requests as allowed", three: true, run: byQUIC(func(ctx context.Context, conn *quic.Conn) {
			for {
				q, err := conn.OpenStreamSync(ctx)
				if err != nil {
					return
				}
				_, _ = q.Write(hang)
				_ = q.Close()
			}
		})},
		{name: "requests", three: true, run: threeStreams(false, get)},
	})
}

// staticEntry is a name of QPACK's static table.
func staticEntry(t *testing.T, n byte) string {
	t.Helper()
	f, err := qpack.NewDecoder().Decode([]byte{0, 0, 0xff, n - 63})()
	if err != nil {
		t.Fatal(err)
	}
	return f.Name
}
