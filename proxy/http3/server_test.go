package http3

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"padlock/internal/fair"
	"padlock/internal/servicetest"
	"padlock/proxy/message"
	"padlock/traffic"
)

// handlerFunc is a function as a handler.
type handlerFunc func(ctx *message.Context, r *message.Request, w message.Writer)

func (f handlerFunc) Serve(ctx *message.Context, r *message.Request, w message.Writer) { f(ctx, r, w) }

// echo answers with the content that has come, and says in fields what else has.
func echo(_ *message.Context, r *message.Request, w message.Writer) {
	var content []byte
	var err error
	var trailers message.Fields
	if r.Body != nil {
		if content, err = io.ReadAll(r.Body); err != nil {
			w.Abort()
			return
		}
		trailers = r.Body.Trailers()
	}
	_ = w.Head(200, message.Fields{{Name: "Seen", Value: fmt.Sprint(r.Method, " ", r.Host, " ", r.Target, " ", r.ContentLength, " ", r.Fields, " ", trailers)}}, int64(len(content)))
	_, _ = w.Write(content)
}

type running struct {
	server  *Server
	address string
	mu      sync.Mutex
	cuts    []traffic.Reason
}

func (r *running) cut(why traffic.Reason, _ netip.Addr, _ string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cuts = append(r.cuts, why)
}

func run(t *testing.T, h message.Handler, change func(*ServerOptions)) *running {
	t.Helper()
	secure := httptest.NewTLSServer(nil) // for its certificate
	secure.Close()
	settings := &quic.Config{}
	Configure(settings, 100, nil)
	listener, err := quic.ListenAddr("127.0.0.1:0", &tls.Config{Certificates: secure.TLS.Certificates, NextProtos: []string{Protocol}}, settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	r := &running{address: listener.Addr().String()}
	o := ServerOptions{
		Handler: h, Idle: time.Minute, Header: 10 * time.Second, BodyIdle: 10 * time.Second, Head: 16 << 10, Rejected: r.cut, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&o)
	}
	r.server = NewServer(o)
	go func() {
		for {
			conn, err := listener.Accept(context.Background())
			if err != nil {
				return
			}
			facts := &message.Conn{}
			go r.server.ServeConn(conn, facts, func() *message.Conn { return facts })
		}
	}()
	return r
}

// dial makes a connection, on which nothing has been said.
func (r *running) dial(t *testing.T) *quic.Conn {
	t.Helper()
	conn, err := quic.DialAddr(t.Context(), r.address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{Protocol}}, servicetest.Patient(nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseWithError(0x100, "") })
	return conn
}

func frame(kind uint64, content ...byte) []byte {
	return append(appendFrame(nil, kind, len(content)), content...)
}

func headers(pairs ...string) []byte {
	var encoded bytes.Buffer
	encoder := qpack.NewEncoder(&encoded)
	for i := 0; i < len(pairs); i += 2 {
		_ = encoder.WriteField(qpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return frame(frameHeaders, encoded.Bytes()...)
}

func asking(method string, more ...string) []byte {
	return headers(append([]string{":method", method, ":scheme", "https", ":authority", "a", ":path", "/"}, more...)...)
}

// answer reads a stream to its end.
type answer struct {
	status  []string
	fields  message.Fields // of the last head
	content []byte
	err     error
}

func read(q io.Reader) (a answer) {
	r := reader{source: q, buf: make([]byte, 100)}
	for {
		kind, err := r.frame()
		if errors.Is(err, io.EOF) {
			return a
		}
		var content []byte
		if err == nil {
			content, err = r.whole(1 << 30)
		}
		if a.err = err; err != nil {
			return a
		}
		if kind == frameData {
			a.content = append(a.content, content...)
			continue
		}
		a.fields = nil
		for next := qpack.NewDecoder().Decode(content); ; {
			f, err := next()
			if err != nil {
				break
			}
			if f.Name == ":status" {
				a.status = append(a.status, f.Value)
			} else {
				a.fields.Add(f.Name, f.Value)
			}
		}
	}
}

// say opens a stream, and says some bytes and no more.
func say(t *testing.T, conn *quic.Conn, text ...[]byte) *quic.Stream {
	t.Helper()
	q, err := conn.OpenStreamSync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = q.Write(slices.Concat(text...))
	_ = q.Close()
	_ = q.SetReadDeadline(time.Now().Add(20 * time.Second))
	return q
}

func ended(t *testing.T, conn *quic.Conn) code {
	t.Helper()
	select {
	case <-conn.Context().Done():
	case <-time.After(10 * time.Second):
		t.Error("the connection is still open")
		return 0
	}
	var application *quic.ApplicationError
	if err := context.Cause(conn.Context()); !errors.As(err, &application) || !application.Remote {
		t.Errorf("it ended with %v", err)
		return 0
	}
	return code(application.ErrorCode)
}

// What is well formed is served, whatever else a client may say beside it.
func TestRequestsAreRead(t *testing.T) {
	r := run(t, handlerFunc(echo), nil)
	data, grease := frame(frameData, []byte("content")...), frame(0x1f*7+0x21, 1, 2, 3)
	for name, c := range map[string]struct {
		frames [][]byte
		want   string
		status string
	}{
		"without content":               {[][]byte{asking("GET")}, "GET a / 0 [] []", "200"},
		"content":                       {[][]byte{asking("POST"), data, data}, "POST a / -1 [] []contentcontent", "200"},
		"content of a length":           {[][]byte{asking("POST", "content-length", "14"), data, data}, "POST a / 14 [] []contentcontent", "200"},
		"a GET with content":            {[][]byte{asking("GET"), data}, "GET a / -1 [] []content", "200"},
		"trailers":                      {[][]byte{asking("POST"), data, headers("x-sum", "1", "content-length", "5")}, "POST a / -1 [] [{x-sum 1}]content", "200"},
		"frames that mean nothing":      {[][]byte{grease, asking("POST"), grease, data, grease, headers("x", "y"), grease}, "POST a / -1 [] [{x y}]content", "200"},
		"empty frames":                  {[][]byte{asking("POST"), frame(frameData), data, frame(frameData)}, "POST a / -1 [] []content", "200"},
		"fields in their order":         {[][]byte{asking("GET", "b", "1", "a", "2", "b", "3")}, "GET a / 0 [{b 1} {a 2} {b 3}] []", "200"},
		"cookies":                       {[][]byte{asking("GET", "cookie", "a=1", "cookie", "b=2")}, "GET a / 0 [{cookie a=1; b=2}] []", "200"},
		"an escape that is none":        {[][]byte{headers(":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/%zz")}, "GET a /%zz 0 [] []", "200"},
		"a length that is announced":    {[][]byte{asking("GET", "content-length", "0")}, "GET a / 0 [] []", "200"},
		"too many fields":               {[][]byte{asking("GET", strings.Split(strings.Repeat("x,y,", 201), ",")[:402]...)}, "The request's fields are too large, or too many\n", "431"},
		"too large":                     {[][]byte{asking("GET", "x", strings.Repeat("y", 17<<10))}, "The request's fields are too large, or too many\n", "431"},
		"far too large, and not all of": {[][]byte{appendFrame(nil, frameHeaders, 1<<29), make([]byte, 100)}, "The request's fields are too large, or too many\n", "431"},
	} {
		for _, size := range []int{1 << 20, 1} {
			t.Run(fmt.Sprintf("%s, %d", name, size), func(t *testing.T) {
				t.Parallel()
				conn := r.dial(t)
				q, err := conn.OpenStreamSync(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				text := slices.Concat(c.frames...)
				if size == 1 && len(text) > 2000 {
					size = 1000
				}
				for piece := range slices.Chunk(text, size) {
					_, _ = q.Write(piece)
				}
				_ = q.Close()
				_ = q.SetReadDeadline(time.Now().Add(20 * time.Second))
				got := read(q)
				if got.err != nil || len(got.status) != 1 || got.status[0] != c.status || got.fields.Value("seen")+string(got.content) != c.want {
					t.Errorf("%+v", got)
				}
			})
		}
	}
}

// Requests that are none are ended with their stream, and what breaks the rules of HTTP/3 ends the connection, with the code that the
// RFCs name.
func TestWhatBreaksTheRulesEndsAStreamOrTheConnection(t *testing.T) {
	get, data := asking("GET"), frame(frameData, 'x')
	settings := append([]byte{uniControl}, frame(frameSettings)...)
	number := func(kind uint64, n uint64) []byte { return frame(kind, quicvarint.Append(nil, n)...) }
	control := func(frames ...[]byte) []byte {
		return append(settings[:len(settings):len(settings)], slices.Concat(frames...)...)
	}
	const request, uni = false, true
	for name, c := range map[string]struct {
		uni    bool
		frames [][]byte
		stream code
		conn   code
	}{
		"nothing":                              {request, nil, codeIncomplete, 0},
		"half a head":                          {request, [][]byte{get[:5]}, 0, codeFrame},
		"half a frame of content":              {request, [][]byte{asking("POST"), frame(frameData, 1, 2, 3)[:3]}, 0, codeFrame},
		"half a length":                        {request, [][]byte{get, {0, 0x40}}, 0, codeFrame},
		"content first":                        {request, [][]byte{data, get}, 0, codeFrameUnexpected},
		"settings on a request":                {request, [][]byte{frame(frameSettings)}, 0, codeFrameUnexpected},
		"settings behind a head":               {request, [][]byte{get, frame(frameSettings)}, 0, codeFrameUnexpected},
		"a push":                               {request, [][]byte{get, frame(framePushPromise, 0)}, 0, codeFrameUnexpected},
		"a frame of HTTP/2":                    {request, [][]byte{asking("POST"), frame(0x8)}, 0, codeFrameUnexpected},
		"a frame of HTTP/2 first":              {request, [][]byte{frame(0x6), get}, 0, codeFrameUnexpected},
		"three heads":                          {request, [][]byte{asking("POST"), headers("a", "b"), headers("c", "d")}, 0, codeFrameUnexpected},
		"content behind trailers":              {request, [][]byte{asking("POST"), headers("a", "b"), data}, 0, codeFrameUnexpected},
		"a priority on a request":              {request, [][]byte{get, number(framePriorityUpdate, 0)}, 0, codeFrameUnexpected},
		"no fields at all":                     {request, [][]byte{frame(frameHeaders)}, 0, codeDecompression},
		"a table that there is not":            {request, [][]byte{frame(frameHeaders, 1, 0, 0x80)}, 0, codeDecompression},
		"an entry that there is not":           {request, [][]byte{frame(frameHeaders, 0, 0, 0xff, 0x40)}, 0, codeDecompression},
		"another scheme":                       {request, [][]byte{headers(":method", "GET", ":scheme", "ftp", ":authority", "a", ":path", "/")}, codeMessage, 0},
		"no path":                              {request, [][]byte{headers(":method", "GET", ":scheme", "https", ":authority", "a")}, codeMessage, 0},
		"an upper case":                        {request, [][]byte{asking("GET", "A", "b")}, codeMessage, 0},
		"less than announced":                  {request, [][]byte{asking("POST", "content-length", "2"), data}, codeMessage, 0},
		"more than announced":                  {request, [][]byte{asking("POST", "content-length", "1"), data, data}, codeMessage, 0},
		"more than nothing":                    {request, [][]byte{asking("GET", "content-length", "0"), data}, codeMessage, 0},
		"pseudo-fields behind":                 {request, [][]byte{asking("POST"), headers(":path", "/")}, codeMessage, 0},
		"no settings":                          {uni, [][]byte{{uniControl}, number(frameGoAway, 0)}, 0, codeMissingSettings},
		"settings again":                       {uni, [][]byte{control(frame(frameSettings))}, 0, codeFrameUnexpected},
		"settings of HTTP/2":                   {uni, [][]byte{{uniControl}, frame(frameSettings, 4, 1)}, 0, codeSettings},
		"a setting twice":                      {uni, [][]byte{{uniControl}, frame(frameSettings, 6, 1, 6, 1)}, 0, codeSettings},
		"half a setting":                       {uni, [][]byte{{uniControl}, frame(frameSettings, 6)}, 0, codeFrame},
		"endless settings":                     {uni, [][]byte{{uniControl}, appendFrame(nil, frameSettings, 1<<29)}, 0, codeFrame},
		"a request where none may be":          {uni, [][]byte{control(get)}, 0, codeFrameUnexpected},
		"no more control":                      {uni, [][]byte{settings, {}}, 0, codeClosedCritical},
		"pushes that become fewer":             {uni, [][]byte{control(number(frameMaxPushID, 5), number(frameMaxPushID, 4))}, 0, codeID},
		"a push that was not promised":         {uni, [][]byte{control(number(frameCancelPush, 5))}, 0, codeID},
		"a priority of a push":                 {uni, [][]byte{control(number(framePriorityOfPush, 0))}, 0, codeID},
		"a priority of no request":             {uni, [][]byte{control(number(framePriorityUpdate, 1))}, 0, codeID},
		"a long farewell":                      {uni, [][]byte{control(frame(frameGoAway, 1, 2))}, 0, codeFrame},
		"our push":                             {uni, [][]byte{{uniPush, 0}}, 0, codeStreamCreation},
		"a table for us":                       {uni, [][]byte{{uniEncoder, 0x3f, 0x01}}, 0, codeQPACKEncoderStream},
		"an acknowledgement of what never was": {uni, [][]byte{{uniDecoder, 0x80}}, 0, codeQPACKDecoderStream},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := run(t, handlerFunc(echo), nil)
			conn := r.dial(t)
			if c.uni {
				q, err := conn.OpenUniStreamSync(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				_, _ = q.Write(slices.Concat(c.frames...))
				if len(c.frames) > 1 && len(c.frames[len(c.frames)-1]) == 0 {
					_ = q.Close()
				}
				if got := ended(t, conn); got != c.conn {
					t.Errorf("ended by %#x, not %#x", got, c.conn)
				}
				return
			}
			got := read(say(t, conn, c.frames...))
			if c.stream == codeMessage { // answered, as a client that saw a reset alone would send it again (RFC 9114 section 4.1.2)
				if got.err != nil || len(got.status) != 1 || got.status[0] != "400" || !strings.HasPrefix(string(got.content), "The request is malformed: ") {
					t.Errorf("%+v, %s", got, got.content)
				}
				return
			}
			if c.conn != 0 {
				if got := ended(t, conn); got != c.conn {
					t.Errorf("ended by %#x, not %#x", got, c.conn)
				}
				return
			}
			var reset *quic.StreamError
			if !errors.As(got.err, &reset) || code(reset.ErrorCode) != c.stream {
				t.Errorf("%+v, not %#x", got, c.stream)
			}
			if fine := read(say(t, conn, get)); fine.err != nil || fine.status[0] != "200" {
				t.Errorf("afterwards: %+v", fine)
			}
		})
	}
}

// What HTTP/3 leaves open to those who come later is left alone.
func TestStreamsThatMeanNothingAreLeftAlone(t *testing.T) {
	r := run(t, handlerFunc(echo), nil)
	conn := r.dial(t)
	number := func(kind uint64, n ...uint64) []byte {
		var content []byte
		for _, n := range n {
			content = quicvarint.Append(content, n)
		}
		return frame(kind, content...)
	}
	for _, text := range [][]byte{
		slices.Concat([]byte{uniControl}, frame(frameSettings, 0x21, 5, 8, 1, 0x33, 1), frame(0x21, 1, 2), number(frameMaxPushID, 4), number(framePriorityUpdate, 0), number(frameGoAway, 0), number(frameMaxPushID, 4)),
		{uniEncoder, 0x20}, {uniDecoder, 0x41, 0x7f, 0x80, 0x01, 0x42}, {0x21, 1, 2, 3}, {0x40, 0x54, 1},
	} {
		q, err := conn.OpenUniStreamSync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = q.Write(text)
	}
	for range 2 * maxUni { // they may be ever so many, one after the other
		q, err := conn.OpenUniStreamSync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = q.Write([]byte{0x21})
		_ = q.Close()
	}
	time.Sleep(100 * time.Millisecond)
	if got := read(say(t, conn, asking("GET"))); got.err != nil {
		t.Errorf("%+v", got)
	}
	if len(r.cuts) > 0 {
		t.Error(r.cuts)
	}
}

// unwritable are fields that somebody behind the client could take for others.
var unwritable = []message.Fields{{{Name: "X", Value: "a\r\nb: c"}}, {{Name: "X", Value: "a\x00"}}, {{Name: "X\r\nb", Value: "a"}}, {{Name: "X y", Value: "a"}}, {{Name: ":status", Value: "a"}}, {{Name: "", Value: "a"}}}

// Trailers that cannot be written end the response, so that nobody takes it for whole.
func TestTrailersThatCannotBeWrittenCutTheResponse(t *testing.T) {
	for _, bad := range unwritable {
		r := run(t, handlerFunc(func(_ *message.Context, r *message.Request, w message.Writer) {
			_ = w.Head(200, nil, -1)
			_, _ = io.WriteString(w, "all")
			w.Trailers(bad)
		}), nil)
		if got := read(say(t, r.dial(t), asking("GET"))); got.err == nil {
			t.Errorf("%q: %+v", bad, got)
		}
	}
}

// Interim responses come before the final one, 100 among them, and trailers behind the content. What a response must not have is left out.
func TestResponsesAreWritten(t *testing.T) {
	r := run(t, handlerFunc(func(_ *message.Context, r *message.Request, w message.Writer) {
		_ = w.Interim(103, message.Fields{{Name: "Link", Value: "</x>"}, {Name: "Connection", Value: "close"}})
		content, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		for _, bad := range unwritable {
			if w.Interim(103, bad) == nil || w.Head(200, bad, -1) == nil {
				t.Errorf("%q is written", bad)
			}
		}
		_ = w.Head(200, message.Fields{{Name: "X-Large", Value: strings.Repeat("y", 5000)}, {Name: "Transfer-Encoding", Value: "chunked"}}, -1)
		for range 5 {
			n := copy(w.Room(), content)
			_, _ = w.Write(w.Room()[:n])
			_, _ = w.Write(content)
		}
		w.Trailers(message.Fields{{Name: "Sum", Value: "1"}})
	}), nil)
	content := bytes.Repeat([]byte("0123456789abcdef"), 2000)
	got := read(say(t, r.dial(t), asking("POST", "expect", "100-continue"), frame(frameData, content...)))
	if got.err != nil || !slices.Equal(got.status, []string{"103", "100", "200"}) || !bytes.Equal(got.content, bytes.Repeat(content, 10)) {
		t.Errorf("%v, %d bytes, %v", got.status, len(got.content), got.err)
	}
	if want := (message.Fields{{Name: "sum", Value: "1"}}); !slices.Equal(got.fields, want) {
		t.Errorf("trailers %v", got.fields)
	}
	r = run(t, handlerFunc(func(_ *message.Context, r *message.Request, w message.Writer) {
		_ = w.Head(200, message.Fields{{Name: "X", Value: "a  b: c"}, {Name: "Date", Value: "then"}, {Name: "Keep-Alive", Value: "x"}, {Name: "Content-Length", Value: "99"}}, 2)
		_, _ = w.Write([]byte("ab"))
	}), nil)
	want := message.Fields{{Name: "x", Value: "a  b: c"}, {Name: "date", Value: "then"}, {Name: "content-length", Value: "2"}}
	if got := read(say(t, r.dial(t), asking("GET"))); !slices.Equal(got.fields, want) || string(got.content) != "ab" {
		t.Errorf("%+v", got)
	}
}

// A response that is not whole is seen to be cut.
func TestResponsesThatAreCut(t *testing.T) {
	for name, serve := range map[string]handlerFunc{
		"too little": func(_ *message.Context, _ *message.Request, w message.Writer) {
			_ = w.Head(200, nil, 10)
			_, _ = w.Write([]byte("half"))
		},
		"too much": func(_ *message.Context, _ *message.Request, w message.Writer) {
			_ = w.Head(200, nil, 3)
			_, _ = w.Write([]byte("half"))
		},
		"given up": func(_ *message.Context, _ *message.Request, w message.Writer) {
			_ = w.Head(200, nil, -1)
			_, _ = w.Write([]byte("half"))
			w.Abort()
		},
		"nothing": func(*message.Context, *message.Request, message.Writer) {},
		"lost":    func(*message.Context, *message.Request, message.Writer) { panic("lost") },
	} {
		t.Run(name, func(t *testing.T) {
			conn := run(t, serve, nil).dial(t)
			var reset *quic.StreamError
			if got := read(say(t, conn, asking("GET"))); !errors.As(got.err, &reset) || code(reset.ErrorCode) != codeInternal {
				t.Errorf("%+v", got)
			}
		})
	}
}

// Heads that do not come end their stream, however many a client begins, and whatever else it does meanwhile.
func TestSlowHeadsAreCut(t *testing.T) {
	r := run(t, handlerFunc(echo), func(o *ServerOptions) { o.Header = 300 * time.Millisecond })
	conn := r.dial(t)
	began := time.Now()
	var slow []*quic.Stream
	for i := range 50 {
		q, err := conn.OpenStreamSync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = q.Write(asking("GET")[:1+i%5])
		slow = append(slow, q)
	}
	if got := read(say(t, conn, asking("GET"))); got.err != nil {
		t.Error(got.err)
	}
	for _, q := range slow {
		_ = q.SetReadDeadline(began.Add(10 * time.Second))
		var reset *quic.StreamError
		if _, err := q.Read(make([]byte, 1)); !errors.As(err, &reset) || code(reset.ErrorCode) != codeIncomplete {
			t.Fatalf("a slow head ended with %v", err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.cuts) != 50 || r.cuts[0] != traffic.SlowHeader {
		t.Errorf("cut for %v", r.cuts)
	}
}

// Frames and streams that nothing comes of end the connection when they are too many.
func TestFloodsAreCutOff(t *testing.T) {
	flood := func(name string, why traffic.Reason, do func(t *testing.T, conn *quic.Conn)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := run(t, handlerFunc(echo), func(o *ServerOptions) { o.NoopFrames, o.Resets = 100, 50 })
			conn := r.dial(t)
			do(t, conn)
			if got := ended(t, conn); got != codeExcessiveLoad {
				t.Errorf("ended by %#x", got)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if !slices.Contains(r.cuts, why) {
				t.Errorf("cut for %v", r.cuts)
			}
		})
	}
	requests := func(begin []byte, next []byte) func(*testing.T, *quic.Conn) {
		return func(t *testing.T, conn *quic.Conn) {
			q, err := conn.OpenStreamSync(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, _ = q.Write(begin)
			for range 1000 {
				if _, err := q.Write(next); err != nil {
					break
				}
			}
		}
	}
	flood("empty content", traffic.NoopFrames, requests(asking("POST"), frame(frameData)))
	flood("frames that mean nothing", traffic.NoopFrames, requests(nil, frame(0x21)))
	flood("frames that mean nothing behind a head", traffic.NoopFrames, requests(asking("POST"), frame(0x21, 'x')))
	flood("a frame without end", traffic.NoopFrames, requests(appendFrame(nil, 0x21, 1<<29), make([]byte, 4<<10)))
	flood("priorities", traffic.NoopFrames, func(t *testing.T, conn *quic.Conn) {
		q, err := conn.OpenUniStreamSync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = q.Write(append([]byte{uniControl}, frame(frameSettings)...))
		for range 1000 {
			if _, err := q.Write(frame(framePriorityUpdate, 0, 'i')); err != nil {
				break
			}
		}
	})
	flood("streams that mean nothing", traffic.NoopFrames, func(t *testing.T, conn *quic.Conn) {
		for range 1000 {
			q, err := conn.OpenUniStreamSync(t.Context())
			if err != nil {
				break
			}
			_, _ = q.Write([]byte{0x21})
			_ = q.Close()
		}
	})
	streams := func(frames []byte, reset bool) func(*testing.T, *quic.Conn) {
		return func(t *testing.T, conn *quic.Conn) {
			for range 1000 {
				q, err := conn.OpenStreamSync(t.Context())
				if err != nil {
					break
				}
				_, _ = q.Write(frames)
				if reset {
					q.CancelWrite(0x10c)
					q.CancelRead(0x10c)
				} else {
					_ = q.Close()
				}
			}
		}
	}
	flood("resets without a head", traffic.Resets, streams([]byte{frameHeaders}, true))
	flood("malformed requests", traffic.Resets, streams(asking("GET", "A", "b"), false))
	flood("heads that are too large", traffic.Resets, streams(asking("GET", "x", strings.Repeat("y", 17<<10)), false))
	flood("more than announced", traffic.Resets, streams(slices.Concat(asking("POST", "content-length", "1"), frame(frameData, 1, 2)), false))
}

// As many handlers as streams are allowed run, even if the client gives its streams up at once.
func TestNoMoreHandlersThanStreamsRun(t *testing.T) {
	var mu sync.Mutex
	now, most := 0, 0
	r := run(t, handlerFunc(func(*message.Context, *message.Request, message.Writer) {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		time.Sleep(200 * time.Millisecond) // does not listen
		mu.Lock()
		now--
		mu.Unlock()
	}), nil)
	conn := r.dial(t)
	for range 300 {
		q, err := conn.OpenStreamSync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = q.Write(asking("POST"))
		time.Sleep(time.Millisecond)
		q.CancelWrite(0x10c)
		q.CancelRead(0x10c)
	}
	mu.Lock()
	defer mu.Unlock()
	if most > 100 || most < 50 {
		t.Errorf("%d handlers ran at once", most)
	}
}

// At the end clients are told which requests are still answered; others are refused so that they can be sent elsewhere.
func TestClientsAreToldToGo(t *testing.T) {
	begun, proceed := make(chan struct{}), make(chan struct{})
	r := run(t, handlerFunc(func(ctx *message.Context, r *message.Request, w message.Writer) {
		close(begun)
		<-proceed
		echo(ctx, r, w)
	}), nil)
	conn, idle := r.dial(t), r.dial(t)
	control, err := conn.AcceptUniStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := idle.AcceptUniStream(t.Context()); err != nil {
		t.Fatal(err)
	}
	open := say(t, conn, asking("GET"))
	<-begun
	done := make(chan error, 1)
	go func() { done <- r.server.Shutdown(t.Context()) }()
	if got := ended(t, idle); got != codeNone {
		t.Errorf("an idle connection ended by %#x", got)
	}
	in := reader{source: control, buf: make([]byte, 100)}
	_, _ = in.varint()
	for {
		kind, err := in.frame()
		if err != nil {
			t.Fatal(err)
		}
		content, err := in.whole(100)
		if err != nil {
			t.Fatal(err)
		}
		if kind == frameGoAway {
			if len(content) != 1 || content[0] != 4 {
				t.Errorf("GOAWAY %v", content)
			}
			break
		}
	}
	var reset *quic.StreamError
	if got := read(say(t, conn, asking("GET"))); !errors.As(got.err, &reset) || code(reset.ErrorCode) != codeRejected {
		t.Errorf("a request that came later: %+v", got)
	}
	close(proceed)
	if got := read(open); got.err != nil || got.status[0] != "200" {
		t.Errorf("a request that was open: %+v", got)
	}
	if got := ended(t, conn); got != codeNone {
		t.Errorf("ended by %#x", got)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Whoever takes nothing is cut, and so is whoever takes a little now and then.
func TestSlowReadersAreCut(t *testing.T) {
	ended := make(chan error, 1)
	r := run(t, handlerFunc(func(_ *message.Context, _ *message.Request, w message.Writer) {
		_ = w.Head(200, nil, -1)
		var err error
		for err == nil {
			_, err = w.Write(make([]byte, 10_000))
		}
		ended <- err
	}), func(o *ServerOptions) { o.BodyIdle, o.Rate = 300*time.Millisecond, 1<<30 })
	for _, every := range []time.Duration{time.Hour, 10 * time.Millisecond} {
		q := say(t, r.dial(t), asking("GET"))
		stop := make(chan struct{})
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(every):
					_, _ = q.Read(make([]byte, 1000))
				}
			}
		}()
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Error("it still writes")
		}
		close(stop)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.cuts) != 2 || r.cuts[0] != traffic.SlowReader {
		t.Errorf("cut for %v", r.cuts)
	}
}

// Priorities are read as RFC 9218 has them.
func TestPriorities(t *testing.T) {
	for text, want := range map[string]string{
		"": "3 false", "u=0": "0 false", "i": "3 true", "u=7, i": "7 true", "u=5;x,i=?0": "5 false", "i=?1 ,u=1": "1 true", "u=8, i=2": "3 false", "u, x=\"u=1\"": "3 false",
	} {
		if u, i := priority(text); fmt.Sprint(u, " ", i) != want {
			t.Errorf("%q: %d %v", text, u, i)
		}
	}
}

// Heads that do not end hold as much as a connection may, and no more; what has been held is given back.
func TestHeadsThatDoNotEndAreBounded(t *testing.T) {
	t.Parallel()
	memory := fair.NewMemory(128 << 10)
	r := run(t, handlerFunc(echo), func(o *ServerOptions) { o.Heads = memory })
	conn := r.dial(t)
	// 32 KiB of the connection's own, and half of the memory: three of them.
	const length = 30 << 10
	var open []*quic.Stream
	for range 6 {
		q, err := conn.OpenStreamSync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = q.Write(append(appendFrame(nil, frameHeaders, length), make([]byte, 10<<10)...))
		open = append(open, q)
	}

	refused := 0
	answers := make(chan answer, len(open))
	for _, q := range open {
		go func() {
			_ = q.SetReadDeadline(time.Now().Add(20 * time.Second))
			answers <- read(q)
		}()
	}
	for refused < 3 {
		if a := <-answers; len(a.status) != 1 || a.status[0] != "431" {
			t.Fatal(a)
		}
		refused++
	}
	if memory.Sources() != 1 {
		t.Error("what is read of heads counts for nothing")
	}

	for _, q := range open {
		q.CancelWrite(quic.StreamErrorCode(codeCancelled))
	}
	for range 3 {
		<-answers
	}
	for limit := time.Now().Add(10 * time.Second); memory.Sources() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("something is still held")
		}
	}
	if a := read(say(t, conn, asking("GET", "x", strings.Repeat("y", 15<<10)))); len(a.status) != 1 || a.status[0] != "200" {
		t.Error(a)
	}
}
