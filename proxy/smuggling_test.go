package proxy_test

//lint:file-ignore SA1019 the client under test speaks x/net/http2.

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"padlock/config"
)

// recording is a backend that keeps every byte it gets.
type recording struct {
	net.Listener
	mu    sync.Mutex
	bytes bytes.Buffer
}

func record(t *testing.T) *recording {
	r := &recording{Listener: listen(t)}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "answer to "+r.URL.Path)
	})}
	go func() { _ = server.Serve(r) }()
	t.Cleanup(func() { server.Close() })
	return r
}

func (r *recording) Accept() (net.Conn, error) {
	c, err := r.Listener.Accept()
	return &recordedConn{c, r}, err
}

func (r *recording) url() string { return "http://" + r.Addr().String() }

// take returns what has come since the last call.
func (r *recording) take() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.bytes.Reset()
	return r.bytes.String()
}

type recordedConn struct {
	net.Conn
	to *recording
}

func (c *recordedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.to.mu.Lock()
	defer c.to.mu.Unlock()
	c.to.bytes.Write(p[:n])
	return n, err
}

// say sends raw bytes as HTTP/1.1, and returns all that comes back until the connection ends or nothing has come for a while.
func (e *edge) say(t *testing.T, text string) string {
	t.Helper()
	return e.sayWithin(t, time.Second, text)
}

// sayWithin is say for an answer that ends with its connection, which may take some time on a busy machine.
func (e *edge) sayWithin(t *testing.T, limit time.Duration, text string) string {
	t.Helper()
	config := e.tls()
	config.NextProtos = []string{"http/1.1"}
	conn, err := tls.Dial("tcp", e.address, config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, text)
	_ = conn.SetReadDeadline(time.Now().Add(limit))
	answer, _ := io.ReadAll(conn)
	return string(answer)
}

const smuggled = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"

// Every request that two readers could understand differently is refused before the backend hears of it.
func TestSmuggledRequestsNeverReachABackend(t *testing.T) {
	t.Parallel()
	r := record(t)
	e := start(t, r.url(), func(c *config.Config) { c.Limits.HeaderSize = 16 << 10 })
	post := func(fields ...string) string {
		return "POST / HTTP/1.1\r\nHost: localhost\r\n" + strings.Join(fields, "\r\n") + "\r\n\r\n"
	}
	chunked := func(body string) string { return post("Transfer-Encoding: chunked") + body }
	cases := map[string]string{
		"CL.TE":                    post("Content-Length: 6", "Transfer-Encoding: chunked") + "0\r\n\r\n" + smuggled,
		"TE.CL":                    post("Transfer-Encoding: chunked", "Content-Length: 4") + "5c\r\n" + smuggled + "0\r\n\r\n",
		"Content-Length with 0":    post("Content-Length: 0", "Transfer-Encoding: chunked") + smuggled,
		"two Content-Lengths":      post("Content-Length: 0", "Content-Length: 46") + smuggled,
		"the same twice":           post("Content-Length: 1", "Content-Length: 1") + "x" + smuggled,
		"Content-Length list":      post("Content-Length: 0, 46") + smuggled,
		"Content-Length equal":     post("Content-Length: 1, 1") + "x" + smuggled,
		"Content-Length plus":      post("Content-Length: +0") + smuggled,
		"Content-Length minus":     post("Content-Length: -0") + smuggled,
		"Content-Length hex":       post("Content-Length: 0x0") + smuggled,
		"Content-Length point":     post("Content-Length: 0.0") + smuggled,
		"Content-Length exponent":  post("Content-Length: 1e1") + smuggled,
		"Content-Length spaced":    post("Content-Length: 4 6") + smuggled,
		"Content-Length empty":     post("Content-Length:") + smuggled,
		"Content-Length huge":      post("Content-Length: 18446744073709551616") + smuggled,
		"Content-Length underline": post("Content-Length: 1_0") + smuggled,
		"Content-Length digits":    post("Content-Length: ٠") + smuggled,
		"Content-Length semicolon": post("Content-Length: 0;") + smuggled,
		"Content-Length quoted":    post(`Content-Length: "0"`) + smuggled,
		"CL folded":                post("Content-Length:\r\n 0") + smuggled,
		"NUL in CL":                post("Content-Length: 0\x00") + smuggled,
		"name NUL":                 post("Content-Length\x00: 46") + smuggled,
		"bare LF head":             "POST / HTTP/1.1\nHost: localhost\nContent-Length: 0\n\n" + smuggled,
		"bare LF line":             post("X: y\nContent-Length: 46") + smuggled,
		"bare LF end":              "GET / HTTP/1.1\r\nHost: localhost\r\n\n" + smuggled,
		"bare CR line":             post("X: y\rContent-Length: 46") + smuggled,
		"bare CR end":              "GET / HTTP/1.1\r\nHost: localhost\r\n\r" + smuggled,
		"obs-fold":                 post("X: y", " Content-Length: 46") + smuggled,
		"obs-fold tab":             post("X: y", "\tTransfer-Encoding: chunked") + "0\r\n\r\n" + smuggled,
		"fold at first":            "GET / HTTP/1.1\r\n X: y\r\nHost: localhost\r\n\r\n",
		"space before colon":       post("Content-Length : 46") + smuggled,
		"tab before colon":         post("Transfer-Encoding\t: chunked") + "0\r\n\r\n" + smuggled,
		"space before name":        "POST / HTTP/1.1\r\n Host: localhost\r\nContent-Length: 0\r\n\r\n",
		"no colon":                 post("Content-Length 46") + smuggled,
		"empty name":               post(": x"),
		"NUL in a value":           post("X: a\x00b"),
		"DEL in a value":           post("X: a\x7fb"),
		"non-token name":           post("X(y): z"),
		"high name":                post("X\xff: z"),
		"TE HTTP/1.0":              "POST / HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
		"TE 1.0 with length":       "POST / HTTP/1.0\r\nHost: localhost\r\nContent-Length: 46\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
		"two hosts":                "GET / HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n",
		"no host":                  "GET / HTTP/1.1\r\n\r\n",
		"host list":                "GET / HTTP/1.1\r\nHost: localhost, other\r\n\r\n",
		"host with path":           "GET / HTTP/1.1\r\nHost: localhost/x\r\n\r\n",
		"host with user":           "GET / HTTP/1.1\r\nHost: a@localhost\r\n\r\n",
		"host with space":          "GET / HTTP/1.1\r\nHost: local host\r\n\r\n",
		"absolute conflict":        "GET https://other/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"absolute user":            "GET https://a@localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"absolute scheme":          "GET gopher://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"authority form":           "GET localhost:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"CONNECT":                  "CONNECT localhost:22 HTTP/1.1\r\nHost: localhost:22\r\n\r\n",
		"CONNECT with length":      "CONNECT localhost:22 HTTP/1.1\r\nHost: localhost:22\r\nContent-Length: 5\r\n\r\nhello",
		"spaces in the target":     "GET / x HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"two spaces":               "GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"tab":                      "GET\t/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"HTTP/0.9":                 "GET /\r\n\r\n",
		"version 1.10":             "GET / HTTP/1.10\r\nHost: localhost\r\n\r\n",
		"version 2.0":              "GET / HTTP/2.0\r\nHost: localhost\r\n\r\n",
		"h2 preface":               "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"method":                   "GE(T / HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"method NUL":               "GET\x00 / HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"fragment":                 "GET /#x HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"control in the target":    "GET /\x01 HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"oversize head":            "GET / HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 17<<10) + "\r\n\r\n",
		"oversize line":            "GET /" + strings.Repeat("x", 17<<10) + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"many fields":              "GET / HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("X: y\r\n", 201) + "\r\n",
		"WebSocket with a body":    "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello",
		"WebSocket by POST":        "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n",
		"unknown expectation":      post("Expect: a miracle"),
	}
	for i, coding := range []string{"gzip", "identity", "chunked, identity", "gzip, chunked", "chunked, chunked", "xchunked", "chunkedx", "x chunked", "\"chunked\"", "chunked;q=1",
		"chunked\x00", "\vchunked", "chunked\v", "chunked,", ",chunked", "", "chu\tnked", "ｃhunked"} {
		cases[fmt.Sprintf("Transfer-Encoding %d %q", i, coding)] = post("Transfer-Encoding: "+coding) + "0\r\n\r\n" + smuggled
	}
	cases["Transfer-Encoding twice"] = post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + "0\r\n\r\n" + smuggled
	cases["Transfer-Encoding both"] = post("Transfer-Encoding: identity", "Transfer-Encoding: chunked") + "0\r\n\r\n" + smuggled
	for i, body := range []string{"0x5\r\nhello\r\n0\r\n\r\n", "-5\r\nhello\r\n0\r\n\r\n", "+5\r\nhello\r\n0\r\n\r\n", " 5\r\nhello\r\n0\r\n\r\n", "5\nhello\n0\n\n", "5\rhello\r0\r\r",
		"g\r\n", "\r\nhello", "10000000000000005\r\nhello\r\n0\r\n\r\n", "ffffffffffffffff\r\nhello\r\n0\r\n\r\n", "5 ;x\r\nhello\r\n0\r\n\r\n", "5 \r\nhello\r\n0\r\n\r\n", "5 x\r\nhello\r\n0\r\n\r\n", "5;a\nb\r\nhello\r\n0\r\n\r\n",
		"5;\x00\r\nhello\r\n0\r\n\r\n", "5\r\r\nhello\r\n0\r\n\r\n", "5;" + strings.Repeat("x", 5000) + "\r\nhello\r\n0\r\n\r\n", "5_0\r\n", "5,5\r\n"} {
		cases[fmt.Sprintf("chunks %d", i)] = chunked(body + smuggled)
	}
	for name, text := range cases {
		answer := e.say(t, text)
		if !strings.HasPrefix(answer, "HTTP/1.1 4") && !strings.HasPrefix(answer, "HTTP/1.1 50") || strings.HasPrefix(answer, "HTTP/1.1 502") || strings.Count(answer, "\r\nDate: ") != 1 {
			t.Errorf("%s: answered %.200q", name, answer)
		}
		if got := r.take(); got != "" {
			t.Errorf("%s: the backend saw %.200q", name, got)
		}
	}
	// What is wrong only further on in a body: the backend gets no end of it, and nothing that follows.
	for _, body := range []string{"5\r\nhelloX\r\n0\r\n\r\n", "5\r\nhello\n0\r\n\r\n", "5\r\nhello\r\nz\r\n", "5\r\nhello\r\n0\r\nX y\r\n\r\n", "5\r\nhello\r\n0\r\n X: y\r\n\r\n", "5\r\nhello\r\n0\r\nX: y\n\r\n"} {
		answer := e.say(t, chunked(body+smuggled))
		if !strings.HasPrefix(answer, "HTTP/1.1 400 ") || strings.Count(answer, "\r\nDate: ") != 1 {
			t.Errorf("%q: answered %.200q", body, answer)
		}
		if got := r.take(); strings.Contains(got, "0\r\n\r\n") || strings.Contains(got, "smuggled") {
			t.Errorf("%q: the backend saw %q", body, got)
		}
	}
}

// What is unusual and yet has one meaning passes, with framing and host of our own.
func TestFramingIsAlwaysOurOwn(t *testing.T) {
	r := record(t)
	e := start(t, r.url(), nil)
	for text, want := range map[string][]string{
		"POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n005;ext=\"v\"\r\nhello\r\n00\r\nX-T: v\r\nContent-Length: 9\r\n\r\n" + smuggled: {
			"POST /a HTTP/1.1\r\n", "\r\nTransfer-Encoding: chunked\r\n", "\r\n\r\n5\r\nhello\r\n0\r\nX-T: v\r\n\r\n", "GET /smuggled ", // a request of its own, answered in turn
		},
		"POST /b HTTP/1.1\r\nHost: LOCALHOST:443\r\nContent-Length: 005\r\nContent_Length: 9\r\nTransfer_Encoding: chunked\r\nX.Forwarded.For: 6.6.6.6\r\nConnection: close, X-Forwarded-For\r\n\r\nhello": {
			"POST /b HTTP/1.1\r\nHost: LOCALHOST:443\r\n", "\r\nContent-Length: 5\r\n", "\r\nX-Forwarded-For: 127.0.0.1\r\n", "\r\n\r\nhello",
		},
		"GET https://localhost/c?x=/../%2e HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: Upgrade, HTTP2-Settings, close\r\n\r\n": {
			"GET /c?x=/../%2e HTTP/1.1\r\nHost: localhost\r\n",
		},
	} {
		answer := e.say(t, text)
		got := r.take()
		if !strings.HasPrefix(answer, "HTTP/1.1 200 ") {
			t.Errorf("%q: answered %q", text, answer)
		}
		for _, part := range want {
			if !strings.Contains(got, part) {
				t.Errorf("%q: the backend saw %q, without %q", text, got, part)
			}
		}
		for _, part := range []string{"_", "6.6.6.6", "h2c", "HTTP2-Settings", "ext=", "X-T: v\r\nContent-Length"} {
			if strings.Contains(got, part) {
				t.Errorf("%q: the backend saw %q", text, got)
			}
		}
	}
}

// statusOf reads a head of padlock's, which needs no table.
func statusOf(block []byte) (status string) {
	_, _ = hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if f.Name == ":status" {
			status = f.Value
		}
	}).Write(block)
	return status
}

// The same through HTTP/2, whose fields can hold what HTTP/1.1 would take for its own syntax.
func TestNothingIsInjectedThroughHTTP2(t *testing.T) {
	r := record(t)
	e := start(t, r.url(), nil)
	config := e.tls()
	config.NextProtos = []string{"h2"}
	get := []string{":method", "GET", ":scheme", "https", ":authority", "localhost", ":path", "/"}
	with := func(pairs ...string) []string { return append(get[:8:8], pairs...) }
	set := func(name, value string) []string {
		pairs := append([]string(nil), get...)
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				pairs[i+1] = value
			}
		}
		return pairs
	}
	for _, test := range []struct {
		pairs []string
		data  string
	}{
		{with("x", "y\r\ntransfer-encoding: chunked"), ""}, {with("x", "y\n"+smuggled), ""}, {with("x\r\ny", "z"), ""}, {with("x: y\r\nz", "v"), ""},
		{with("transfer-encoding", "chunked"), "0\r\n\r\n" + smuggled}, {with("transfer-encoding", "identity"), ""}, {with("connection", "close"), ""},
		{with("upgrade", "websocket"), ""}, {with("content-length", "0"), smuggled}, {with("content-length", "5"), "hello" + smuggled},
		{with("content-length", "5", "content-length", "5"), "hello"}, {with("content-length", "5\r\nx: y"), "hello"}, {with("Content-Length", "5"), "hello"},
		{set(":path", "/ HTTP/1.1\r\nHost: localhost\r\n\r\n"+smuggled), ""}, {set(":path", "/ x"), ""}, {set(":path", "https://other/"), ""}, {set(":path", ""), ""},
		{set(":method", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"), ""}, {set(":method", "GET "), ""}, {set(":authority", "localhost\r\nx: y"), ""},
		{set(":authority", "localhost/x"), ""}, {set(":authority", "a@localhost"), ""}, {set(":authority", "local host"), ""}, {set(":scheme", "https\r\nx: y"), ""},
		{with("host", "other"), ""}, {with(":path", "/smuggled"), ""}, {append([]string{"x", "y"}, get...), ""}, {with("te", "gzip"), ""}, {with(" x", "y"), ""},
		{with("x:", "y"), ""}, {with("", "y"), ""}, {with("x", " y"), ""}, {with("x", "a\x00b"), ""},
	} {
		conn, err := tls.Dial("tcp", e.address, config)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, http2.ClientPreface)
		framer := http2.NewFramer(conn, conn)
		framer.AllowIllegalWrites = true
		_ = framer.WriteSettings()
		var block bytes.Buffer
		coder := hpack.NewEncoder(&block)
		for i := 0; i < len(test.pairs); i += 2 {
			_ = coder.WriteField(hpack.HeaderField{Name: test.pairs[i], Value: test.pairs[i+1]})
		}
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: test.data == ""})
		if test.data != "" {
			_ = framer.WriteData(1, true, []byte(test.data))
		}
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		for ended := false; !ended; {
			frame, err := framer.ReadFrame()
			switch f := frame.(type) {
			case *http2.RSTStreamFrame:
				ended = true
			case *http2.HeadersFrame: // without content by its own account, the request may be answered before the rest comes
				if status := statusOf(f.HeaderBlockFragment()); test.data != smuggled && status != "400" {
					t.Errorf("%q: answered %s", test.pairs, status)
					ended = true
				}
			}
			if err != nil {
				t.Errorf("%q: %v", test.pairs, err)
				break
			}
		}
		conn.Close()
		if got := r.take(); strings.Contains(got, "smuggled") || got != "" && test.data == "" {
			t.Errorf("%q: the backend saw %q", test.pairs, got)
		}
	}
}
