package proxy_test

//lint:file-ignore SA1019 the backend and the client speak x/net/http2.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"padlock/config"
)

// heard is what a client hears of its response while its own content is open, and it says nothing.
type heard struct {
	status string
	body   string
	ended  bool   // the response was complete
	code   uint64 // of the reset; HTTP/1.1 has none
	cut    bool
	took   time.Duration
	unread bool // the client was told that the rest of its content is not wanted
}

// beginning is what comes of a content that does not go on.
type beginning struct{ one, data string } // as HTTP/1.1 has it, and without chunks

// silent are clients that open a POST by one protocol, send the beginning of its content or nothing, and wait for what comes of it.
func (e *edge) silent(t *testing.T) map[string]func(path string, more ...string) heard {
	all := map[string]func(string, ...string) heard{}
	for name, begun := range map[string]beginning{" with nothing": {}, " with some": {"5\r\nhello\r\n", "hello"}} {
		all["h1"+name] = func(path string, more ...string) heard { return e.silentOne(t, begun, path, more...) }
		all["h2"+name] = func(path string, more ...string) heard { return e.silentTwo(t, begun, path, more...) }
		all["h3"+name] = func(path string, more ...string) heard { return e.silentThree(t, begun, path, more...) }
	}
	return all
}

const heardWithin = 60 * time.Second // for a machine that is busy; what is measured is that it is not the 10 s of a timer, or none

func (e *edge) silentOne(t *testing.T, begun beginning, path string, more ...string) (h heard) {
	lines := ""
	for i := 0; i < len(more); i += 2 {
		lines += more[i] + ": " + more[i+1] + "\r\n"
	}
	c := e.one(t, "POST "+path+" HTTP/1.1\r\nHost: localhost\r\n"+lines+"Transfer-Encoding: chunked\r\n\r\n"+begun.one)
	began := time.Now()
	_ = c.SetReadDeadline(began.Add(heardWithin))
	var all bytes.Buffer
	_, err := io.Copy(&all, &stopper{Reader: c})
	h.took, h.cut = time.Since(began), err != nil || !strings.Contains(all.String(), "\r\n0\r\n")
	_, _ = fmt.Sscanf(all.String(), "HTTP/1.1 %s ", &h.status)
	h.body, h.ended = all.String(), !h.cut
	return h
}

// stopper ends with the last chunk of a response.
type stopper struct {
	io.Reader
	seen string
}

func (s *stopper) Read(p []byte) (int, error) {
	if strings.Contains(s.seen, "\r\n0\r\n") && strings.HasSuffix(s.seen, "\r\n\r\n") {
		return 0, io.EOF
	}
	n, err := s.Reader.Read(p)
	s.seen += string(p[:n])
	return n, err
}

func (e *edge) silentTwo(t *testing.T, begun beginning, path string, more ...string) (h heard) {
	f := e.two(t)
	began := time.Now()
	_ = f.SetDeadline(began.Add(heardWithin))
	lines := []string{":method=POST", ":scheme=https", ":authority=localhost", ":path=" + path}
	for i := 0; i < len(more); i += 2 {
		lines = append(lines, more[i]+"="+more[i+1])
	}
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fields(lines...), EndHeaders: true})
	if begun.data != "" {
		_ = f.WriteData(1, false, []byte(begun.data))
	}
	decoder := hpack.NewDecoder(4096, func(field hpack.HeaderField) {
		if field.Name == ":status" {
			h.status = field.Value
		}
	})
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatalf("%s by HTTP/2: %v after %+v", path, err, h)
		}
		ended := false
		switch frame := frame.(type) {
		case *http2.HeadersFrame:
			_, _ = decoder.Write(frame.HeaderBlockFragment())
			ended = frame.StreamEnded()
		case *http2.DataFrame:
			h.body += string(frame.Data())
			ended = frame.StreamEnded()
		case *http2.RSTStreamFrame:
			h.code = uint64(frame.ErrCode)
			if h.unread = h.ended; !h.ended {
				h.cut, h.took = true, time.Since(began)
			}
			return h
		}
		if ended {
			h.ended, h.took = true, time.Since(began)
		}
	}
}

func (e *edge) silentThree(t *testing.T, begun beginning, path string, more ...string) (h heard) {
	conn := e.dialHTTP3(t)
	q, err := conn.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	pairs := append(set(":path", path), more...)
	pairs[1] = "POST"
	began := time.Now()
	frames := frameHTTP3(nil, frameHeaders, fieldSection(pairs))
	if begun.data != "" {
		frames = frameHTTP3(frames, frameData, []byte(begun.data))
	}
	_, _ = q.Write(frames)
	_ = q.SetReadDeadline(began.Add(heardWithin))
	answer, err := io.ReadAll(q)
	h.took = time.Since(began)
	var reset *quic.StreamError
	if errors.As(err, &reset) {
		h.cut, h.code = true, uint64(reset.ErrorCode)
	} else if err != nil {
		t.Fatalf("%s by HTTP/3: %v", path, err)
	}
	o := readHTTP3(answer)
	h.status, h.body, h.ended = o.status, o.body, err == nil
	if h.ended { // STOP_SENDING ends what the client still has to say
		select {
		case <-q.Context().Done():
			var stopped *quic.StreamError
			_, err := q.Write([]byte("x"))
			h.unread = errors.As(err, &stopped) && stopped.Remote
			h.code = uint64(stopped.ErrorCode)
		case <-time.After(heardWithin):
		}
	}
	return h
}

// halfOpen are targets that end a stream while the client has more to say, and says nothing.
func halfOpen(t *testing.T) string {
	return serveH2C(t, func(s *h2cStream) {
		head := func(end bool) { s.head(end, ":status", "200", "content-type", "text/plain") }
		reset := func(code http2.ErrCode) { _ = s.framer.WriteRSTStream(s.id, code) }
		switch s.path {
		case "/head-reset":
			head(false)
			s.data(false, "some")
			reset(http2.ErrCodeCancel)
		case "/head-broken":
			head(false)
			reset(http2.ErrCodeInternal)
		case "/head-dies":
			head(false)
			s.data(false, "some")
			s.hangUp()
		case "/reset":
			reset(http2.ErrCodeCancel)
		case "/dies":
			s.hangUp()
		case "/whole":
			head(false)
			s.data(true, "good")
		case "/whole-reset":
			head(false)
			s.data(true, "good")
			reset(http2.ErrCodeNo)
		case "/trailers":
			head(false)
			s.data(false, "good")
			s.head(true, "grpc-status", "0")
		}
	})
}

// An h2c target that ends a stream, or dies, while the client's content is open and silent, as in gRPC's streams both ways: the client hears of
// it at once, over every protocol, with the target's own code where it has one. A response that is complete ends, and the client is told that
// no more is wanted.
func TestTheEndOfAnH2CTargetIsHeardAtOnce(t *testing.T) {
	t.Parallel()
	e := start(t, halfOpen(t), func(c *config.Config) { c.Timeouts.BodyIdle = 2 * time.Minute }) // not by a timer
	codes := map[string][2]uint64{                                                               // over HTTP/2, and 3
		"/head-reset": {uint64(http2.ErrCodeCancel), 0x10c}, "/head-broken": {uint64(http2.ErrCodeInternal), 0x102}, "/head-dies": {uint64(http2.ErrCodeInternal), 0x102},
	}
	for name, ask := range e.silent(t) {
		proto := name[:2]
		for _, path := range []string{"/head-reset", "/head-broken", "/head-dies"} {
			h := ask(path)
			if h.status != "200" && proto != "h3" || !h.cut || h.took > 8*time.Second {
				t.Errorf("%s %s: %+v", name, path, h)
			}
			if want := codes[path]; proto == "h2" && h.code != want[0] || proto == "h3" && h.code != want[1] {
				t.Errorf("%s %s: code %#x", name, path, h.code)
			}
		}
		for _, path := range []string{"/reset", "/dies"} {
			if h := ask(path); h.status != "502" || proto != "h1" && !h.ended || h.took > 8*time.Second {
				t.Errorf("%s %s: %+v", name, path, h)
			}
		}
		if h := ask("/reset", "content-type", "application/grpc+proto"); proto == "h2" && h.code != uint64(http2.ErrCodeCancel) || proto == "h3" && h.code != 0x10c || h.took > 8*time.Second ||
			proto == "h1" && !strings.Contains(h.body, "Grpc-Status: 14\r\n") {
			t.Errorf("%s: gRPC: %+v", name, h)
		}
		for _, path := range []string{"/whole", "/whole-reset", "/trailers"} {
			h := ask(path)
			if h.status != "200" || !h.ended || !strings.Contains(h.body, "good") || h.took > 8*time.Second {
				t.Errorf("%s %s: %+v", name, path, h)
			}
			if proto != "h1" && !h.unread || proto == "h2" && h.code != 0 || proto == "h3" && h.code != 0x100 {
				t.Errorf("%s %s: that its content is not wanted was not said: %+v", name, path, h)
			}
		}
	}
}

// The same of HTTP/1.1 targets: a complete answer ends at once although the content it answers is open, and so does the request, a little later.
func TestACompleteAnswerEndsThoughContentIsOpen(t *testing.T) {
	t.Parallel()
	e := start(t, backend(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "good")
		w.Header().Set("X-Sum", "4")
	}), func(c *config.Config) { c.Timeouts.BodyIdle = 2 * time.Minute })
	for name, ask := range e.silent(t) {
		proto := name[:2]
		h := ask("/")
		if h.status != "200" || !strings.Contains(h.body, "good") || h.took > 8*time.Second || proto != "h1" && (!h.ended || !h.unread) {
			t.Errorf("%s: %+v", name, h)
		}
	}
}
