package http2

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"padlock/proxy/message"
)

// script is a connection on which a client says some bytes and no more.
type script struct {
	net.Conn
	text  *bytes.Reader
	facts message.Conn
}

func (s *script) Read(p []byte) (int, error)       { return s.text.Read(p) }
func (s *script) Write(p []byte) (int, error)      { return len(p), nil }
func (s *script) Close() error                     { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }
func (s *script) Facts() *message.Conn             { return &s.facts }

// frames are what write writes.
func frames(write func(f *http2.Framer)) []byte {
	var b bytes.Buffer
	framer := http2.NewFramer(&b, nil)
	framer.AllowIllegalWrites = true
	write(framer)
	return b.Bytes()
}

// Whatever a client sends, its connection ends, and with it every handler.
func FuzzFrames(f *testing.F) {
	var fields bytes.Buffer
	coder := hpack.NewEncoder(&fields)
	for _, line := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":authority", "a"}, {":path", "/"}, {"content-length", "3"}, {"cookie", "a"}, {"cookie", "b"}} {
		if err := coder.WriteField(hpack.HeaderField{Name: line[0], Value: line[1]}); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(frames(func(f *http2.Framer) {
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fields.Bytes(), EndHeaders: true})
		_ = f.WriteData(1, true, []byte("abc"))
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: fields.Bytes()[:10]})
		_ = f.WriteContinuation(3, true, fields.Bytes()[10:])
		_ = f.WriteDataPadded(3, false, []byte("ab"), make([]byte, 7))
		_ = f.WriteWindowUpdate(3, 100)
		_ = f.WriteRSTStream(3, http2.ErrCodeCancel)
	}))
	f.Add(frames(func(f *http2.Framer) {
		_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
		_ = f.WritePing(false, [8]byte{1})
		_ = f.WritePriority(1, http2.PriorityParam{StreamDep: 3})
		_ = f.WriteGoAway(0, http2.ErrCodeNo, nil)
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fields.Bytes(), EndHeaders: true})
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0, 1, 'a', 1, 'b'}, EndHeaders: true, EndStream: true})
	}))
	f.Fuzz(func(t *testing.T, text []byte) {
		s := NewServer(ServerOptions{
			Handler: handlerFunc(echo), Header: time.Minute, Idle: time.Minute, BodyIdle: 10 * time.Millisecond, Rate: 240, Head: 8 << 10, Log: slog.New(slog.DiscardHandler),
		})
		preface := append([]byte(http2.ClientPreface), frames(func(f *http2.Framer) { _ = f.WriteSettings() })...)
		s.ServeConn(&script{text: bytes.NewReader(append(preface, text...))})
	})
}

// Whatever a target sends, its connection ends, and with it every request.
func FuzzAnswers(f *testing.F) {
	f.Add(frames(func(f *http2.Framer) {
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{8, 3, '1', '0', '3'}, EndHeaders: true})
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x88}})
		_ = f.WriteContinuation(1, true, []byte{0x0f, 13, 1, '3'})
		_ = f.WriteDataPadded(1, false, []byte("ab"), make([]byte, 7))
		_ = f.WriteWindowUpdate(3, 100)
		_ = f.WriteData(1, false, []byte("c"))
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0, 1, 'a', 1, 'b'}, EndHeaders: true, EndStream: true})
		_ = f.WriteRSTStream(3, http2.ErrCodeRefusedStream)
	}))
	f.Add(frames(func(f *http2.Framer) {
		_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0})
		_ = f.WritePing(false, [8]byte{1})
		_ = f.WriteGoAway(1, http2.ErrCodeNo, nil)
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: []byte{0x88}, EndHeaders: true})
		_ = f.WriteData(3, true, nil)
	}))
	f.Fuzz(func(t *testing.T, text []byte) {
		tr := NewTransport(TransportOptions{ResponseHeader: time.Minute})
		first := frames(func(f *http2.Framer) { _ = f.WriteSettings() })
		requests := []*message.Request{getting("/"), posting("/", whole("hello"), -1)}
		b := newBackend(tr, &script{text: bytes.NewReader(append(first, text...))}, len(requests), firstStreams)
		var asking sync.WaitGroup
		for _, r := range requests {
			var ctx message.Context
			x, err := b.start(&ctx, &upload{r: r, head: appendRequest(nil, r, schemeHTTP, "")})
			if err != nil {
				t.Fatal(err)
			}
			asking.Go(func() {
				if response, err := x.answer(&interims{}); err == nil {
					_, _ = io.Copy(io.Discard, response.Body)
					response.Body.Close()
				}
			})
		}
		b.serve()
		asking.Wait()
	})
}
