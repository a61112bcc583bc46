package http2

import (
	"bytes"
	"context"
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

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"padlock/internal/fair"
	"padlock/proxy/message"
)

type plain struct {
	net.Conn
	facts message.Conn
}

func (p *plain) Facts() *message.Conn { return &p.facts }
func (p *plain) NetConn() net.Conn    { return p.Conn }

type handlerFunc func(ctx *message.Context, r *message.Request, w message.Writer)

func (f handlerFunc) Serve(ctx *message.Context, r *message.Request, w message.Writer) { f(ctx, r, w) }

// hello answers every request in a few bytes.
func hello(_ *message.Context, _ *message.Request, w message.Writer) {
	_ = w.Head(200, message.Fields{{Name: "Content-Type", Value: "text/plain"}}, 5)
	_, _ = w.Write([]byte("hello"))
}

// running is a server on loopback.
type running struct {
	*Server
	address string
}

func serve(t *testing.T, h handlerFunc, change func(*ServerOptions)) *running {
	t.Helper()
	o := ServerOptions{
		Handler: h, Header: 5 * time.Second, Idle: time.Minute, BodyIdle: 5 * time.Second, Rate: 240, Head: 64 << 10, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&o)
	}
	return serveWith(t, NewServer(o))
}

func serveWith(t *testing.T, s *Server) *running {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p := &plain{Conn: c}
			p.facts.Client, p.facts.Addr = message.ClientAddr(c.RemoteAddr().String())
			go s.ServeConn(p)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
	})
	return &running{s, l.Addr().String()}
}

// client is one that can misbehave.
type client struct {
	t      *testing.T
	conn   net.Conn
	framer *http2.Framer
	block  bytes.Buffer
	coder  *hpack.Encoder
	silent bool              // acknowledges nothing
	room   map[uint32]uint32 // that streams were given
}

func dial(t *testing.T, s *running, settings ...http2.Setting) *client {
	t.Helper()
	return dialFrom(t, s, "127.0.0.1", settings...)
}

func dialFrom(t *testing.T, s *running, address string, settings ...http2.Setting) *client {
	t.Helper()
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}).Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &client{t: t, conn: conn, framer: http2.NewFramer(conn, conn), room: map[uint32]uint32{}}
	c.coder = hpack.NewEncoder(&c.block)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.framer.AllowIllegalWrites = true
	c.must(errOf(conn.Write([]byte(http2.ClientPreface))))
	c.must(c.framer.WriteSettings(settings...))
	c.must(conn.SetReadDeadline(time.Now().Add(20 * time.Second)))
	return c
}

func errOf(_ int, err error) error { return err }

func (c *client) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// encode makes a block of "name: value" lines.
func (c *client) encode(lines ...string) []byte {
	c.block.Reset()
	for _, line := range lines {
		colon := strings.Index(line[1:], ":") + 1
		c.must(c.coder.WriteField(hpack.HeaderField{Name: line[:colon], Value: strings.TrimPrefix(line[colon+1:], " ")}))
	}
	return bytes.Clone(c.block.Bytes())
}

var get = []string{":method: GET", ":scheme: https", ":authority: localhost", ":path: /"}

func post(lines ...string) []string {
	return append([]string{":method: POST", ":scheme: https", ":authority: localhost", ":path: /"}, lines...)
}

func (c *client) request(id uint32, end bool, lines ...string) {
	c.t.Helper()
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.encode(lines...), EndStream: end, EndHeaders: true}))
}

// next is the next frame that is not about settings or windows.
func (c *client) next() (http2.Frame, error) {
	for {
		f, err := c.framer.ReadFrame()
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() && !c.silent {
				_ = c.framer.WriteSettingsAck()
			}
			continue
		case *http2.WindowUpdateFrame:
			c.room[f.StreamID] += f.Increment
			continue
		}
		return f, err
	}
}

// answer is a whole response.
type answer struct {
	interim  []string
	status   string
	fields   map[string]string
	body     []byte
	trailers map[string]string
	reset    http2.ErrCode // when it was cut short
	cut      bool
}

// await reads until stream id has ended; others must not say anything.
func (c *client) await(id uint32) *answer {
	c.t.Helper()
	a := &answer{}
	for {
		f, err := c.next()
		if err != nil {
			c.t.Fatalf("waiting for stream %d: %v", id, err)
		}
		if f.Header().StreamID != id {
			c.t.Fatalf("waiting for stream %d: %v", id, f)
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			fields := map[string]string{}
			for _, field := range f.RegularFields() {
				fields[field.Name] = field.Value
			}
			switch status := f.PseudoValue("status"); {
			case status == "":
				a.trailers = fields
			case status[0] == '1':
				a.interim = append(a.interim, status)
			default:
				a.status, a.fields = status, fields
			}
			if f.StreamEnded() {
				return a
			}
		case *http2.DataFrame:
			a.body = append(a.body, f.Data()...)
			if f.StreamEnded() {
				return a
			}
			if n := uint32(len(f.Data())); n > 0 {
				c.must(c.framer.WriteWindowUpdate(0, n))
				c.must(c.framer.WriteWindowUpdate(id, n))
			}
		case *http2.RSTStreamFrame:
			a.cut, a.reset = true, f.ErrCode
			return a
		default:
			c.t.Fatalf("unexpected %v", f)
		}
	}
}

// goneWith reads until the connection ends, and returns GOAWAY's code.
func (c *client) goneWith() (code http2.ErrCode, ok bool) {
	for {
		f, err := c.next()
		if err != nil {
			return code, ok
		}
		if g, is := f.(*http2.GoAwayFrame); is {
			code, ok = g.ErrCode, true
		}
	}
}

func TestRequestsAreRead(t *testing.T) {
	got := make(chan message.Request, 1)
	s := serve(t, func(ctx *message.Context, r *message.Request, w message.Writer) {
		copied := *r
		copied.Fields = append(message.Fields(nil), r.Fields...)
		got <- copied
		hello(ctx, r, w)
	}, nil)
	c := dial(t, s)
	for i, test := range []struct {
		lines []string
		want  func(r message.Request) bool
	}{
		{get, func(r message.Request) bool {
			return r.Method == "GET" && r.Host == "localhost" && r.Target == "/" && r.Scheme == "https" && r.Proto == "HTTP/2.0" && r.Body == nil && len(r.Fields) == 0
		}},
		{[]string{":method: GET", ":scheme: https", ":path: /a?b", "host: other:8443", "x-a: 1"}, func(r message.Request) bool {
			return r.Host == "other:8443" && r.Target == "/a?b" && r.Fields.Value("X-A") == "1" && len(r.Fields) == 1
		}},
		{append(get[:4:4], "cookie: a=1", "x-b: 2", "cookie: b=2", "cookie: c=3"), func(r message.Request) bool {
			return r.Fields.Value("Cookie") == "a=1; b=2; c=3" && len(r.Fields) == 2
		}},
		{append(get[:4:4], "te: trailers", "trailer: x-sum, x-more"), func(r message.Request) bool {
			return r.Fields.Value("te") == "trailers" && fmt.Sprint(r.Declared) == "[x-sum x-more]"
		}},
		{[]string{":method: OPTIONS", ":scheme: https", ":authority: localhost", ":path: *"}, func(r message.Request) bool { return r.Target == "*" }},
		{[]string{":method: CONNECT", ":authority: localhost:22"}, func(r message.Request) bool { return r.Method == "CONNECT" && r.Upgrade == "" }},
	} {
		id := uint32(2*i + 1)
		c.request(id, true, test.lines...)
		if r := <-got; !test.want(r) {
			t.Errorf("%q: %+v", test.lines, r)
		}
		if a := c.await(id); a.status != "200" || string(a.body) != "hello" || a.fields["content-length"] != "5" || a.fields["date"] == "" {
			t.Errorf("%q: %+v", test.lines, a)
		}
	}
}

// refused awaits a 400 that says why, and then the reset of its stream (RFC 9113 section 8.1.1).
func (c *client) refused(id uint32, bodiless bool) {
	c.t.Helper()
	a := c.await(id)
	if a.status != "400" || a.cut || bodiless != (len(a.body) == 0) || !bodiless && !strings.HasPrefix(string(a.body), "The request is malformed: ") {
		c.t.Errorf("stream %d: %+v %s", id, a, a.body)
	}
	f, err := c.next()
	if reset, ok := f.(*http2.RSTStreamFrame); err != nil || !ok || reset.StreamID != id || reset.ErrCode != http2.ErrCodeProtocol {
		c.t.Errorf("stream %d: %v, %v", id, f, err)
	}
}

// What HTTP/2 carries and HTTP/1.1 could not, or could in another sense, never gets further. A client that saw a reset alone would send it again.
func TestMalformedRequestsAreAnsweredAndReset(t *testing.T) {
	s := serve(t, func(_ *message.Context, r *message.Request, w message.Writer) {
		t.Errorf("a handler saw %+v", r)
		w.Abort()
	}, nil)
	with := func(lines ...string) []string { return append(get[:4:4], lines...) }
	c := dial(t, s)
	for i, lines := range [][]string{
		with("x-a: b\r\nx-c: d"), with("x-a: b\nc"), with("x-a: b\x00"), with("x-a\r\nx-b: c"), with("X-A: b"), with("x a: b"), with("x-a : b"),
		with("x-a:  b"), with("x-a: b "), with("x-a: \x7f"), with(" : b"), with(":status: 200"), with(":path: /again"), with("connection: close"),
		with("transfer-encoding: chunked"), with("keep-alive: 1"), with("upgrade: h2c"), with("proxy-connection: close"), with("te: gzip"),
		with("content-length: 1"), with("content-length: 0", "content-length: 0"), with("content-length: +0"), with("content-length: 0,0"),
		with("host: other"), with("host: localhost", "host: localhost"), with("expect: everything"),
		get[:3], get[1:], append(get[:1:1], get[2:]...), {":method: GET", ":scheme: https", ":path: /"},
		{":method: GET", ":scheme: https", ":authority: ", ":path: /"}, {":method: GET", ":scheme: https", ":authority: a b", ":path: /"},
		{":method: GET", ":scheme: https", ":authority: a/b", ":path: /"}, {":method: GET", ":scheme: https", ":authority: u@a", ":path: /"},
		{":method: GET", ":scheme: https", ":authority: a", ":path: "}, {":method: GET", ":scheme: https", ":authority: a", ":path: b"},
		{":method: GET", ":scheme: https", ":authority: a", ":path: https://b/"}, {":method: GET", ":scheme: https", ":authority: a", ":path: /a b"},
		{":method: GET", ":scheme: https", ":authority: a", ":path: /#f"}, {":method: GET", ":scheme: https", ":authority: a", ":path: *"},
		{":method: GET", ":scheme: gopher", ":authority: a", ":path: /"}, {":method: G T", ":scheme: https", ":authority: a", ":path: /"},
		{":method: GET HTTP/1.1\r\nX: y", ":scheme: https", ":authority: a", ":path: /"}, {":method: ", ":scheme: https", ":authority: a", ":path: /"},
		{":method: CONNECT", ":authority: a", ":path: /"}, {":method: GET", ":scheme: https", ":authority: a", ":path: /", ":protocol: websocket"},
		{"x-a: b", ":method: GET", ":scheme: https", ":authority: a", ":path: /"},
	} {
		id := uint32(2*i + 1)
		c.request(id, true, lines...)
		c.refused(id, false)
		if t.Failed() {
			t.Fatalf("%q", lines)
		}
	}
	c.request(1001, true, ":method: HEAD", ":scheme: https", ":authority: a", ":path: /a b")
	c.refused(1001, true)
	c.request(1003, false, ":method: POST", ":scheme: https", ":authority: a", ":path: /a b")
	c.refused(1003, false)

	c = dial(t, s, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10}) // which no text fits into
	c.request(1, true, with("x-a: b\r\nc")...)
	c.refused(1, true)
}

// echo sends back what comes, as it comes, with its trailers.
func echo(_ *message.Context, r *message.Request, w message.Writer) {
	if r.Body == nil {
		_ = w.Head(204, nil, 0)
		return
	}
	for begun := false; ; {
		room := w.Room()
		n, err := r.Body.Read(room)
		if !begun {
			begun = true
			_ = w.Head(200, nil, r.ContentLength)
		}
		if _, werr := w.Write(room[:n]); werr != nil {
			w.Abort()
			return
		}
		_ = w.Flush()
		if errors.Is(err, io.EOF) {
			w.Trailers(r.Body.Trailers())
			return
		}
		if err != nil {
			w.Abort()
			return
		}
	}
}

func TestContentAndTrailersPassBothWays(t *testing.T) {
	c := dial(t, serve(t, echo, nil))
	c.request(1, false, post("expect: 100-continue", "trailer: x-sum")...)
	c.must(c.framer.WriteDataPadded(1, false, []byte("hello "), make([]byte, 200)))
	c.must(c.framer.WriteData(1, false, []byte("world")))
	c.request(1, true, "x-sum: 1", "content-length: 7")
	a := c.await(1)
	if fmt.Sprint(a.interim) != "[100]" || a.status != "200" || string(a.body) != "hello world" || a.trailers["x-sum"] != "1" || len(a.trailers) != 1 {
		t.Errorf("%+v", a)
	}
	c.request(3, false, post("content-length: 5")...)
	c.must(c.framer.WriteData(3, true, []byte("12345")))
	if a := c.await(3); string(a.body) != "12345" || a.fields["content-length"] != "5" {
		t.Errorf("%+v", a)
	}
}

func TestContentThatDisagreesWithItsLengthIsRefused(t *testing.T) {
	whole := func(_ *message.Context, r *message.Request, w message.Writer) {
		if _, err := io.ReadAll(r.Body); err == nil {
			t.Error("the content was whole")
		}
		_ = w.Head(500, nil, 0) // too late
	}
	c := dial(t, serve(t, whole, nil))
	for i, send := range []func(id uint32){
		func(id uint32) { c.must(c.framer.WriteData(id, false, []byte("123456"))) },
		func(id uint32) { c.must(c.framer.WriteData(id, true, []byte("123456"))) },
		func(id uint32) { c.must(c.framer.WriteData(id, true, []byte("1234"))) },
		func(id uint32) { c.request(id, true, "x-trailer: 1") },
	} {
		id := uint32(2*i + 1)
		c.request(id, false, post("content-length: 5")...)
		send(id)
		c.refused(id, false)
	}
}

// Where the answer has begun, the reset is all that can be said.
func TestContentThatDisagreesBehindAnAnswerIsReset(t *testing.T) {
	c := dial(t, serve(t, echo, nil))
	c.request(1, false, post("content-length: 5")...)
	c.must(c.framer.WriteData(1, false, []byte("123")))
	f, err := c.next()
	if head, ok := f.(*http2.MetaHeadersFrame); err != nil || !ok || head.PseudoValue("status") != "200" {
		t.Fatal(f, err)
	}
	c.must(c.framer.WriteData(1, true, []byte("456")))
	if a := c.await(1); !a.cut || a.reset != http2.ErrCodeProtocol || a.status != "" {
		t.Errorf("%+v", a)
	}
}

// A megabyte each way through windows of every size, the smallest too.
func TestFlowControl(t *testing.T) {
	s := serve(t, echo, nil)
	for _, window := range []uint32{1, 1000, 16 << 10, 1 << 20} {
		t.Run(fmt.Sprint(window), func(t *testing.T) {
			c := dial(t, s, http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
			content := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
			if window == 1 {
				content = content[:100]
			}
			c.request(1, false, post()...)
			upload := make(chan error, 1)
			grants := make(chan http2.WindowUpdateFrame, 1<<12)
			go func() { upload <- sendWithin(c, 1, content, grants) }()
			var got []byte
			for ended := false; !ended; {
				f, err := c.framer.ReadFrame()
				c.must(err)
				switch f := f.(type) {
				case *http2.WindowUpdateFrame:
					grants <- *f
				case *http2.DataFrame:
					got = append(got, f.Data()...)
					if ended = f.StreamEnded(); !ended {
						n := uint32(len(f.Data()))
						c.must(c.framer.WriteWindowUpdate(0, n))
						c.must(c.framer.WriteWindowUpdate(1, n))
					}
				case *http2.RSTStreamFrame, *http2.GoAwayFrame:
					t.Fatal(f)
				}
			}
			c.must(<-upload)
			if !bytes.Equal(got, content) {
				t.Fatalf("%d bytes came back of %d", len(got), len(content))
			}
		})
	}
}

// sendWithin keeps to the server's windows, of the stream and of the connection.
func sendWithin(c *client, id uint32, content []byte, grants <-chan http2.WindowUpdateFrame) error {
	conn := http2.NewFramer(c.conn, nil)
	stream, all := uint32(streamWindow), uint32(initialWindow)
	for len(content) > 0 {
		for stream == 0 || all == 0 {
			if f := <-grants; f.StreamID == 0 {
				all += f.Increment
			} else {
				stream += f.Increment
			}
		}
		n := min(uint32(len(content)), stream, all, 16<<10)
		if err := conn.WriteData(id, int(n) == len(content), content[:n]); err != nil {
			return err
		}
		content, stream, all = content[n:], stream-n, all-n
	}
	return nil
}

// fill sends content on streams until there is no window for more, whatever the server does with it, and returns how much that was.
func (c *client) fill(ids ...uint32) (sent int) {
	c.t.Helper()
	windows := map[uint32]uint32{0: initialWindow}
	for _, id := range ids {
		windows[id] = streamWindow
	}
	for {
		c.must(c.framer.WritePing(false, [8]byte{})) // what it grants has come when this is answered
		for answered := false; !answered; {
			f, err := c.framer.ReadFrame()
			c.must(err)
			switch f := f.(type) {
			case *http2.WindowUpdateFrame:
				windows[f.StreamID] += f.Increment
			case *http2.PingFrame:
				answered = f.IsAck()
			}
		}
		before := sent
		for _, id := range ids {
			if n := min(windows[id], windows[0], 16<<10); n > 0 {
				c.must(c.framer.WriteData(id, false, make([]byte, n)))
				windows[id], windows[0], sent = windows[id]-n, windows[0]-n, sent+int(n)
			}
		}
		if sent == before {
			return sent
		}
	}
}

// What connections hold of content that nobody reads is bounded, however many there are: each has a little for sure, and more only where there
// is memory for it, of which a client gets a part. When a connection has ended, what it held is there for others.
func TestConnectionsTogetherHoldLittleThatIsNotRead(t *testing.T) {
	const total = 4 << 20
	memory := fair.NewMemory(total)
	s := serve(t, func(ctx *message.Context, _ *message.Request, _ message.Writer) { <-ctx.Done() }, func(o *ServerOptions) {
		o.Memory, o.BodyIdle = memory, time.Minute
	})
	sent, conns := 0, []*client{}
	for range 24 {
		c := dial(t, s)
		c.request(1, false, post()...)
		n := c.fill(1)
		if sent += n; n < baseWindow {
			t.Errorf("a connection may hold %d bytes", n)
		}
		conns = append(conns, c)
	}
	if most := 24*baseWindow + total/2; sent > most || sent < most/2 {
		t.Errorf("24 connections of one client hold %d bytes, at most %d were expected", sent, most)
	}
	other := dialFrom(t, s, "127.0.0.2")
	other.request(1, false, post()...)
	if n := other.fill(1); n != total/8 {
		t.Errorf("the connection of another client may hold %d bytes", n)
	}

	for _, c := range conns {
		c.conn.Close()
	}
	for late := time.Now().Add(20 * time.Second); memory.Sources() > 1; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("what the connections held is not given back")
		}
	}
	last := dial(t, s)
	last.request(1, false, post()...)
	last.request(3, false, post()...)
	if n := last.fill(1, 3); n != connWindow {
		t.Errorf("a connection may hold %d bytes when there is memory", n)
	}
}

// Fields that somebody behind the client could take for others are not written; trailers of that kind end the stream, so that nobody takes
// what came before them for the whole.
func TestWhatCannotBeWrittenIsNot(t *testing.T) {
	bad := []message.Fields{{{Name: "X", Value: "a\r\nb: c"}}, {{Name: "X", Value: "a\x00"}}, {{Name: "X\r\nb", Value: "a"}}, {{Name: "X y", Value: "a"}}, {{Name: ":status", Value: "a"}}, {{Name: "", Value: "a"}}}
	s := serve(t, func(_ *message.Context, r *message.Request, w message.Writer) {
		for _, fields := range bad {
			if w.Interim(103, fields) == nil || w.Head(200, fields, -1) == nil {
				t.Errorf("%q is written", fields)
			}
			if _, err := w.Tunnel(fields); err == nil {
				t.Errorf("%q is written", fields)
			}
		}
		_ = w.Head(200, nil, -1)
		_, _ = io.WriteString(w, "all")
		w.Trailers(bad[int(r.Target[1]-'0')])
	}, nil)
	c := dial(t, s)
	for i := range bad {
		id := uint32(2*i + 1)
		c.request(id, true, ":method: GET", ":scheme: https", ":authority: localhost", fmt.Sprintf(":path: /%d", i))
		if a := c.await(id); !a.cut || a.trailers != nil {
			t.Errorf("%q: %+v", bad[i], a)
		}
	}
}

// A client that says nothing more, or takes nothing more, in the middle of a body does not hold a handler for ever.
func TestStalledStreamsEnd(t *testing.T) {
	ended := make(chan error, 2)
	s := serve(t, func(_ *message.Context, r *message.Request, w message.Writer) {
		if r.Method == "POST" {
			_, err := io.Copy(io.Discard, r.Body)
			ended <- err
			_ = w.Head(408, nil, 0)
			return
		}
		_ = w.Head(200, nil, 1<<20)
		var err error
		for err == nil {
			_, err = w.Write(make([]byte, 16<<10))
		}
		ended <- err
		w.Abort()
	}, func(o *ServerOptions) { o.BodyIdle = 100 * time.Millisecond })
	c := dial(t, s)
	c.request(1, false, post()...)
	if err := <-ended; err == nil {
		t.Error("a silent upload has ended well")
	}
	c.request(3, true, get...)
	if err := <-ended; err == nil {
		t.Error("a download that nobody takes has ended well")
	}
}

// Nor does a window that is opened byte by byte.
func TestSlowReadersAreCut(t *testing.T) {
	s := serve(t, func(_ *message.Context, _ *message.Request, w message.Writer) {
		_ = w.Head(200, nil, 100_000)
		_, _ = w.Write(make([]byte, 100_000))
	}, func(o *ServerOptions) { o.BodyIdle, o.Rate = 300*time.Millisecond, 1000 })
	c := dial(t, s, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	c.request(1, true, get...)
	for began := time.Now(); time.Since(began) < 10*time.Second; time.Sleep(20 * time.Millisecond) {
		_ = c.framer.WriteWindowUpdate(1, 1)
		if f, err := c.next(); err != nil || f.Header().Type == http2.FrameRSTStream {
			return
		}
	}
	t.Fatal("ten seconds later it still trickles")
}

// Bytes that trickle in do not count as progress.
func TestSlowContentIsCut(t *testing.T) {
	ended := make(chan error, 1)
	s := serve(t, func(_ *message.Context, r *message.Request, w message.Writer) {
		_, err := io.Copy(io.Discard, r.Body)
		ended <- err
		_ = w.Head(408, nil, 0)
	}, func(o *ServerOptions) { o.BodyIdle, o.Rate = 300*time.Millisecond, 1000 })
	c := dial(t, s)
	c.request(1, false, post()...)
	stop := time.After(10 * time.Second)
	for {
		select {
		case err := <-ended:
			if err == nil {
				t.Error("it has ended well")
			}
			return
		case <-stop:
			t.Fatal("ten seconds later it still trickles")
		case <-time.After(50 * time.Millisecond):
			_ = c.framer.WriteData(1, false, []byte("x"))
		}
	}
}

func TestTheClientsResetCancelsTheHandler(t *testing.T) {
	began, ended := make(chan struct{}), make(chan error, 1)
	s := serve(t, func(ctx *message.Context, _ *message.Request, w message.Writer) {
		close(began)
		<-ctx.Done()
		ended <- ctx.Err()
	}, nil)
	c := dial(t, s)
	c.request(1, true, get...)
	<-began
	c.must(c.framer.WriteRSTStream(1, http2.ErrCodeCancel))
	if err := <-ended; err == nil {
		t.Fatal("the context has not ended")
	}
	c.must(c.framer.WritePing(false, [8]byte{1}))
	if f, err := c.next(); err != nil || f.Header().Type != http2.FramePing {
		t.Fatal("the connection has ended with the stream", f, err)
	}
}

func TestAbortedAndPanickingHandlersResetTheirStream(t *testing.T) {
	s := serve(t, func(_ *message.Context, r *message.Request, w message.Writer) {
		switch r.Target {
		case "/panic":
			panic("as the test wants it")
		case "/short":
			_ = w.Head(200, nil, 10)
			_, _ = w.Write([]byte("short"))
		case "/abort":
			_ = w.Head(200, nil, -1)
			_, _ = w.Write([]byte("some"))
			_ = w.Flush()
			w.Abort()
		}
	}, nil)
	c := dial(t, s)
	for i, path := range []string{"/panic", "/short", "/abort", "/nothing"} {
		id := uint32(2*i + 1)
		c.request(id, true, append(get[:3:3], ":path: "+path)...)
		if a := c.await(id); !a.cut || a.reset != http2.ErrCodeInternal {
			t.Errorf("%s: %+v", path, a)
		}
	}
}

func TestAnEarlyAnswerEndsTheRequest(t *testing.T) {
	s := serve(t, func(_ *message.Context, _ *message.Request, w message.Writer) { _ = w.Head(413, nil, 0) }, nil)
	c := dial(t, s)
	c.request(1, false, post()...)
	if a := c.await(1); a.status != "413" {
		t.Fatalf("%+v", a)
	}
	f, err := c.next()
	if reset, ok := f.(*http2.RSTStreamFrame); err != nil || !ok || reset.ErrCode != http2.ErrCodeNo {
		t.Fatal(f, err)
	}
	for range 100 { // what was on its way
		c.must(c.framer.WriteData(1, false, make([]byte, 4<<10)))
	}
	c.request(1, true, "x-trailer: 1")
	c.request(3, true, get...)
	if a := c.await(3); a.status != "413" {
		t.Fatalf("%+v", a)
	}
}

// The last stream may end at the very moment when the connection notices that it is quiet: that is not the end of its idle time.
func TestAQuietConnectionIsIdleFromTheEndOfItsLastStream(t *testing.T) {
	server := NewServer(ServerOptions{
		Handler: handlerFunc(func(_ *message.Context, _ *message.Request, w message.Writer) { _ = w.Head(413, nil, 0) }),
		Header:  time.Minute, Idle: time.Minute, BodyIdle: time.Minute, Head: 64 << 10, Log: slog.New(slog.DiscardHandler),
	})
	server.parkAfter, server.linger = 5*time.Millisecond, 5*time.Millisecond
	s := serveWith(t, server)
	var clients sync.WaitGroup
	for range 20 {
		clients.Go(func() {
			c := dial(t, s)
			for i := range 20 {
				id := uint32(2*i + 1)
				c.request(id, false, post()...)
				if a := c.await(id); a.status != "413" {
					t.Errorf("%+v", a)
				}
				if f, err := c.next(); err != nil || f.Header().Type != http2.FrameRSTStream {
					t.Error(f, err)
					return
				}
			}
		})
	}
	clients.Wait()
}

// The rest of a content that nobody wants finds room while the client reads the answer, and a client that ends it hears of no reset. Neither do
// those whose head is refused hear of it at once.
func TestAnEarlyAnswerLeavesTimeToReadIt(t *testing.T) {
	server := NewServer(ServerOptions{
		Handler: handlerFunc(func(_ *message.Context, _ *message.Request, w message.Writer) { _ = w.Head(413, nil, 0) }),
		Header:  time.Minute, Idle: time.Minute, BodyIdle: time.Minute, Head: 64 << 10, Log: slog.New(slog.DiscardHandler),
	})
	server.linger = time.Hour
	c := dial(t, serveWith(t, server))
	large := "x-large: " + strings.Repeat("x", 65<<10)
	for i, head := range [][]string{post(), post(large), {":method: POST", ":scheme: https", ":authority: a", ":path: /a b"}} {
		id := uint32(2*i + 1)
		block := c.encode(head...)
		first := block[:min(len(block), 16<<10)]
		c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndHeaders: len(first) == len(block)}))
		for rest := block[len(first):]; len(rest) > 0; {
			next := rest[:min(len(rest), 16<<10)]
			rest = rest[len(next):]
			c.must(c.framer.WriteContinuation(id, len(rest) == 0, next))
		}
		for range 28 { // most of a window
			c.must(c.framer.WriteData(id, false, make([]byte, 16<<10)))
		}
		if a := c.await(id); a.status != []string{"413", "431", "400"}[i] || a.cut {
			t.Fatalf("%+v", a)
		}
		for c.room[id] <= 28*16<<10-streamWindow/4 { // the rest as it comes to a quarter
			f, err := c.framer.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			switch f := f.(type) {
			case *http2.WindowUpdateFrame:
				c.room[f.StreamID] += f.Increment
			case *http2.RSTStreamFrame:
				t.Fatalf("stream %d was reset with %v after %d bytes of room", id, f.ErrCode, c.room[id])
			}
		}
		c.must(c.framer.WriteData(id, true, make([]byte, 16<<10)))
	}
	if f, err := c.next(); err != nil || f.Header().StreamID != 5 || f.Header().Type != http2.FrameRSTStream { // the malformed one's alone
		t.Fatal(f, err)
	}
	c.request(9, true, get...)
	if a := c.await(9); a.status != "413" {
		t.Fatalf("%+v", a)
	}
}

func TestHeadsThatAreTooLargeAreRefused(t *testing.T) {
	s := serve(t, hello, func(o *ServerOptions) { o.Head = 8 << 10 })
	c := dial(t, s)
	c.request(1, true, append(get[:4:4], "x-large: "+strings.Repeat("x", 9<<10))...)
	if a := c.await(1); a.status != "431" {
		t.Errorf("large: %+v", a)
	}
	many := get[:4:4]
	for i := range 201 {
		many = append(many, fmt.Sprintf("x-%d: y", i))
	}
	c.request(3, true, many...)
	if a := c.await(3); a.status != "431" {
		t.Errorf("many: %+v", a)
	}
	c.request(5, true, get...)
	if a := c.await(5); a.status != "200" {
		t.Errorf("after: %+v", a)
	}
}

// A block says at most twice how large the table is: more is only work.
func TestATableDoesNotChangeItsSizeForFun(t *testing.T) {
	s := serve(t, hello, nil)
	for n, want := range map[int]bool{0: true, 1: true, 2: true, 3: false, 4000: false} {
		c := dial(t, s)
		block := append(bytes.Repeat([]byte{0x3f, 0xe1, 0x1f}, n), c.encode(get...)...)
		c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndStream: true, EndHeaders: true}))
		if want {
			if a := c.await(1); a.status != "200" {
				t.Errorf("%d: %+v", n, a)
			}
		} else if code, said := c.goneWith(); !said || code != http2.ErrCodeCompression {
			t.Errorf("%d: ended with %v", n, code)
		}
	}
}

// flood writes until the server has enough of it, and returns how much the heap has grown meanwhile.
func flood(t *testing.T, s *running, settings []http2.Setting, write func(c *client, i int) error) (code http2.ErrCode, said bool, grown int64) {
	t.Helper()
	c := dial(t, s, settings...)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	gone := make(chan struct{})
	c.silent = true
	go func() {
		defer close(gone)
		code, said = c.goneWith()
	}()
	c.must(c.conn.SetWriteDeadline(time.Now().Add(20 * time.Second)))
	over := false
	for i := 0; !over && i < 200_000; i++ {
		over = write(c, i) != nil
		select {
		case <-gone:
			over = true
		default:
		}
	}
	runtime.ReadMemStats(&after)
	if !over {
		t.Error("200,000 times was not enough")
		c.conn.Close()
	}
	<-gone
	return code, said, int64(after.HeapAlloc) - int64(before.HeapAlloc)
}

func TestFloodsAreCutOff(t *testing.T) {
	s := serve(t, func(ctx *message.Context, r *message.Request, w message.Writer) {
		if r.Target == "/slow" {
			<-ctx.Done()
			return
		}
		hello(ctx, r, w)
	}, nil)
	raw := func(c *client, kind http2.FrameType, flags http2.Flags, id uint32, payload []byte) error {
		return c.framer.WriteRawFrame(kind, flags, id, payload)
	}
	for name, write := range map[string]func(c *client, i int) error{
		"rapid reset": func(c *client, i int) error {
			id := uint32(2*i + 1)
			c.block.Reset()
			block := c.encode(append(get[:3:3], ":path: /slow")...)
			if err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndStream: true, EndHeaders: true}); err != nil {
				return err
			}
			return c.framer.WriteRSTStream(id, http2.ErrCodeCancel)
		},
		"made you reset": func(c *client, i int) error {
			id := uint32(2*i + 1)
			block := c.encode(append(get[:3:3], ":path: /slow")...)
			if err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndStream: true, EndHeaders: true}); err != nil {
				return err
			}
			return raw(c, http2.FrameWindowUpdate, 0, id, []byte{0, 0, 0, 0})
		},
		"refused streams": func(c *client, i int) error {
			block := c.encode(append(get[:3:3], ":path: /slow")...)
			return c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: block, EndStream: true, EndHeaders: true})
		},
		"malformed requests": func(c *client, i int) error {
			block := c.encode(append(get[:4:4], "connection: close")...)
			return c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: block, EndStream: true, EndHeaders: true})
		},
		"PING":              func(c *client, _ int) error { return c.framer.WritePing(false, [8]byte{}) },
		"PING without need": func(c *client, _ int) error { return c.framer.WritePing(true, [8]byte{}) },
		"SETTINGS": func(c *client, i int) error {
			return c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(i % 1000)})
		},
		"SETTINGS without need": func(c *client, _ int) error { return c.framer.WriteSettingsAck() },
		"PRIORITY": func(c *client, _ int) error {
			return c.framer.WritePriority(1, http2.PriorityParam{StreamDep: 3})
		},
		"WINDOW_UPDATE": func(c *client, i int) error {
			if i == 0 {
				c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encode(append(get[:3:3], ":path: /slow")...), EndStream: true, EndHeaders: true}))
			}
			return c.framer.WriteWindowUpdate(1, 1)
		},
		"empty DATA": func(c *client, i int) error {
			if i == 0 {
				c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encode(append(get[:3:3], ":path: /slow")...), EndHeaders: true}))
			}
			return c.framer.WriteData(1, false, nil)
		},
		"unknown frames": func(c *client, _ int) error { return raw(c, 0xfa, 0, 0, make([]byte, 1000)) },
		"CONTINUATION": func(c *client, i int) error {
			if i == 0 {
				return c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encode(get...), EndStream: true})
			}
			return c.framer.WriteContinuation(1, false, c.encode("x-"+fmt.Sprint(i)+": "+strings.Repeat("x", 100)))
		},
		"empty CONTINUATION": func(c *client, i int) error {
			if i == 0 {
				return c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encode(get...), EndStream: true})
			}
			return c.framer.WriteContinuation(1, false, nil)
		},
		"HPACK bomb": func(c *client, i int) error { // 16 KiB that mean 64 MiB
			block := c.encode(append(get[:4:4], "x-bomb: "+strings.Repeat("x", 4000))...)
			return c.framer.WriteHeaders(http2.HeadersFrameParam{
				StreamID: uint32(2*i + 1), BlockFragment: append(block, bytes.Repeat([]byte{0xbe}, 12<<10)...), EndStream: true, EndHeaders: true,
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			code, said, grown := flood(t, s, nil, write)
			if said && code != http2.ErrCodeEnhanceYourCalm {
				t.Errorf("cut off with %v", code)
			}
			if grown > 32<<20 {
				t.Errorf("the heap has grown by %d MiB", grown>>20)
			}
			c := dial(t, s)
			c.request(1, true, get...)
			if a := c.await(1); a.status != "200" {
				t.Errorf("another client gets %+v", a)
			}
		})
	}
}

// A client that asks for answers and does not read them is not read any further.
func TestAClientThatDoesNotReadIsHeldBack(t *testing.T) {
	s := serve(t, hello, func(o *ServerOptions) { o.BodyIdle = 500 * time.Millisecond })
	c := dial(t, s)
	_ = c.conn.(*net.TCPConn).SetReadBuffer(1 << 10)
	c.must(c.conn.SetWriteDeadline(time.Now().Add(20 * time.Second)))
	var err error
	for id := uint32(1); err == nil && id < 2_000_000; id += 2 {
		err = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.encode(get...), EndStream: true, EndHeaders: true})
	}
	if err == nil {
		t.Fatal("a million requests were taken without anybody reading an answer")
	}
}

func TestNoMoreHandlersThanStreamsRun(t *testing.T) {
	var now, most atomic.Int32
	release := make(chan struct{})
	s := serve(t, func(ctx *message.Context, r *message.Request, w message.Writer) {
		n := now.Add(1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		<-release // does not even notice that its client has gone
		now.Add(-1)
		hello(ctx, r, w)
	}, nil)
	c := dial(t, s)
	for i := range 150 {
		id := uint32(2*i + 1)
		c.request(id, true, get...)
		if i < 150-60 {
			c.must(c.framer.WriteRSTStream(id, http2.ErrCodeCancel))
		}
	}
	c.must(c.framer.WritePing(false, [8]byte{1}))
	if f, err := c.next(); err != nil || f.Header().Type != http2.FramePing {
		t.Fatal(f, err)
	}
	close(release)
	answered := map[uint32]bool{}
	for len(answered) < 60 {
		f, err := c.next()
		c.must(err)
		if f.Header().Flags.Has(http2.FlagDataEndStream) {
			answered[f.Header().StreamID] = true
		}
	}
	if most.Load() > maxStreams {
		t.Fatalf("%d handlers have run at once", most.Load())
	}
}

func TestShutdownTakesWhatIsOnItsWay(t *testing.T) {
	began, release := make(chan struct{}, 2), make(chan struct{})
	s := serve(t, func(ctx *message.Context, r *message.Request, w message.Writer) {
		began <- struct{}{}
		<-release
		hello(ctx, r, w)
	}, nil)
	c := dial(t, s)
	c.request(1, true, get...)
	<-began
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(context.Background()) }()
	f, err := c.next()
	c.must(err)
	if g, ok := f.(*http2.GoAwayFrame); !ok || g.ErrCode != http2.ErrCodeNo || g.LastStreamID != 1<<31-1 {
		t.Fatal("first", f)
	}
	f, err = c.next()
	c.must(err)
	ping, ok := f.(*http2.PingFrame)
	if !ok {
		t.Fatal("second", f)
	}
	c.request(3, true, get...) // has crossed the GOAWAY
	<-began
	c.must(c.framer.WritePing(true, ping.Data))
	f, err = c.next()
	c.must(err)
	if g, ok := f.(*http2.GoAwayFrame); !ok || g.LastStreamID != 3 {
		t.Fatal("third", f)
	}
	// What is too late is no fault of the client's, and others wait for their answers.
	c.request(5, true, get...)
	c.request(7, false, post()...)
	c.must(c.framer.WriteData(7, false, make([]byte, 1000)))
	c.must(c.framer.WriteWindowUpdate(7, 1000))
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 7, BlockFragment: c.encode("x-trailer: a"), EndStream: true, EndHeaders: true}))
	c.must(c.framer.WriteRSTStream(7, http2.ErrCodeCancel))
	c.must(c.framer.WritePing(false, [8]byte{1}))
	f, err = c.next()
	c.must(err)
	if p, ok := f.(*http2.PingFrame); !ok || !p.IsAck() {
		t.Fatal("what is too late ends the connection: ", f)
	}
	close(release)
	answered := map[uint32]bool{}
	for {
		f, err := c.next()
		if err != nil {
			break
		}
		if f.Header().Type == http2.FrameData && f.Header().Flags.Has(http2.FlagDataEndStream) {
			answered[f.Header().StreamID] = true
		}
	}
	if !answered[1] || !answered[3] || answered[5] {
		t.Fatalf("answered: %v", answered)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func TestWebSocketsAreTunnelled(t *testing.T) {
	s := serve(t, func(_ *message.Context, r *message.Request, w message.Writer) {
		if r.Upgrade != "websocket" || r.Method != "GET" || r.Target != "/chat" || r.Body != nil {
			t.Errorf("%+v", r)
		}
		answer := message.Fields{{Name: "Sec-WebSocket-Protocol", Value: "chat"}, {Name: "Sec-WebSocket-Accept", Value: message.WebSocketAccept(r.Fields.Value("Sec-WebSocket-Key"))}}
		if r.Fields.Value("X-Forge") != "" {
			answer[1].Value = "dGhlIHNhbXBsZSBub25jZQ=="
		}
		tunnel, err := w.Tunnel(answer)
		if answer[1].Value == "dGhlIHNhbXBsZSBub25jZQ==" {
			if err == nil {
				t.Error("a forged Sec-WebSocket-Accept has passed")
			}
			w.Abort()
			return
		}
		if err != nil {
			t.Error(err)
			return
		}
		defer tunnel.Close()
		_, _ = io.Copy(struct{ io.Writer }{tunnel}, struct{ io.Reader }{tunnel})
		_ = tunnel.CloseWrite()
	}, nil)
	c := dial(t, s)
	c.request(1, false, ":method: CONNECT", ":protocol: websocket", ":scheme: https", ":authority: localhost", ":path: /chat")
	c.must(c.framer.WriteData(1, false, []byte("to and ")))
	c.must(c.framer.WriteData(1, true, []byte("fro")))
	a := c.await(1)
	c.request(3, false, ":method: CONNECT", ":protocol: websocket", ":scheme: https", ":authority: localhost", ":path: /chat", "x-forge: 1")
	if forged := c.await(3); !forged.cut {
		t.Errorf("%+v", forged)
	}
	if a.status != "200" || string(a.body) != "to and fro" || a.fields["sec-websocket-protocol"] != "chat" || a.fields["sec-websocket-accept"] != "" {
		t.Fatalf("%+v", a)
	}
}
