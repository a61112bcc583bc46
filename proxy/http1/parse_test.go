package http1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"padlock/proxy/message"
)

func parsed(t *testing.T, text string) (*head, error) {
	t.Helper()
	h := &head{}
	if headEnd([]byte(text), 0) != len(text) {
		t.Fatalf("%q is not a head", text)
	}
	return h, h.parse([]byte(text), nil, maxFields)
}

func TestHeadsAreRead(t *testing.T) {
	for text, want := range map[string]head{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n": {method: "GET", target: "/", host: "a", minor: 1, keepAlive: true},
		"POST /a%2F?b HTTP/1.1\r\nhOST:\t A:80 \r\nContent-Length: 12\r\nConnection: close\r\n\r\n":  {method: "POST", target: "/a%2F?b", host: "A:80", minor: 1, length: 12},
		"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\nExpect: 100-Continue\r\n\r\n":    {method: "PUT", target: "/", host: "a", minor: 1, length: -1, keepAlive: true, expect: true},
		"GET https://b/x HTTP/1.1\r\nHost: B\r\n\r\n":                                                {method: "GET", target: "/x", host: "b", minor: 1, keepAlive: true},
		"GET http://b?x HTTP/1.1\r\nHost: b\r\n\r\n":                                                 {method: "GET", target: "/?x", host: "b", minor: 1, keepAlive: true},
		"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n":                                                      {method: "OPTIONS", target: "*", host: "a", minor: 1, keepAlive: true},
		"GET / HTTP/1.0\r\n\r\n":                                                                     {method: "GET", target: "/"},
		"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n":                                           {method: "GET", target: "/", keepAlive: true},
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n": {method: "GET", target: "/", host: "a", minor: 1, keepAlive: true, upgrade: "WebSocket"},
	} {
		h, err := parsed(t, text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if h.method != want.method || h.target != want.target || h.host != want.host || h.minor != want.minor || h.length != want.length ||
			h.keepAlive != want.keepAlive || h.expect != want.expect || h.upgrade != want.upgrade {
			t.Errorf("%q: %+v", text, h)
		}
	}
}

// What could be read in two ways is read in none.
func TestAmbiguousHeadsAreRefused(t *testing.T) {
	lines := func(fields ...string) string {
		return "POST / HTTP/1.1\r\n" + strings.Join(fields, "\r\n") + "\r\n\r\n"
	}
	for text, status := range map[string]int{
		"GET https://b/x HTTP/1.1\r\nHost: a\r\n\r\n":                                         400,
		lines("Host: a", "Content-Length: 5", "Transfer-Encoding: chunked"):                   400,
		lines("Host: a", "Content-Length: 5", "Content-Length: 5"):                            400,
		lines("Host: a", "Content-Length: 5", "Content-Length: 6"):                            400,
		lines("Host: a", "Content-Length: 5, 5"):                                              400,
		lines("Host: a", "Content-Length: +5"):                                                400,
		lines("Host: a", "Content-Length: -5"):                                                400,
		lines("Host: a", "Content-Length: 0x5"):                                               400,
		lines("Host: a", "Content-Length: 5 "+"5"):                                            400,
		lines("Host: a", "Content-Length:"):                                                   400,
		lines("Host: a", "Content-Length: 9999999999999999999"):                               400,
		lines("Host: a", "Transfer-Encoding: gzip, chunked"):                                  501,
		lines("Host: a", "Transfer-Encoding: chunked, chunked"):                               501,
		lines("Host: a", "Transfer-Encoding: chunked", "Transfer-Encoding: x"):                501,
		lines("Host: a", "Transfer-Encoding: xchunked"):                                       501,
		lines("Host: a", "Transfer-Encoding: identity"):                                       501,
		lines("Host: a", "Transfer-Encoding: \x0bchunked"):                                    400,
		lines("Host: a", "Transfer-Encoding : chunked"):                                       400,
		lines("Host: a", "Transfer-Encoding\t: chunked"):                                      400,
		lines("Host: a", " Transfer-Encoding: chunked"):                                       400,
		lines("Host: a", "X: y", " Transfer-Encoding: chunked"):                               400,
		lines("Host: a", "X: a\x00b"):                                                         400,
		lines("Host: a", "X: a\rb"):                                                           400,
		lines("Host: a", "X: a\nTransfer-Encoding: chunked"):                                  400,
		lines("Host: a", "X"):                                                                 400,
		lines("Host: a", ": x"):                                                               400,
		lines("Host: a", "X y: z"):                                                            400,
		lines("X: y"):                                                                         400,
		lines("Host: a", "Host: a"):                                                           400,
		lines("Host: a", "host: b"):                                                           400,
		lines("Host: a b"):                                                                    400,
		lines("Host: a/b"):                                                                    400,
		lines("Host: user@a"):                                                                 400,
		lines("Host: a", "Expect: 200-ok"):                                                    417,
		"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n":                    501,
		"GET / HTTP/1.2\r\nHost: a\r\n\r\n":                                                   505,
		"GET / HTTP/2.0\r\nHost: a\r\n\r\n":                                                   505,
		"GET / http/1.1\r\nHost: a\r\n\r\n":                                                   400,
		"GET / HTTP/1.1 \r\nHost: a\r\n\r\n":                                                  400,
		"GET  / HTTP/1.1\r\nHost: a\r\n\r\n":                                                  400,
		"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n":                                                  400,
		"GET / x HTTP/1.1\r\nHost: a\r\n\r\n":                                                 400,
		"GET a HTTP/1.1\r\nHost: a\r\n\r\n":                                                   400,
		"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n":                                            400,
		"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n":                                         400,
		"GET * HTTP/1.1\r\nHost: a\r\n\r\n":                                                   400,
		"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n":                                                 400,
		"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n":                                               400,
		"GET /ä HTTP/1.1\r\nHost: a\r\n\r\n":                                                  400,
		"G(T / HTTP/1.1\r\nHost: a\r\n\r\n":                                                   400,
		" / HTTP/1.1\r\nHost: a\r\n\r\n":                                                      400,
		lines(append([]string{"Host: a"}, strings.Fields(strings.Repeat("X:y ", 300))...)...): 431,
	} {
		_, err := parsed(t, text)
		no, ok := err.(*statusError)
		if !ok || no.status != status {
			t.Errorf("%.60q: %v, not %d", text, err, status)
		}
	}
}

// A head becomes one string, of which everything that is read of it is a part.
func TestAHeadIsOneString(t *testing.T) {
	text := []byte("GET /a?b HTTP/1.1\r\nHost: example.com\r\nUser-Agent: x\r\nAccept: */*\r\nAccept-Encoding: gzip\r\nCookie: a=b\r\nConnection: keep-alive\r\n\r\n")
	room := make(message.Fields, 0, 16)
	if allocated := testing.AllocsPerRun(100, func() {
		var h head
		if err := h.parse(text, room, maxFields); err != nil {
			t.Fatal(err)
		}
	}); allocated > 1 {
		t.Errorf("%v allocations", allocated)
	}
}

// Whatever chunked content we read whole, net/http reads as the same bytes.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("3\r\nabc\r\n0\r\n\r\n"))
	f.Add([]byte("3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\n"))
	f.Add([]byte("fffffffffffffffff\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		b := &body{content: content{r: &reader{buf: bytes.Clone(text), end: len(text), source: ended{}, limit: noDeadline()}, chunked: true, limit: 1 << 10}}
		b.answered = new(atomic.Bool)
		ours, err := io.ReadAll(b)
		if err != nil {
			return
		}
		head := "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
		request, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader(head), bytes.NewReader(text))))
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := io.ReadAll(request.Body)
		if err != nil && !strings.Contains(err.Error(), "trailer") && !strings.Contains(err.Error(), "malformed MIME") && !strings.Contains(err.Error(), "too much") {
			t.Fatalf("net/http refuses %q: %v", text, err)
		}
		if !bytes.Equal(ours, theirs) {
			t.Fatalf("%q: %q, net/http: %q", text, ours, theirs)
		}
	})
}
