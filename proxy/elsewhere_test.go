package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// HTTP/2 and 3 have names in lower case, and servers of small devices compare names byte by byte: a target that speaks HTTP/1.1 gets them as clients
// of HTTP/1.1 write them. What such a client writes stays as it is.
func TestNamesGoToATargetAsClientsOfHTTP1WriteThem(t *testing.T) {
	t.Parallel()
	r := record(t)
	e := start(t, r.url(), nil)
	want := []string{"\r\nUser-Agent: me\r\n", "\r\nX-Some-Thing: a-b\r\n", "\r\nSec-WebSocket-Version: 13\r\n"}
	for name, ask := range e.fronts(t) {
		if o := ask(forged{fields: append(set(":path", "/"), "user-agent", "me", "x-some-thing", "a-b", "sec-websocket-version", "13")}); o.status != "200" {
			t.Errorf("%s: %+v", name, o)
		}
		got := r.take()
		for _, line := range want {
			if !strings.Contains(got, line) {
				t.Errorf("%s: no %q in %q", name, line, got)
			}
		}
		ask(forged{fields: []string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "localhost", ":path", "/ws", "sec-websocket-protocol", "chat"}, data: "x"})
		if got := r.take(); !strings.Contains(got, "\r\nSec-WebSocket-Protocol: chat\r\n") || !strings.Contains(got, "\r\nSec-WebSocket-Key: ") {
			t.Errorf("%s: the handshake is %q", name, got)
		}
	}
	e.say(t, "GET / HTTP/1.1\r\nHost: localhost\r\nuser-agent: me\r\nX-sOME-thing: a-b\r\nConnection: close\r\n\r\n")
	if got := r.take(); !strings.Contains(got, "\r\nuser-agent: me\r\nX-sOME-thing: a-b\r\n") {
		t.Errorf("h1: %q", got)
	}
}

// Streams pass at once, whatever a route buffers: an event comes before there is another, and the target answers the beginning of a call before its
// end.
func TestStreamsAreNotBuffered(t *testing.T) {
	t.Parallel()
	app := backend(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		for line := range strings.SplitSeq(r.URL.RawQuery, "&") {
			if name, value, ok := strings.Cut(line, "="); ok {
				w.Header().Set(name, strings.ReplaceAll(value, "+", " "))
			}
		}
		if r.Method == "GET" {
			fmt.Fprintln(w, "first")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done() // there is no more while the client stays
			return
		}
		_ = http.NewResponseController(w).Flush()
		for lines := bufio.NewScanner(r.Body); lines.Scan(); _ = http.NewResponseController(w).Flush() {
			fmt.Fprintln(w, lines.Text())
		}
	})
	e := startFile(t, `
sites: [{hosts: [localhost], routes: [{to: %q, buffer: {request: 100KiB, response: 100KiB}}]}]
`, app)
	for name, client := range e.clients(t) {
		for _, said := range []string{"Content-Type=text/event-stream", "Content-Type=Text/Event-Stream;+charset=utf-8", "Content-Type=text/plain&X-Accel-Buffering=no", "Content-Type=application/grpc%2Bproto&X-Accel-Buffering=no"} {
			response, err := client.Get("https://localhost/?" + said)
			if err != nil {
				t.Fatalf("%s, %s: %v", name, said, err)
			}
			line, err := bufio.NewReader(response.Body).ReadString('\n')
			response.Body.Close()
			if line != "first\n" || err != nil {
				t.Errorf("%s, %s: %q, %v", name, said, line, err)
			}
		}

		for _, kind := range []string{"application/grpc", "application/grpc+proto"} {
			content, writer := io.Pipe()
			request, err := http.NewRequest("POST", "https://localhost/?Content-Type="+strings.ReplaceAll(kind, "+", "%2B")+"&X-Accel-Buffering=no", content)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", kind)
			go func() { _, _ = io.WriteString(writer, "hello\n") }()
			response, err := client.Do(request)
			if err != nil {
				t.Fatalf("%s, %s: %v", name, kind, err)
			}
			line, err := bufio.NewReader(response.Body).ReadString('\n')
			writer.Close()
			response.Body.Close()
			if line != "hello\n" || err != nil {
				t.Errorf("%s, %s: %q, %v", name, kind, line, err)
			}
		}
	}
}

// Trailers that an h2c target sends behind content of a known length reach clients over HTTP/1.1 too, where only chunks carry them: gRPC has its
// result there.
func TestTrailersBehindAKnownLengthArrive(t *testing.T) {
	t.Parallel()
	e := start(t, h2cBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5")
		if r.URL.Path == "/grpc" {
			w.Header().Set("Content-Type", "application/grpc+proto")
			defer w.Header().Set(http.TrailerPrefix+"Grpc-Status", "7")
		} else {
			w.Header().Set("Trailer", "Grpc-Status")
			defer w.Header().Set("Grpc-Status", "7")
		}
		if r.Method != "HEAD" {
			_, _ = io.WriteString(w, "hello")
		}
	}), nil)
	for name, client := range e.everyClient(t) {
		for _, path := range []string{"/grpc", "/declared"} {
			response, err := client.Get("https://localhost" + path)
			if err != nil {
				t.Fatalf("%s, %s: %v", name, path, err)
			}
			content, err := io.ReadAll(response.Body)
			response.Body.Close()
			if string(content) != "hello" || err != nil || response.Trailer.Get("Grpc-Status") != "7" {
				t.Errorf("%s, %s: %q, trailers %v, %v", name, path, content, response.Trailer, err)
			}
			if response, err = client.Head("https://localhost" + path); err != nil || response.ContentLength != 5 {
				t.Errorf("%s, %s: HEAD: %v, %v", name, path, response, err)
			}
		}
	}
	if answer := e.say(t, "GET /grpc HTTP/1.0\r\nHost: localhost\r\n\r\n"); !strings.HasSuffix(answer, "\r\n\r\nhello") {
		t.Errorf("HTTP/1.0: %q", answer)
	}
}
