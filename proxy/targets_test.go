package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"padlock/proxy/message"
)

// bytewise asks for a target as it stands, by each protocol.
func (e *edge) bytewise(t *testing.T) map[string]func(target string) outcome {
	forge := func(ask func(forged) outcome) func(string) outcome {
		return func(target string) outcome { return ask(forged{fields: set(":path", target)}) }
	}
	f := e.fronts(t)
	return map[string]func(string) outcome{"h2": forge(f["h2"]), "h3": forge(f["h3"]), "h1": func(target string) outcome {
		answer := e.say(t, "GET "+target+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		if len(answer) < len("HTTP/1.1 200") {
			return outcome{reset: true}
		}
		head, body, _ := strings.Cut(answer, "\r\n\r\n")
		return outcome{status: head[9:12], body: body}
	}}
}

// echoTargets is a backend that answers with the target that it was asked for, whatever that is.
func echoTargets(t *testing.T) (address string) {
	return serveTCP(t, func(c *net.TCPConn) { // net/http would not take all of them
		r := bufio.NewReader(c)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			for next := ""; next != "\r\n"; {
				if next, err = r.ReadString('\n'); err != nil {
					return
				}
			}
			target := strings.TrimSuffix(strings.TrimPrefix(line, "GET "), " HTTP/1.1\r\n")
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(target), target)
		}
	})
}

// A target gets path and query as the client has sent them: encoded as they were, with their dot segments, semicolons and empty segments.
func TestPathAndQueryAreKeptByteForByte(t *testing.T) {
	one := echoTargets(t)
	two := serveH2C(t, func(s *h2cStream) {
		s.head(false, ":status", "200", "content-length", fmt.Sprint(len(s.path)))
		s.data(true, s.path)
	})
	targets := []string{
		"/", "//", "///", "/?", "/??", "/a?b?c=/../", "/a%2Fb", "/a%2fB", "/a/../b", "/a/./b", "/..", "/.", "/../../etc/passwd", "/%2e%2e/%2E/x", "/..;/x", "/a;b=c;d", "/?a=1;b=2", "/?a=1&a=2&&=", "/\\", "/\\..\\x", "/a\"b'c", "/|^`{}<>", "/[]", "/!$&'()*+,;=:@-._~",
		"/%00", "/%0d%0aX:%20y", "/%E4%ff", "/%25", "/%252e%252e", "/a%20b+c", "//other.example/x", "/http://other.example/", "/a//b//", "/a/b/", "/x?u=https://other.example/?a=b%26c", "/?%zz", "/?x=%", "/?\\\"<>", "/*", "/" + strings.Repeat("a/", 4000), "/%zz", "/%", "/a%2", "/%%32%65",
	}
	for backend, e := range map[string]*edge{"HTTP/1.1": start(t, "http://"+one, nil), "h2c": start(t, two, nil)} {
		for front, ask := range e.bytewise(t) {
			for _, target := range targets {
				if o := ask(target); o.status != "200" || o.body != target {
					t.Errorf("%s to %s: %s arrived as %s %q", front, backend, target, o.status, o.body)
				}
			}
		}
	}
}

// Where a request goes is padlock's configuration's to say: no form of target, no host and no CONNECT has it ask anybody else.
func TestNoRequestChoosesItsTarget(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	inner := listen(t)
	t.Cleanup(func() { inner.Close() })
	go func() {
		for {
			c, err := inner.Accept()
			if err != nil {
				return
			}
			asked.Add(1)
			c.Close()
		}
	}()
	r := record(t)
	e := start(t, r.url(), nil)
	other := inner.Addr().String()
	for _, text := range []string{
		"GET http://" + other + "/ HTTP/1.1\r\nHost: " + other, "GET http://" + other + "/ HTTP/1.1\r\nHost: localhost", "GET http://localhost@" + other + "/ HTTP/1.1\r\nHost: localhost", "GET http://localhost:1@" + other + "/ HTTP/1.1\r\nHost: localhost",
		"GET / HTTP/1.1\r\nHost: " + other, "GET / HTTP/1.0\r\nHost: " + other, "GET / HTTP/1.0", "GET @" + other + "/ HTTP/1.1\r\nHost: localhost", "GET //" + other + "/ HTTP/1.1\r\nHost: " + other, "GET " + other + " HTTP/1.1\r\nHost: localhost",
		"CONNECT " + other + " HTTP/1.1\r\nHost: " + other, "CONNECT " + other + " HTTP/1.1\r\nHost: localhost", "CONNECT " + other + " HTTP/1.0", "CONNECT localhost HTTP/1.1\r\nHost: localhost", "GET unix:/run/docker.sock HTTP/1.1\r\nHost: localhost",
		"GET / HTTP/1.1\r\nHost: localhost:" + strings.TrimPrefix(other, "127.0.0.1:") + "@" + other, "POST http://" + other + "/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0",
	} {
		if answer := e.say(t, text+"\r\n\r\n"); !strings.HasPrefix(answer, "HTTP/1.1 4") || strings.HasPrefix(answer, "HTTP/1.1 408") {
			t.Errorf("%q: answered %.100q", text, answer)
		}
	}
	for name, ask := range e.fronts(t) {
		for _, fields := range [][]string{
			set(":authority", other), set(":path", "http://"+other+"/"), set(":path", "@"+other+"/"), with("host", other), {":method", "CONNECT", ":authority", other}, {":method", "CONNECT", ":authority", "localhost"},
			{":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", other, ":path", "/"}, {":method", "CONNECT", ":protocol", "connect-udp", ":scheme", "https", ":authority", "localhost", ":path", "/.well-known/masque/udp/127.0.0.1/1/"},
			{":method", "CONNECT", ":protocol", "connect-tcp", ":scheme", "https", ":authority", other, ":path", "/"},
		} {
			if o := ask(forged{fields: fields}); !o.reset && !strings.HasPrefix(o.status, "4") && o.status != "501" {
				t.Errorf("%s: %q: %+v", name, fields, o)
			}
		}
	}
	if got := r.take(); got != "" {
		t.Errorf("the target saw %q", got)
	}
	// These reach the target, and nobody else.
	e.sayFields(t, "X-Forwarded-Host: "+other, "X-Original-URL: http://"+other+"/", "X-Host: "+other, "X-Rewrite-URL: http://"+other+"/", "Forwarded: host="+other)
	e.say(t, "GET http://localhost/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	if got := r.take(); strings.Count(got, "\r\nHost: localhost\r\n") != 2 || !strings.Contains(got, "GET /x HTTP/1.1") {
		t.Errorf("the target saw %q", got)
	}
	if n := asked.Load(); n > 0 {
		t.Errorf("somebody else was asked %d times", n)
	}
}

// An upgrade is to websocket, by GET, without content, or it is none: the request is refused, or goes on without it. Of several protocols that a
// client offers, the target hears of websocket alone.
func TestOnlyWebSocketsAreUpgraded(t *testing.T) {
	t.Parallel()
	r := record(t)
	e := start(t, r.url(), nil)
	ask := func(method, upgrade, more string) string {
		return e.say(t, method+" / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\n"+upgrade+"\r\n"+more)
	}
	for _, upgrade := range []string{
		"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n", "Upgrade: h2c, websocket/13\r\n", "Upgrade: websocket/13\r\n", "Upgrade: TLS/1.0\r\n", "Upgrade: HTTP/2.0\r\n", "Upgrade: h2\r\n", "Upgrade: connect-udp\r\n", "Upgrade: \r\n", "Upgrade: xwebsocket\r\n", "Upgrade: \"websocket\"\r\n",
		"Upgrade: h2c\r\nUpgrade: h2\r\n", "Upgrade: SPDY/3.1\r\n", "Upgrade: websocket \x80\r\n", "HTTP2-Settings: AAMAAABkAAQAAP__\r\n",
	} {
		for _, method := range []string{"GET", "POST", "OPTIONS"} {
			length, content := "", ""
			if method == "POST" {
				length, content = "Content-Length: 5\r\n", "hello"
			}
			answer := ask(method, upgrade+length, content)
			got := r.take()
			if !strings.HasPrefix(answer, "HTTP/1.1 200 ") || strings.Contains(got, "Upgrade") || strings.Contains(got, "HTTP2-Settings") {
				t.Errorf("%s with %q: answered %.100q, and the target saw %q", method, upgrade, answer, got)
			}
		}
	}
	for _, upgrade := range []string{"Upgrade: h2c, websocket\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n", "Upgrade: websocket, h2c\r\n", "Upgrade: h2c\r\nUpgrade: websocket\r\n"} {
		for _, method := range []string{"GET", "POST", "OPTIONS"} {
			length, content, want := "", "", 0
			switch method {
			case "GET":
				want = 1
			case "POST":
				length, content = "Content-Length: 5\r\n", "hello"
			}
			answer := ask(method, upgrade+length, content)
			got := r.take()
			if !strings.HasPrefix(answer, "HTTP/1.1 200 ") || strings.Count(got, "Upgrade: websocket\r\n") != want || strings.Contains(got, "h2c") || strings.Contains(got, "HTTP2-Settings") {
				t.Errorf("%s with %q: answered %.100q, and the target saw %q", method, upgrade, answer, got)
			}
		}
	}
	for _, c := range []struct{ method, fields, more string }{
		{"GET", "Content-Length: 5\r\n", "hello"}, {"GET", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n" + smuggled}, {"GET", "Content-Length: 46\r\n", smuggled}, {"POST", "", ""}, {"HEAD", "", ""}, {"PUT", "", ""}, {"OPTIONS", "", ""}, {"get", "", ""},
	} {
		answer := ask(c.method, "Upgrade: websocket\r\n"+c.fields, c.more)
		want := "HTTP/1.1 400 "
		if c.method == "get" {
			want = "HTTP/1.1 501 "
		}
		if got := r.take(); !strings.HasPrefix(answer, want) || got != "" {
			t.Errorf("%s with %q: answered %.100q, and the target saw %q", c.method, c.fields, answer, got)
		}
	}
	// HTTP/1.0 has no upgrades; what is not in Connection is none.
	for _, text := range []string{"GET / HTTP/1.0\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nUpgrade: websocket\r\n\r\n"} {
		if answer := e.say(t, text); !strings.HasPrefix(answer, "HTTP/1.1 200 ") || strings.Contains(r.take(), "Upgrade") {
			t.Errorf("%q: answered %.100q", text, answer)
		}
	}
}

// What follows a WebSocket's handshake that the target has declined is another request, with all its rules, and no tunnel to the target
// past them.
func TestADeclinedUpgradeIsNoTunnel(t *testing.T) {
	const declined = "HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n"
	for _, answer := range []string{
		declined, "HTTP/1.1 200 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
	} {
		heard := make(chan string, 10)
		app := serveTCP(t, func(c *net.TCPConn) {
			b := make([]byte, 4096)
			for {
				n, err := c.Read(b)
				if err != nil {
					return
				}
				heard <- string(b[:n])
				_, _ = io.WriteString(c, answer)
			}
		})
		e := startFile(t, `sites: [{hosts: [localhost], routes: [{to: %q}, {path: /admin, deny: [127.0.0.1], to: %[1]q}]}]`, app)
		got := e.say(t, "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 777\r\n\r\nGET /admin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		if strings.Contains(got, "HTTP/1.1 101") || strings.Count(got, "HTTP/1.1 ") == 2 && !strings.Contains(got, "HTTP/1.1 403 ") {
			t.Errorf("%q: the client saw %q", answer, got)
		}
		for len(heard) > 0 {
			if text := <-heard; strings.Contains(text, "admin") {
				t.Errorf("%q: the target saw %q", answer, text)
			}
		}
	}
}

// Bytes that a client sends with its handshake, before it has an answer, are the first that the target's WebSocket gets, by every protocol.
func TestBytesSentWithTheHandshakeAreForwarded(t *testing.T) {
	e := start(t, backend(t, func(w http.ResponseWriter, r *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\nfirst ", message.WebSocketAccept(r.Header.Get("Sec-WebSocket-Key")))
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		early := make([]byte, len("early bytes"))
		_, _ = io.ReadFull(buffered, early)
		fmt.Fprintf(conn, "%s", early)
	}), nil)
	for name, ask := range e.fronts(t) {
		o := ask(forged{fields: []string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "localhost", ":path", "/ws"}, data: "early bytes"})
		if o.status != "200" || o.body != "first early bytes" {
			t.Errorf("%s: %+v", name, o)
		}
	}
	answer := e.say(t, "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nearly bytes")
	if !strings.HasPrefix(answer, "HTTP/1.1 101 ") || !strings.HasSuffix(answer, "\r\n\r\nfirst early bytes") {
		t.Errorf("h1: %q", answer)
	}
}

// Where no target is healthy, the 503's details and the access log say why, by every protocol.
func TestThe503SaysWhyNoTargetIsHealthy(t *testing.T) {
	t.Parallel()
	sick := backend(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	e := startFile(t, `
sites:
  - hosts: [localhost]
    routes: [{to: ["127.0.0.1:1", %q], health: {path: /up, interval: 100ms, timeout: 20s, fall: 1}}]
`, sick)
	clients := e.clients(t)
	clients["h3"] = e.three(t, nil)
	for name, client := range clients {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			response, body := fetch(t, client, "GET", "https://localhost/", "Accept", "text/plain")
			if response.StatusCode == 503 && strings.Contains(body, "http://127.0.0.1:1: connection refused") && strings.Contains(body, "it answers /up with status 500") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %s\n%s", name, response.Status, body)
			}
		}
	}
	soonIn(t, e, `no target is healthy: http://127.0.0.1:1: connection refused`)
}
