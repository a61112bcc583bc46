package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"padlock/internal/servicetest"
)

// forged is a request by HTTP/2 or 3 as a client may make it by hand.
type forged struct {
	fields   []string // names and values in turn
	data     string   // sent as content
	trailers []string // sent behind it
}

// outcome is what came of a forged request: the status of an answer, or that there was none.
type outcome struct {
	status string
	body   string
	reset  bool // the stream, or the whole connection
}

// fronts forge requests by the protocols whose fields can hold what HTTP/1.1 would take for its own syntax.
func (e *edge) fronts(t *testing.T) map[string]func(forged) outcome {
	return map[string]func(forged) outcome{
		"h2": func(f forged) outcome { return e.byHTTP2(t, f) },
		"h3": func(f forged) outcome { return e.byHTTP3(t, f) },
	}
}

func (e *edge) byHTTP2(t *testing.T, f forged) (o outcome) {
	t.Helper()
	config := e.tls()
	config.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", e.address, config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return overHTTP2(conn, f)
}

// overHTTP2 sends a request on a new connection, and reads what comes back.
func overHTTP2(conn net.Conn, f forged) (o outcome) {
	_, _ = io.WriteString(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, conn)
	framer.AllowIllegalWrites = true
	_ = framer.WriteSettings()
	var block bytes.Buffer
	coder := hpack.NewEncoder(&block)
	headers := func(pairs []string, end bool) {
		block.Reset()
		for i := 0; i < len(pairs); i += 2 {
			_ = coder.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
		}
		all := block.Bytes()
		first := all[:min(len(all), 16<<10)]
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: first, EndHeaders: len(first) == len(all), EndStream: end})
		for all = all[len(first):]; len(all) > 0; {
			next := all[:min(len(all), 16<<10)]
			all = all[len(next):]
			_ = framer.WriteContinuation(1, len(all) == 0, next)
		}
	}
	headers(f.fields, f.data == "" && f.trailers == nil)
	if f.data != "" {
		_ = framer.WriteData(1, f.trailers == nil, []byte(f.data))
	}
	if f.trailers != nil {
		headers(f.trailers, true)
	}
	decoder := hpack.NewDecoder(4096, func(h hpack.HeaderField) {
		if h.Name == ":status" {
			o.status = h.Value
		}
	})
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			o.reset = true
			return o
		}
		switch frame := frame.(type) {
		case *http2.RSTStreamFrame:
			o.reset = o.reset || frame.ErrCode != http2.ErrCodeNo
			return o
		case *http2.GoAwayFrame:
			if frame.ErrCode != http2.ErrCodeNo || frame.LastStreamID == 0 {
				o.reset = true
				return o
			}
		case *http2.HeadersFrame:
			_, _ = decoder.Write(frame.HeaderBlockFragment())
			if frame.StreamEnded() {
				return o
			}
		case *http2.DataFrame:
			o.body += string(frame.Data())
			if frame.StreamEnded() {
				return o
			}
		}
	}
}

// Frames of HTTP/3 (RFC 9114 section 7.2).
const (
	frameData     = 0
	frameHeaders  = 1
	frameSettings = 4
)

func frameHTTP3(b []byte, kind uint64, content []byte) []byte {
	b = quicvarint.Append(b, kind)
	b = quicvarint.Append(b, uint64(len(content)))
	return append(b, content...)
}

// dialHTTP3 makes a connection with a control stream, and nothing else.
func (e *edge) dialHTTP3(t *testing.T) *quic.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	config := e.tls()
	config.NextProtos = []string{"h3"}
	conn, err := quic.DialAddr(ctx, e.address, config, servicetest.Patient(nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseWithError(0, "") })
	control, err := conn.OpenUniStream()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = control.Write(frameHTTP3([]byte{0}, frameSettings, nil))
	return conn
}

func fieldSection(pairs []string) []byte {
	var block bytes.Buffer
	coder := qpack.NewEncoder(&block)
	for i := 0; i < len(pairs); i += 2 {
		_ = coder.WriteField(qpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	_ = coder.Close()
	return block.Bytes()
}

func (e *edge) byHTTP3(t *testing.T, f forged) outcome {
	t.Helper()
	frames := frameHTTP3(nil, frameHeaders, fieldSection(f.fields))
	if f.data != "" {
		frames = frameHTTP3(frames, frameData, []byte(f.data))
	}
	if f.trailers != nil {
		frames = frameHTTP3(frames, frameHeaders, fieldSection(f.trailers))
	}
	return e.byStream(t, frames)
}

// byStream sends bytes as they are on a stream of HTTP/3, and reads what comes back.
func (e *edge) byStream(t *testing.T, frames []byte) (o outcome) {
	t.Helper()
	conn := e.dialHTTP3(t)
	defer func() { _ = conn.CloseWithError(0, "") }()
	return overHTTP3(t, conn, frames)
}

func overHTTP3(t *testing.T, conn *quic.Conn, frames []byte) (o outcome) {
	t.Helper()
	stream, err := conn.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = stream.Write(frames)
	_ = stream.Close()
	_ = stream.SetReadDeadline(time.Now().Add(10 * time.Second))
	answer, err := io.ReadAll(stream)
	var reset *quic.StreamError
	var closed *quic.ApplicationError
	if o.reset = errors.As(err, &reset) || errors.As(err, &closed); err != nil && !o.reset {
		t.Errorf("%q: %v", frames, err)
	}
	parsed := readHTTP3(answer)
	o.status, o.body = parsed.status, parsed.body
	return o
}

// readHTTP3 reads the frames of a response.
func readHTTP3(answer []byte) (o outcome) {
	for r := bytes.NewReader(answer); r.Len() > 0; {
		kind, err := quicvarint.Read(r)
		if err != nil {
			break
		}
		length, err := quicvarint.Read(r)
		if err != nil {
			break
		}
		content := make([]byte, min(int(length), r.Len()))
		_, _ = io.ReadFull(r, content)
		switch kind {
		case frameData:
			o.body += string(content)
		case frameHeaders:
			next := qpack.NewDecoder().Decode(content)
			for {
				field, err := next()
				if err != nil {
					break
				}
				if field.Name == ":status" {
					o.status = field.Value
				}
			}
		}
	}
	return o
}

var plainGet = []string{":method", "GET", ":scheme", "https", ":authority", "localhost", ":path", "/"}

// with is a plain request with more fields.
func with(pairs ...string) []string { return append(plainGet[:8:8], pairs...) }

// set is a plain request in which a pseudo-field is another; without a value it is missing.
func set(name string, value ...string) []string {
	var pairs []string
	for i := 0; i < len(plainGet); i += 2 {
		switch {
		case plainGet[i] != name:
			pairs = append(pairs, plainGet[i], plainGet[i+1])
		case len(value) > 0:
			pairs = append(pairs, name, value[0])
		}
	}
	return pairs
}

// injections are requests whose fields mean something else to HTTP/1.1, or nothing.
func injections() (all []forged) {
	const line = "/ HTTP/1.1\r\nHost: localhost\r\n\r\n" + smuggled
	add := func(fields []string) { all = append(all, forged{fields: fields}) }
	for _, c := range []string{"\r\n", "\n", "\r", "\x00", "\x7f", "\x01", "\x0b", "\x1b"} {
		add(with("x", "a"+c+"b: c"))
		add(with("x", c+"b"))
		add(with("x", "b"+c))
		add(with("x"+c+"y", "z"))
		add(with(c+"x", "y"))
		add(set(":path", "/a"+c+"b"))
		add(set(":method", "GET"+c))
		add(set(":authority", "localhost"+c+"x: y"))
		add(set(":scheme", "https"+c))
		add(with("cookie", "a=b"+c+"c"))
		add(with("host", "localhost"+c))
	}
	for _, name := range []string{"X", "xY", "x y", "x:", "x ", " x", "x\t", "x(", "x)", "x,", "x/", "x;", "x<", "x=", "x>", "x?", "x@", "x[", "x\\", "x]", "x{", "x}", "x\"", "x\x80", "ä", ":", ":x", ":status", ":Method", "::method", "Host", "Content-Length", "Transfer-Encoding"} {
		add(with(name, "y"))
	}
	add(with("", "y"))
	for _, pair := range [][2]string{
		{"connection", "close"}, {"connection", "x"}, {"connection", ""}, {"connection", "transfer-encoding"}, {"keep-alive", "timeout=5"}, {"proxy-connection", "close"}, {"transfer-encoding", "chunked"}, {"transfer-encoding", "identity"},
		{"transfer-encoding", ""}, {"upgrade", "h2c"}, {"upgrade", "websocket"}, {"te", "gzip"}, {"te", "chunked"}, {"te", "trailers, chunked"}, {"te", "trailers;q=1"}, {"host", "other"}, {"host", "localhost:1"}, {"host", "localhost/x"}, {"host", "a@localhost"},
		{":path", "/again"}, {":method", "GET"}, {":authority", "localhost"}, {":scheme", "https"}, {":protocol", "websocket"}, {"expect", "a miracle"},
	} {
		add(with(pair[0], pair[1]))
	}
	for _, path := range []string{"", " ", "x", "/ x", "/\tx", "/x ", " /x", "*", "//\r\n", "https://other/", "http://localhost/", "?x", "/#x", "#", line, "/ä", "/\xff", "\\x", "/x HTTP/1.1", "localhost:443", "../x", "mailto:x"} {
		add(set(":path", path))
	}
	for _, method := range []string{"", " ", "GET ", " GET", "GE T", "GET " + line, "GET\t", "(GET)", "GET,", "GET:", "GET/", "G\x80T", "GET\x00"} {
		add(set(":method", method))
	}
	for _, authority := range []string{"", " ", "local host", "localhost/x", "localhost?x", "localhost#x", "a@localhost", "a:b@localhost", "localhost\\x", "localhost\"", "localhost<", "localhost|", "localhost^", "localhost, other", "localhost\t", " localhost", "http://localhost", "lôcalhost"} {
		if authority == "localhost, other" {
			continue // a comma may stand in a name; nobody has that name
		}
		add(set(":authority", authority))
	}
	for _, name := range []string{":method", ":authority", ":path"} {
		add(set(name))
	}
	add([]string{"x", "y", ":method", "GET", ":scheme", "https", ":authority", "localhost", ":path", "/"})
	add([]string{":method", "GET", ":scheme", "https", ":authority", "localhost", "x", "y", ":path", "/"})
	add([]string{":method", "CONNECT", ":authority", "localhost", ":path", "/"})
	add([]string{":method", "CONNECT", ":authority", "localhost", ":scheme", "https"})
	add([]string{":method", "CONNECT"})
	add([]string{":method", "CONNECT", ":authority", "localhost", ":protocol", "websocket"})
	add([]string{":method", "CONNECT", ":authority", "localhost", ":protocol", "web socket", ":scheme", "https", ":path", "/"})
	add([]string{":method", "CONNECT", ":authority", "localhost", ":protocol", "websocket\r\nx: y", ":scheme", "https", ":path", "/"})
	add([]string{":method", "CONNECT", ":authority", "localhost", ":protocol", "connect-udp", ":scheme", "https", ":path", "/"})
	add([]string{":method", "CONNECT", ":authority", "localhost", ":protocol", "h2c", ":scheme", "https", ":path", "/"})
	add([]string{":status", "200"})
	add(nil)
	return all
}

// Nothing that HTTP/2 and 3 can carry and HTTP/1.1 would understand otherwise gets through.
func TestNothingIsInjectedThroughTheBinaryProtocols(t *testing.T) {
	t.Parallel()
	r := record(t)
	e := start(t, r.url(), nil)
	for name, ask := range e.fronts(t) {
		for _, f := range injections() {
			o := ask(f)
			if !o.reset && !strings.HasPrefix(o.status, "4") && o.status != "501" {
				t.Errorf("%s: %q: answered %s %q", name, f.fields, o.status, o.body)
			}
			if got := r.take(); got != "" {
				t.Errorf("%s: %q: the backend saw %q", name, f.fields, got)
			}
		}
		if n := len(injections()); n < 200 {
			t.Errorf("only %d cases: docs/security.md tells of more", n)
		}
	}
}

// Content that disagrees with what its head says never becomes a whole request at the backend, and what is beyond it never becomes another.
func TestLengthsThatDisagreeAreNoRequests(t *testing.T) {
	r := record(t)
	e := start(t, r.url(), nil)
	post := func(pairs ...string) []string { return append(set(":method", "POST"), pairs...) }
	for name, ask := range e.fronts(t) {
		for _, f := range []forged{
			{post("content-length", "5"), "hello" + smuggled, nil},
			{post("content-length", "5"), "hell", nil},
			{post("content-length", "5"), "", nil},
			{post("content-length", "5"), "hell", []string{"x-sum", "1"}},
			{post("content-length", "5"), "hello" + smuggled, []string{"x-sum", "1"}},
			{post("content-length", "0"), smuggled, nil},
			{post("content-length", "0"), smuggled, []string{"x-sum", "1"}},
			{with("content-length", "0"), smuggled, nil},
			{with("content-length", "5"), "hello" + smuggled, nil},
			{post("content-length", "4", "content-length", "5"), "hello", nil},
			{post("content-length", "+5"), "hello", nil},
			{post("content-length", "-5"), "hello", nil},
			{post("content-length", "0x5"), "hello", nil},
			{post("content-length", "5, 5"), "hello", nil},
			{post("content-length", "5 "), "hello", nil},
			{post("content-length", "5;"), "hello", nil},
			{post("content-length", "٥"), "hello", nil},
			{post("content-length", "5.0"), "hello", nil},
			{post("content-length", "18446744073709551621"), "hello", nil},
			{post("content-length", "5\r\ntransfer-encoding: chunked"), "hello", nil},
			{post("transfer-encoding", "chunked"), "0\r\n\r\n" + smuggled, nil},
			{post("transfer-encoding", "chunked", "content-length", "5"), "0\r\n\r\n" + smuggled, nil},
			{post(), "hello", []string{":path", "/smuggled"}},
			{post(), "hello", []string{"x\r\ny", "z"}},
			{post(), "hello", []string{"x", "y\r\n\r\n" + smuggled}},
			{post(), "hello", []string{"X", "y"}},
			{post(), "hello", []string{"connection", "close"}},
			{post(), "hello", []string{"transfer-encoding", "chunked"}},
		} {
			o := ask(f)
			empty := fmt.Sprint(f.fields[len(f.fields)-2:]) == "[content-length 0]" // without content by its own account: answered before the rest comes
			if !o.reset && !strings.HasPrefix(o.status, "4") && !empty {
				t.Errorf("%s: %q %q %q: answered %s %q", name, f.fields, f.data, f.trailers, o.status, o.body)
			}
			if got := r.take(); strings.Contains(got, "smuggled") || !empty && (strings.HasSuffix(got, "0\r\n\r\n") || strings.HasSuffix(got, "hello")) {
				t.Errorf("%s: %q %q %q: the backend saw %q", name, f.fields, f.data, f.trailers, got)
			}
		}
	}
}

// Content is content, whatever it looks like: chunked by padlock where its length is not known.
func TestContentOfTheBinaryProtocolsIsFramedByPadlock(t *testing.T) {
	r := record(t)
	e := start(t, r.url(), nil)
	for name, ask := range e.fronts(t) {
		content := "0\r\n\r\n" + smuggled
		if o := ask(forged{set(":method", "POST"), content, nil}); o.status != "200" || o.body != "answer to /" {
			t.Errorf("%s: %+v", name, o)
		}
		if got, want := r.take(), fmt.Sprintf("\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(content), content); !strings.HasSuffix(got, want) || strings.Count(got, "Transfer-Encoding: chunked\r\n") != 1 {
			t.Errorf("%s: the backend saw %q", name, got)
		}
		if o := ask(forged{append(set(":method", "POST"), "content-length", fmt.Sprint(len(content))), content, nil}); o.status != "200" {
			t.Errorf("%s: %+v", name, o)
		}
		if got, want := r.take(), "\r\nContent-Length: "+fmt.Sprint(len(content))+"\r\n\r\n"+content; !strings.HasSuffix(got, want) || strings.Contains(got, "Transfer-Encoding") {
			t.Errorf("%s: the backend saw %q", name, got)
		}
	}
}

// Frames of HTTP/3 that are out of place end the request, or the connection.
func TestFramesOutOfPlaceAreNoRequests(t *testing.T) {
	r := record(t)
	e := start(t, r.url(), nil)
	head := frameHTTP3(nil, frameHeaders, fieldSection(set(":method", "POST")))
	trailers := frameHTTP3(nil, frameHeaders, fieldSection([]string{"x-sum", "1"}))
	data := func(text string) []byte { return frameHTTP3(nil, frameData, []byte(text)) }
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for what, frames := range map[string][]byte{
		"data first":              join(data("hello"), head),
		"settings first":          join(frameHTTP3(nil, frameSettings, nil), head),
		"settings in between":     join(head, frameHTTP3(nil, frameSettings, nil), data("hello")),
		"GOAWAY":                  join(head, frameHTTP3(nil, 7, []byte{0}), data("hello")),
		"HTTP/2's PRIORITY":       join(head, frameHTTP3(nil, 2, nil), data("hello")),
		"HTTP/2's PING":           join(head, frameHTTP3(nil, 6, nil), data("hello")),
		"HTTP/2's WINDOW_UPDATE":  join(head, frameHTTP3(nil, 8, nil), data("hello")),
		"HTTP/2's CONTINUATION":   join(head, frameHTTP3(nil, 9, nil), data("hello")),
		"a head behind the trail": join(head, data("hello"), trailers, head),
		"data behind the trail":   join(head, data("hello"), trailers, data(smuggled)),
		"half a head":             head[:len(head)/2],
		"half of the data":        join(head, data("hello")[:5]),
		"half of more data":       join(head, data("hello"), data("hello")[:5]),
		"half a trailer":          join(head, data("hello"), trailers[:len(trailers)-1]),
		"a head of garbage":       frameHTTP3(nil, frameHeaders, []byte{0xff, 0xff, 0xff, 0xff, 0xff}),
		"a dynamic table":         frameHTTP3(nil, frameHeaders, []byte{2, 0, 0x80}),
		"an empty head":           frameHTTP3(nil, frameHeaders, nil),
		"text":                    []byte(smuggled),
	} {
		if o := e.byStream(t, frames); !o.reset && !strings.HasPrefix(o.status, "4") {
			t.Errorf("%s: answered %s %q", what, o.status, o.body)
		}
		if got := r.take(); strings.Contains(got, "smuggled") || strings.HasSuffix(got, "0\r\n\r\n") {
			t.Errorf("%s: the backend saw %q", what, got)
		}
	}
}
