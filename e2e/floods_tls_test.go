//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// bytesOf floods a connection of TCP with what each number comes to.
func bytesOf(next func(i int) []byte) func(context.Context, *besieged) {
	return func(ctx context.Context, b *besieged) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", b.address)
		if err != nil {
			return
		}
		defer conn.Close()
		pour(ctx, conn, next)
	}
}

// pour writes until the connection is cut or ctx ends.
func pour(ctx context.Context, conn net.Conn, next func(i int) []byte) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = io.Copy(io.Discard, conn)
	}()
	defer func() { conn.Close(); <-gone }()
	for i := 0; ctx.Err() == nil; i++ {
		if _, err := conn.Write(next(i)); err != nil {
			return
		}
		select {
		case <-gone:
			return
		default:
		}
	}
}

// requests floods a connection of HTTP/1.1 with what each number comes to.
func requests(next func(i int) []byte) func(context.Context, *besieged) {
	return func(ctx context.Context, b *besieged) {
		d := tls.Dialer{Config: b.tls("http/1.1")}
		if conn, err := d.DialContext(ctx, "tcp", b.address); err == nil {
			defer conn.Close()
			pour(ctx, conn, next)
		}
	}
}

// records floods a connection of TLS 1.3 with records of our own, after a handshake by crypto/tls.
func records(next func(w *recordWriter) []byte) func(context.Context, *besieged) {
	return func(ctx context.Context, b *besieged) {
		conn, w, err := b.write(ctx, "http/1.1")
		if err != nil {
			return
		}
		defer conn.Close()
		pour(ctx, conn.NetConn(), func(int) []byte { return next(w) })
	}
}

// write makes a connection of TLS 1.3 whose records are ours to write, and are read by crypto/tls.
func (b *besieged) write(ctx context.Context, protocol string) (*tls.Conn, *recordWriter, error) {
	var keys bytes.Buffer
	c := b.tls(protocol)
	c.MinVersion, c.KeyLogWriter = tls.VersionTLS13, &keys
	d := tls.Dialer{Config: c}
	dialled, err := d.DialContext(ctx, "tcp", b.address)
	if err != nil {
		return nil, nil, err
	}
	conn, w := dialled.(*tls.Conn), &recordWriter{}
	if suite := conn.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
		conn.Close()
		return nil, nil, errors.New("another suite: " + tls.CipherSuiteName(suite))
	}
	for line := range strings.Lines(keys.String()) {
		if rest, ok := strings.CutPrefix(line, "CLIENT_TRAFFIC_SECRET_0 "); ok {
			_, secret, _ := strings.Cut(strings.TrimSpace(rest), " ")
			w.secret, _ = hex.DecodeString(secret)
		}
	}
	w.rekey()
	return conn, w, nil
}

// recordWriter encrypts records (RFC 8446 sections 5.2 and 7.3).
type recordWriter struct {
	secret, iv []byte
	aead       cipher.AEAD
	sequence   uint64
}

func (w *recordWriter) expand(label string, n int) []byte {
	label = "tls13 " + label
	info := append([]byte{0, byte(n), byte(len(label))}, label...)
	out, err := hkdf.Expand(sha256.New, w.secret, string(append(info, 0)), n)
	if err != nil {
		panic(err)
	}
	return out
}

func (w *recordWriter) rekey() {
	key, err := aes.NewCipher(w.expand("key", 16))
	if err == nil {
		w.aead, err = cipher.NewGCM(key)
	}
	if err != nil {
		panic(err)
	}
	w.iv, w.sequence = w.expand("iv", 12), 0
}

func (w *recordWriter) seal(b []byte, kind byte, content ...byte) []byte {
	nonce := bytes.Clone(w.iv)
	for i := range 8 {
		nonce[11-i] ^= byte(w.sequence >> (8 * i))
	}
	w.sequence++
	n := len(content) + 1 + w.aead.Overhead()
	head := []byte{23, 3, 3, byte(n >> 8), byte(n)}
	return w.aead.Seal(append(b, head...), nonce, append(content, kind), head)
}

// update is a KeyUpdate that asks for one in return (RFC 8446 section 4.6.3).
func (w *recordWriter) update(b []byte) []byte {
	b = w.seal(b, 22, 24, 0, 0, 1, 1)
	w.secret = w.expand("traffic upd", 32)
	w.rekey()
	return b
}

// many repeats what one call gives.
func many(n int, next func(w *recordWriter, b []byte) []byte) func(w *recordWriter) []byte {
	return func(w *recordWriter) (b []byte) {
		for range n {
			b = next(w, b)
		}
		return b
	}
}

// hello begins a ClientHello of so many bytes, and is the first record of it.
func hello(length int) []byte {
	return append([]byte{22, 3, 1, 0x40, 0, 1, byte(length >> 16), byte(length >> 8), byte(length), 3, 3}, make([]byte, 0x4000-6)...)
}

// Neither handshakes nor what TLS allows besides content keep padlock from serving others.
func TestFloodsOfTLS(t *testing.T) {
	floods(t)
	more := append([]byte{22, 3, 1, 0x40, 0}, make([]byte, 0x4000)...)
	measureAll(t, []flood{
		{name: "handshakes", conns: 16, run: func(ctx context.Context, b *besieged) {
			d := tls.Dialer{Config: b.tls("h2")}
			if conn, err := d.DialContext(ctx, "tcp", b.address); err == nil {
				conn.Close()
			}
		}},
		{name: "a hello of 128 KiB", run: bytesOf(func(i int) []byte {
			if i == 0 {
				return hello(128 << 10)
			}
			return more
		})},
		{name: "hellos that do not end, 400 at once", conns: 400, reason: "slow_handshake", config: "timeouts: {handshake: 2s}", run: bytesOf(func(i int) []byte {
			if i == 0 {
				return hello(60 << 10)[:0x4000]
			}
			time.Sleep(500 * time.Millisecond) // so few bytes more that the record is not whole when the time is up
			return []byte{0}
		})},
		{name: "more handshakes than allowed", conns: 64, reason: "handshakes", config: "limits: {handshakes: 32}", run: bytesOf(func(i int) []byte {
			time.Sleep(50 * time.Millisecond)
			return hello(60 << 10)[i : i+1]
		})},
		{name: "KeyUpdate", reason: "tls_rules", run: records(many(50, func(w *recordWriter, b []byte) []byte { return w.update(b) }))},
		{name: "KeyUpdate between bytes", reason: "slow_header", config: "timeouts: {header: 2s}", run: records(many(20, func(w *recordWriter, b []byte) []byte {
			return w.seal(w.update(b), 23, []byte("GET / HTTP/1.1\r\nHost: localhost\r\nX: x")[min(int(w.sequence), 36)])
		}))},
		{name: "empty records", reason: "tls_rules", run: records(many(50, func(w *recordWriter, b []byte) []byte { return w.seal(b, 23) }))},
		{name: "records of a byte", reason: "malformed", run: records(many(50, func(w *recordWriter, b []byte) []byte { return w.seal(b, 23, 'x', '\n') }))},
		{name: "alerts", reason: "tls_rules", run: records(many(50, func(w *recordWriter, b []byte) []byte { return w.seal(b, 21, 1, 90) }))},
		{name: "tickets and other messages of servers", reason: "tls_rules", run: records(many(50, func(w *recordWriter, b []byte) []byte { return w.seal(b, 22, 4, 0, 0, 1, 0) }))},
	})
}

// A client may change its keys, and ask for others in return, at any time: long after the last answer too, when what limited that has
// long passed.
func TestKeysAreChangedAfterAPause(t *testing.T) {
	besides(t)
	b := besiege(t, "timeouts: {body_idle: 300ms, header: 300ms}")
	ask := map[string]func(i uint32) []byte{
		"http/1.1": func(uint32) []byte { return []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") },
		"h2": func(i uint32) []byte {
			var out []byte
			if i == 0 {
				out = frame([]byte(http2.ClientPreface), http2.FrameSettings, 0, 0)
			}
			return frame(out, http2.FrameHeaders, whole, 2*i+1, asking("GET", "/")...)
		},
	}
	for protocol, request := range ask {
		for _, pause := range []time.Duration{0, 500 * time.Millisecond, 2 * time.Second} { // and parked
			conn, w, err := b.write(t.Context(), protocol)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			for i := range uint32(3) {
				if i > 0 {
					time.Sleep(pause) // longer than the limit of the write before
				}
				if _, err := conn.NetConn().Write(w.seal(w.update(nil), 23, request(i)...)); err != nil {
					t.Fatal(err)
				}
				var heard []byte
				for buffer := make([]byte, 4096); !bytes.HasSuffix(heard, []byte("hello")); {
					_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
					n, err := conn.Read(buffer)
					if err != nil {
						t.Fatalf("%s, after %s, request %d: %q, %v", protocol, pause, i, heard, err)
					}
					heard = append(heard, buffer[:n]...)
				}
			}
		}
	}
}

// HTTP/1.1 has fewer ways to flood.
func TestFloodsOfHTTP1(t *testing.T) {
	floods(t)
	get := []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	fields := []byte("GET / HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("X: y\r\n", 1000))
	measureAll(t, []flood{
		{name: "pipelined requests", run: requests(func(int) []byte { return bytes.Repeat(get, 50) })},
		{name: "many fields", reason: "header_size", run: requests(func(int) []byte { return fields })},
		{name: "a head without end", reason: "header_size", run: requests(func(i int) []byte {
			if i == 0 {
				return get[:len(get)-2]
			}
			return append([]byte("X: "), append(bytes.Repeat([]byte{'x'}, 1000), '\r', '\n')...)
		})},
		{name: "chunks of a byte", run: requests(func(i int) []byte {
			if i == 0 {
				return []byte("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
			}
			return bytes.Repeat([]byte("1\r\nx\r\n"), 1000)
		})},
		{name: "empty lines before a request", reason: "malformed", run: requests(func(int) []byte { return bytes.Repeat([]byte("\r\n"), 5000) })},
	})
}

// Slow clients of every kind, and 400 of them, are gone within half a minute; nobody else waits for them. A reader may pause for longer, within
// its share (TestAClientMayPauseWithinItsShare), which none has here.
func TestSlowClientsAreGoneWithinHalfAMinute(t *testing.T) {
	floods(t)
	b := besiege(t, "timeouts: {send: 20s}")
	before, _ := b.memory(t)
	ctx, cancel := context.WithTimeout(t.Context(), 70*time.Second)
	defer cancel()
	without, enough := context.WithCancel(ctx)
	alone := b.visit(without, "127.0.0.2", false)
	time.Sleep(time.Second) // how the polite fare on this machine without the slow
	enough()
	usual := alone.quantile(0.99)
	guests := b.visit(ctx, "127.0.0.2", false)
	trickle := func(conn net.Conn, text string) {
		for _, c := range []byte(text) {
			if _, err := conn.Write([]byte{c}); err != nil {
				return
			}
			time.Sleep(time.Second) // the client is slow
		}
	}
	secure := func() (net.Conn, error) {
		d := tls.Dialer{Config: b.tls("http/1.1")}
		return d.DialContext(ctx, "tcp", b.address)
	}
	endless := strings.Repeat("x", 100)
	took := make(chan string, 400)
	start := time.Now()
	for i := range 400 {
		go func() {
			began := time.Now()
			kind, dial, send := "", secure, ""
			switch i % 5 {
			case 0:
				kind, send = "slow handshake", string(hello(60 << 10)[:100])
				dial = func() (net.Conn, error) { return net.Dial("tcp", b.address) }
			case 1:
				kind = "silence"
				dial = func() (net.Conn, error) { return net.Dial("tcp", b.address) }
			case 2:
				kind, send = "slow head", "GET /"+endless
			case 3:
				kind = "slow body"
			case 4:
				kind = "slow reader"
			}
			conn, err := dial()
			if err != nil {
				took <- fmt.Sprint(kind, ": ", err)
				return
			}
			defer conn.Close()
			switch i % 5 {
			case 3:
				_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
				send = endless
			case 4:
				_, _ = io.WriteString(conn, "GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
				took <- ""
				<-ctx.Done() // the kernel keeps what was not read, and the end behind it: padlock's counters tell
				return
			}
			go trickle(conn, send)
			_ = conn.SetReadDeadline(began.Add(45 * time.Second))
			_, _ = io.Copy(io.Discard, conn)
			if after := time.Since(began); after > 31*time.Second+5*usual {
				took <- fmt.Sprintf("%s: gone after %s", kind, after)
				return
			}
			took <- ""
		}()
	}
	for range 400 {
		if complaint := <-took; complaint != "" {
			t.Error(complaint)
		}
	}
	cuts := b.cuts(t)
	for ; cuts["slow_reader"] < 80 && time.Since(start) < time.Minute; cuts = b.cuts(t) {
		time.Sleep(100 * time.Millisecond)
	}
	cancel()
	_, most := b.memory(t)
	t.Logf("| slow clients | 400 connections, cut: %v | %.0f ms, %.0f ms | %d MiB |", cuts,
		float64(guests.quantile(0.5).Microseconds())/1000, float64(guests.quantile(0.99).Microseconds())/1000, (most-before)>>10)
	for _, reason := range []string{"slow_handshake", "slow_header", "slow_body", "slow_reader"} {
		if cuts[reason] < 80 {
			t.Errorf("only %d were cut for %s", cuts[reason], reason)
		}
	}
	patience := mostLatency * time.Second
	if !*long {
		patience *= 5 // other tests keep the processors busy
	}
	if len(guests.failed) > 0 || guests.quantile(0.99) > patience+5*usual || (most-before)>>10 > mostGrowth {
		t.Errorf("%d polite requests failed, of 99 in 100 took %s; memory has grown by %d MiB", len(guests.failed), guests.quantile(0.99), (most-before)>>10)
	}
}
