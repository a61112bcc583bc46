//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// frame appends a frame, whatever sense it makes.
func frame(b []byte, kind http2.FrameType, flags http2.Flags, id uint32, payload ...byte) []byte {
	n := len(payload)
	b = append(b, byte(n>>16), byte(n>>8), byte(n), byte(kind), byte(flags))
	return append(append(b, number(id)...), payload...)
}

// block encodes "name=value" without the table, so that it means the same at any time.
func block(lines ...string) []byte {
	var b bytes.Buffer
	coder := hpack.NewEncoder(&b)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, "=")
		_ = coder.WriteField(hpack.HeaderField{Name: name, Value: value, Sensitive: true})
	}
	return b.Bytes()
}

func asking(method, path string, more ...string) []byte {
	return block(append([]string{":method=" + method, ":scheme=https", ":authority=localhost", ":path=" + path}, more...)...)
}

const (
	endStream  = http2.FlagHeadersEndStream
	endHeaders = http2.FlagHeadersEndHeaders
	whole      = endStream | endHeaders
)

// perWrite frames, or groups of them, are sent at once.
const perWrite = 50

// frames floods a connection of HTTP/2: first is sent once, and then what each number comes to. A deaf client reads nothing.
func frames(deaf bool, first func() []byte, next func(b []byte, i uint32) []byte) func(context.Context, *besieged) {
	return func(ctx context.Context, b *besieged) {
		d := tls.Dialer{Config: b.tls("h2")}
		conn, err := d.DialContext(ctx, "tcp", b.address)
		if err != nil {
			return
		}
		defer conn.Close()
		stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
		defer stop()
		out := frame([]byte(http2.ClientPreface), http2.FrameSettings, 0, 0)
		if first != nil {
			out = append(out, first()...)
		}
		gone := make(chan struct{})
		if !deaf {
			go func() {
				defer close(gone)
				_, _ = io.Copy(io.Discard, conn)
			}()
			defer func() { conn.Close(); <-gone }()
		}
		for i := uint32(0); ctx.Err() == nil; {
			for range perWrite {
				out = next(out, i)
				i++
			}
			if _, err := conn.Write(out); err != nil {
				return
			}
			out = out[:0]
			select {
			case <-gone:
				return
			default:
			}
		}
	}
}

func number(n uint32) []byte { return []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)} }

// What is known to have brought servers of HTTP/2 down does not keep padlock from serving others.
func TestFloodsOfHTTP2(t *testing.T) {
	floods(t)
	hang, upload, malformed := asking("GET", "/hang"), asking("POST", "/hang"), asking("GET", "/", "connection=close")
	stream := func(i uint32) uint32 { return 2*i + 1 }
	open := func(b []byte, id uint32) []byte { return frame(b, http2.FrameHeaders, whole, id, hang...) }
	one := func(headers []byte, flags http2.Flags) func() []byte {
		return func() []byte { return frame(nil, http2.FrameHeaders, flags, 1, headers...) }
	}
	bomb := append(block(":method=GET", ":scheme=https", ":authority=localhost", ":path=/"), 0x40, 1, 'x', 0x7f, 0xa1, 0x1e) // a value of 4,000 bytes, which the table keeps
	bomb = append(append(bomb, bytes.Repeat([]byte{'y'}, 4000)...), bytes.Repeat([]byte{0xbe}, 12<<10)...)                   // and is named again and again
	measureAll(t, []flood{
		{name: "rapid reset", reason: "resets", run: frames(false, nil, func(b []byte, i uint32) []byte {
			return frame(open(b, stream(i)), http2.FrameRSTStream, 0, stream(i), number(8)...)
		})},
		{name: "rapid reset, answers not read", reason: "resets", run: frames(true, nil, func(b []byte, i uint32) []byte {
			return frame(open(b, stream(i)), http2.FrameRSTStream, 0, stream(i), number(8)...)
		})},
		{name: "reset by a window of 0", reason: "resets", run: frames(false, nil, func(b []byte, i uint32) []byte {
			return frame(open(b, stream(i)), http2.FrameWindowUpdate, 0, stream(i), number(0)...)
		})},
		{name: "reset by a window too large", reason: "resets", run: frames(false, nil, func(b []byte, i uint32) []byte {
			return frame(open(b, stream(i)), http2.FrameWindowUpdate, 0, stream(i), number(1<<31-1)...)
		})},
		{name: "reset by DATA after the end", reason: "resets", run: frames(false, nil, func(b []byte, i uint32) []byte {
			return frame(open(b, stream(i)), http2.FrameData, 0, stream(i), 'x')
		})},
		{name: "reset by HEADERS after the end", reason: "resets", run: frames(false, nil, func(b []byte, i uint32) []byte {
			return frame(open(b, stream(i)), http2.FrameHeaders, whole, stream(i), block("x=y")...)
		})},
		{name: "reset by a priority of its own", reason: "resets", run: frames(false, nil, func(b []byte, i uint32) []byte {
			return frame(open(b, stream(i)), http2.FramePriority, 0, stream(i), append(number(stream(i)), 1)...)
		})},
		{name: "reset by a length that is wrong", reason: "resets", run: frames(false, nil, func(b []byte, i uint32) []byte {
			b = frame(b, http2.FrameHeaders, endHeaders, stream(i), asking("POST", "/hang", "content-length=1")...)
			return frame(b, http2.FrameData, 0, stream(i), 'x', 'y')
		})},
		{name: "malformed requests", reason: "resets", run: frames(false, nil, func(b []byte, i uint32) []byte {
			return frame(b, http2.FrameHeaders, whole, stream(i), malformed...)
		})},
		{name: "empty HEADERS", reason: "resets", run: frames(false, nil, func(b []byte, i uint32) []byte {
			return frame(b, http2.FrameHeaders, whole, stream(i))
		})},
		{name: "streams beyond the limit", reason: "resets", run: frames(false, nil, func(b []byte, i uint32) []byte { return open(b, stream(i)) })},
		{name: "CONTINUATION without end", reason: "header_size", run: frames(false, one(asking("GET", "/"), endStream), func(b []byte, i uint32) []byte {
			return frame(b, http2.FrameContinuation, 0, 1, block("x=yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy")...)
		})},
		{name: "empty CONTINUATION", reason: "header_size", run: frames(false, one(asking("GET", "/"), endStream), func(b []byte, i uint32) []byte {
			return frame(b, http2.FrameContinuation, 0, 1)
		})},
		{name: "CONTINUATION by the byte, with an end", reason: "resets", run: frames(false, nil, func(b []byte, i uint32) []byte {
			b = frame(b, http2.FrameHeaders, endStream, stream(i))
			fields := asking("GET", "/")
			for j := range fields {
				flags := http2.Flags(0)
				if j == len(fields)-1 {
					flags = http2.FlagContinuationEndHeaders
				}
				b = frame(b, http2.FrameContinuation, flags, stream(i), fields[j])
			}
			return b
		})},
		{name: "SETTINGS", reason: "noop_frames", run: frames(false, nil, func(b []byte, i uint32) []byte {
			return frame(b, http2.FrameSettings, 0, 0, append([]byte{0, byte(http2.SettingInitialWindowSize)}, number(i%1000)...)...)
		})},
		{name: "SETTINGS, answers not read", reason: "noop_frames", run: frames(true, nil, func(b []byte, i uint32) []byte { return frame(b, http2.FrameSettings, 0, 0) })},
		{name: "PING", reason: "noop_frames", run: frames(false, nil, func(b []byte, i uint32) []byte { return frame(b, http2.FramePing, 0, 0, make([]byte, 8)...) })},
		{name: "PING, answers not read", reason: "noop_frames", run: frames(true, nil, func(b []byte, i uint32) []byte { return frame(b, http2.FramePing, 0, 0, make([]byte, 8)...) })},
		{name: "PRIORITY", reason: "noop_frames", run: frames(false, nil, func(b []byte, i uint32) []byte {
			return frame(b, http2.FramePriority, 0, stream(i), append(number(0), 1)...)
		})},
		{name: "WINDOW_UPDATE", reason: "noop_frames", run: frames(false, one(hang, whole), func(b []byte, i uint32) []byte {
			return frame(b, http2.FrameWindowUpdate, 0, 1, number(1)...)
		})},
		{name: "empty DATA", reason: "noop_frames", run: frames(false, one(upload, endHeaders), func(b []byte, i uint32) []byte { return frame(b, http2.FrameData, 0, 1) })},
		{name: "padding instead of DATA", reason: "noop_frames", run: frames(false, one(upload, endHeaders), func(b []byte, i uint32) []byte {
			return frame(b, http2.FrameData, http2.FlagDataPadded, 1, 0)
		})},
		{name: "DATA by the byte", run: frames(false, one(asking("POST", "/"), endHeaders), func(b []byte, i uint32) []byte { return frame(b, http2.FrameData, 0, 1, 'x') })},
		{name: "unknown frames", reason: "noop_frames", run: frames(false, nil, func(b []byte, i uint32) []byte { return frame(b, 0xfa, 0, 0, make([]byte, 1000)...) })},
		{name: "HPACK bomb", reason: "header_size", run: frames(false, nil, func(b []byte, i uint32) []byte {
			b = frame(b, http2.FrameHeaders, endStream, stream(i), bomb[:16000]...)
			return frame(b, http2.FrameContinuation, http2.FlagContinuationEndHeaders, stream(i), bomb[16000:]...)
		})},
		{name: "HPACK table that changes its size", reason: "malformed", run: frames(false, nil, func(b []byte, i uint32) []byte {
			flips := bytes.Repeat([]byte{0x3f, 0xe1, 0x1f, 0x20}, 2000) // 4096, 0
			return frame(b, http2.FrameHeaders, whole, stream(i), append(flips, asking("GET", "/")...)...)
		})},
		{name: "HPACK literals beyond the limit", reason: "header_size", run: frames(false, func() []byte {
			return frame(nil, http2.FrameHeaders, endStream, 1, 0x40, 1, 'x', 0x7f, 0xff, 0xff, 0x06) // a value of 100 KB
		}, func(b []byte, i uint32) []byte {
			return frame(b, http2.FrameContinuation, 0, 1, make([]byte, 16<<10)...)
		})},
		{name: "cookies in crumbs", reason: "header_size", run: frames(false, nil, func(b []byte, i uint32) []byte {
			return frame(b, http2.FrameHeaders, whole, stream(i), append(asking("GET", "/"), bytes.Repeat([]byte{0x0f, 0x11, 1, 'a'}, 3000)...)...)
		})},
		{name: "requests whose answers are not read", reason: "resets", run: frames(true, nil, func(b []byte, i uint32) []byte {
			return frame(b, http2.FrameHeaders, whole, stream(i), asking("GET", "/large")...)
		})},
		{name: "as many requests as allowed", run: atLimit},
	})
}

// atLimit has as many requests open as allowed, and does nothing more.
func atLimit(ctx context.Context, b *besieged) {
	hang := asking("GET", "/hang")
	frames(false, nil, func(out []byte, i uint32) []byte {
		if i >= 100 {
			<-ctx.Done()
			return out
		}
		return frame(out, http2.FrameHeaders, whole, 2*i+1, hang...)
	})(ctx, b)
}
