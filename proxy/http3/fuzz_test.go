package http3

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"testing"
	"testing/iotest"
	"time"

	"github.com/quic-go/quic-go"

	"padlock/internal/fair"
	"padlock/proxy/message"
)

// script is a stream on which a client says some bytes and no more.
type script struct {
	io.Reader
	written bytes.Buffer
	ended   string
}

func (s *script) Write(p []byte) (int, error)        { return s.written.Write(p) }
func (s *script) Close() error                       { s.note("closed"); return nil }
func (s *script) StreamID() quic.StreamID            { return 0 }
func (s *script) Context() context.Context           { return context.Background() }
func (s *script) SetReadDeadline(time.Time) error    { return nil }
func (s *script) SetWriteDeadline(time.Time) error   { return nil }
func (s *script) SetPriority(int8, bool)             {}
func (s *script) CancelRead(quic.StreamErrorCode)    {}
func (s *script) CancelWrite(c quic.StreamErrorCode) { s.note(fmt.Sprintf("reset %#x", uint64(c))) }
func (s *script) ReleaseStreamCredit()               {}

func (s *script) note(end string) {
	if s.ended == "" {
		s.ended = end
	}
}

// line is a connection of QUIC on which nothing comes.
type line struct {
	session
	closed quic.ApplicationErrorCode
}

func (l *line) Context() context.Context { return context.Background() }
func (l *line) CloseWithError(c quic.ApplicationErrorCode, _ string) error {
	if l.closed == 0 {
		l.closed = c
	}
	return nil
}

// hear has a server read bytes, and tells all that came of them.
func hear(source io.Reader, uni bool) string {
	var told string
	h := handlerFunc(func(_ *message.Context, r *message.Request, w message.Writer) {
		if r.Upgrade != "" {
			r.Fields.Del("Sec-WebSocket-Key")
		}
		var content []byte
		var err error
		if r.Body != nil {
			content, err = io.ReadAll(r.Body)
		}
		if err != nil { // it can be told before there is a request
			w.Abort()
			return
		}
		if len(content) == 0 {
			r.ContentLength = 0 // it is told at once where the end has come with the head
		}
		told = fmt.Sprintf("%s %s %q %q %d %v %q", r.Method, r.Upgrade, r.Host, r.Target, r.ContentLength, r.Fields, content)
		if r.Body != nil {
			if trailers := r.Body.Trailers(); len(trailers) > 0 {
				told += fmt.Sprint(trailers)
			}
			if r.ContentLength >= 0 && int64(len(content)) != r.ContentLength {
				told += " WRONG"
			}
		}
		_ = w.Head(200, message.Fields{{Name: "Date", Value: "now"}}, 0)
	})
	l := &line{}
	server := NewServer(ServerOptions{Handler: h, Head: 4 << 10, Idle: time.Hour, Header: time.Hour, BodyIdle: time.Hour, NoopFrames: 1 << 30})
	c := &connection{server: server, conn: l, facts: &message.Conn{}, each: func() *message.Conn { return &message.Conn{} }, streams: map[quic.StreamID]*stream{}, asked: fair.NewShare(nil, netip.Addr{}, 0), timer: time.NewTimer(time.Hour)}
	if uni {
		r := &reader{source: source, buf: make([]byte, 128)}
		if kind, err := r.varint(); err == nil && kind <= uniDecoder {
			c.fail(c.listen(r, kind, false))
		}
		return fmt.Sprintf("%#x", uint64(l.closed))
	}
	q := &script{Reader: source}
	s := newStream(c, q)
	c.streams[0] = s
	s.run()
	if len(c.streams) > 0 || c.requests != 0 {
		told += " LEFT"
	}
	return fmt.Sprintf("%s %s %#x %d", told, q.ended, uint64(l.closed), len(bytes.ReplaceAll(q.written.Bytes(), proceed, nil)))
}

// Whatever comes, and in whatever pieces, the same comes of it; contents have the length that was announced.
func FuzzStreams(f *testing.F) {
	f.Add(asking("GET"), false)
	f.Add(append(asking("POST", "content-length", "3", "trailer", "x", "expect", "100-continue"), append(frame(frameData, 1, 2, 3), headers("x", "y")...)...), false)
	f.Add(append(asking("POST", "cookie", "a", "cookie", "b"), append(frame(0x21, 1), frame(frameData, 1, 2, 3)[:4]...)...), false)
	f.Add(headers(":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "a", ":path", "/"), false)
	f.Add(append(append([]byte{uniControl}, frame(frameSettings, 6, 1)...), append(frame(framePriorityUpdate, 0, 'u', '=', '1'), frame(frameGoAway, 0)...)...), true)
	f.Add([]byte{uniEncoder, 0x20, 0x3f}, true)
	f.Add([]byte{uniDecoder, 0x41, 0x7f, 0x80, 0x01, 0x42, 0x80}, true)
	f.Fuzz(func(t *testing.T, text []byte, uni bool) {
		whole := hear(bytes.NewReader(text), uni)
		for name, source := range map[string]io.Reader{
			"bytes": iotest.OneByteReader(bytes.NewReader(text)), "halves": iotest.HalfReader(bytes.NewReader(text)), "an end at once": iotest.DataErrReader(bytes.NewReader(text)),
		} {
			if pieces := hear(source, uni); pieces != whole {
				t.Fatalf("%q\nat once:  %s\nin %s: %s", text, whole, name, pieces)
			}
		}
		if bytes.Contains([]byte(whole), []byte("WRONG")) || bytes.Contains([]byte(whole), []byte("LEFT")) {
			t.Fatalf("%q: %s", text, whole)
		}
	})
}
