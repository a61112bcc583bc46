package proxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"padlock/config"
)

// raw opens a connection for HTTP/1.1 that its caller speaks on.
func (e *edge) raw(t *testing.T) *tls.Conn {
	t.Helper()
	c := e.tls()
	c.NextProtos = []string{"http/1.1"}
	conn, err := tls.Dial("tcp", e.address, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
	return conn
}

// upgrades is a target that goes over to whatever it is asked for, says what it was asked, and then sends back what comes until its end.
func upgrades(t *testing.T) string {
	return serveTCP(t, func(c *net.TCPConn) {
		in := bufio.NewReader(c)
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		content, _ := io.ReadAll(r.Body)
		if r.Header.Get("Upgrade") == "" {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\nordinary")
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", strings.ToLower(r.Header.Get("Upgrade")))
		fmt.Fprintf(c, "%s %s with %q\n", r.Method, r.Header.Get("Upgrade"), content)
		_, _ = io.Copy(c, in)
		fmt.Fprint(c, "the end")
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, in)
	})
}

// A route's upgrades go over to any protocol that it names, by any method and with content, as docker exec's do; an end of one direction is
// passed on, and the other goes on. What it does not name is an ordinary request.
func TestUpgradesThatARouteNames(t *testing.T) {
	t.Parallel()
	target := upgrades(t)
	e := startFile(t, `
sites:
  - hosts: [localhost]
    routes:
      - {to: %q, upgrades: [tcp, SPDY/3.1, websocket]}
      - {path: /usual, to: %[1]q}
      - {path: /none, to: %[1]q, upgrades: []}
`, target)
	for _, c := range []struct{ head, content, want string }{
		{"POST /exec/1/start HTTP/1.1\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: 16\r\n", `{"Detach":false}`, `POST tcp with "{\"Detach\":false}"`},
		{"POST /attach HTTP/1.1\r\nUpgrade: TCP\r\nContent-Length: 0\r\n", "", `POST TCP with ""`},
		{"POST /attach HTTP/1.1\r\nUpgrade: tcp\r\n", "", `POST tcp with ""`},
		{"POST /chunks HTTP/1.1\r\nUpgrade: tcp\r\nTransfer-Encoding: chunked\r\n", "4\r\nabcd\r\n2\r\nef\r\n0\r\n\r\n", `POST tcp with "abcdef"`},
		{"POST /expects HTTP/1.1\r\nUpgrade: tcp\r\nExpect: 100-continue\r\nContent-Length: 2\r\n", "ab", `POST tcp with "ab"`},
		{"GET /list HTTP/1.1\r\nUpgrade: tcp, h2c\r\n", "", `GET tcp with ""`},
		{"GET /list HTTP/1.1\r\nUpgrade: h2c,,SPDY/3.1 , tcp\r\n", "", `GET SPDY/3.1 with ""`},
		{"GET /lists HTTP/1.1\r\nUpgrade: h2c\r\nUpgrade: foo/1, tcp\r\n", "", `GET tcp with ""`},
		{"GET /exec?command=id HTTP/1.1\r\nUpgrade: SPDY/3.1\r\n", "", `GET SPDY/3.1 with ""`},
		{"PUT /large HTTP/1.1\r\nUpgrade: tcp\r\nContent-Length: 60000\r\n", strings.Repeat("x", 60_000), `PUT tcp with "` + strings.Repeat("x", 60_000) + `"`},
	} {
		conn := e.raw(t)
		_, _ = io.WriteString(conn, c.head+"Host: localhost\r\nConnection: Upgrade\r\n\r\n"+c.content+"first, without waiting\n")
		in := bufio.NewReader(conn)
		response, err := http.ReadResponse(in, nil)
		if err == nil && response.StatusCode == 100 {
			response, err = http.ReadResponse(in, nil)
		}
		if err != nil || response.StatusCode != 101 || !strings.EqualFold(response.Header.Get("Upgrade"), strings.Fields(c.want)[1]) || response.Header.Get("Content-Type") == "" {
			t.Errorf("%.60q: %v, %v", c.head, response, err)
			continue
		}
		for _, want := range []string{c.want, "first, without waiting"} {
			if line, err := in.ReadString('\n'); line != want+"\n" || err != nil {
				t.Errorf("%.60q: %.100q, %v; not %.100q", c.head, line, err, want)
			}
		}
		_, _ = io.WriteString(conn, "last")
		_ = conn.CloseWrite()
		if rest, err := io.ReadAll(in); string(rest) != "lastthe end" || err != nil {
			t.Errorf("%.60q: after our end: %.100q, %v", c.head, rest, err)
		}
	}

	ordinary := func(head string) {
		t.Helper()
		if answer := e.say(t, head+"Host: localhost\r\nConnection: Upgrade, close\r\n\r\n"); !strings.HasPrefix(answer, "HTTP/1.1 200 ") || !strings.HasSuffix(answer, "ordinary") {
			t.Errorf("%q: %.200q", head, answer)
		}
	}
	ordinary("GET / HTTP/1.1\r\nUpgrade: h2c\r\n")
	ordinary("GET / HTTP/1.1\r\nUpgrade: SPDY/3\r\n")
	ordinary("GET / HTTP/1.1\r\nUpgrade: h2c, foo/1\r\n")
	ordinary("GET / HTTP/1.1\r\nUpgrade: h2c\r\nUpgrade: xwebsocket, websocket/2\r\n")
	ordinary("GET /usual HTTP/1.1\r\nUpgrade: tcp, h2c\r\n")
	ordinary("GET /usual HTTP/1.1\r\nUpgrade: tcp\r\n")
	ordinary("GET /none HTTP/1.1\r\nUpgrade: websocket\r\n")

	large := "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 65537\r\n\r\n" + strings.Repeat("x", 65_537)
	if answer := e.say(t, large); !strings.HasPrefix(answer, "HTTP/1.1 413 ") {
		t.Errorf("too much content: %.100q", answer)
	}
	for name, ask := range e.fronts(t) {
		for path, protocol := range map[string]string{"/": "tcp", "/none": "websocket"} {
			o := ask(forged{fields: []string{":method", "CONNECT", ":protocol", protocol, ":scheme", "https", ":authority", "localhost", ":path", path}, data: "x"})
			if o.status != "501" {
				t.Errorf("%s: %s at %s: %+v", name, protocol, path, o)
			}
		}
	}
}

// A client may offer several protocols: a WebSocket is opened where it is among them, whatever stands before it, and the target hears of it alone.
func TestAWebSocketIsFoundInAListOfProtocols(t *testing.T) {
	t.Parallel()
	heard := make(chan string, 1)
	target := serveTCP(t, func(c *net.TCPConn) {
		in := bufio.NewReader(c)
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		heard <- strings.Join(r.Header["Upgrade"], "; ")
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
		_, _ = io.Copy(io.Discard, in)
	})
	e := startFile(t, "sites: [{hosts: [localhost], routes: [{to: %q}]}]", target)
	for _, lines := range []string{
		"Upgrade: foo, websocket", "Upgrade: foo/2, WebSocket", "Upgrade: h2c\r\nUpgrade: websocket", "Upgrade: ,websocket", "Upgrade: websocket, foo",
	} {
		conn := e.raw(t)
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\n"+lines+"\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || response.StatusCode != 101 || response.Header.Get("Upgrade") != "websocket" {
			t.Errorf("%q: %v, %v", lines, response, err)
			continue
		}
		if got := <-heard; got != "websocket" {
			t.Errorf("%q: the target heard %q", lines, got)
		}
	}
}

// A target that goes over to another protocol than the client has asked for has not answered properly.
func TestATargetGoesOverToNoOtherProtocol(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{"websocket", "h2c", "tcp/2", "tcp, h2c", ""} {
		target := serveTCP(t, func(c *net.TCPConn) {
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\nsmuggled", answer)
				_, _ = io.Copy(io.Discard, c)
			}
		})
		e := startFile(t, "sites: [{hosts: [localhost], routes: [{to: %q, upgrades: [tcp, websocket, h2c]}]}]", target)
		if got := e.say(t, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 502 ") || strings.Contains(got, "smuggled") {
			t.Errorf("%q: %.200q", answer, got)
		}
	}
}

// At the end, nothing is put into a protocol that padlock does not know: it goes on for as long as a request may, and is cut then.
func TestNoGoodbyeGetsIntoAnUnknownProtocol(t *testing.T) {
	t.Parallel()
	e := start(t, "http://"+upgrades(t), func(c *config.Config) {
		c.Sites[0].Routes[0].Upgrades = []string{"tcp"}
		c.Timeouts.Shutdown = 2 * time.Second
	})
	conn := e.raw(t)
	_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	in := bufio.NewReader(conn)
	if response, err := http.ReadResponse(in, nil); err != nil || response.StatusCode != 101 {
		t.Fatal(response, err)
	}
	if line, err := in.ReadString('\n'); err != nil {
		t.Fatal(line, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- e.stop() }()
	got, _ := io.ReadAll(in)
	if len(got) > 0 {
		t.Errorf("at the end the client got %q", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// The answer that opens a tunnel is dressed as any other: URLs and cookies of the target become the client's, and a client gets the cookie that
// keeps it at its target.
func TestTheAnswerOfATunnelIsDressedAsOthers(t *testing.T) {
	t.Parallel()
	target := serveTCP(t, func(c *net.TCPConn) {
		in := bufio.NewReader(c)
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nSet-Cookie: id=1; Path=/\r\n\r\n", r.Header.Get("Upgrade"))
		_, _ = io.Copy(io.Discard, in)
	})
	e := startFile(t, "sites: [{hosts: [localhost], routes: [{path: /app, to: %q, sticky: at, strip_prefix: true, rewrite_urls: true, upgrades: [tcp]}]}]", target)
	conn := e.raw(t)
	_, _ = io.WriteString(conn, "GET /app/x HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	cookies := response.Header["Set-Cookie"]
	if response.StatusCode != 101 || len(cookies) != 2 || cookies[0] != "id=1; Path=/app" || !strings.HasPrefix(cookies[1], "at=") {
		t.Errorf("%s %q", response.Status, cookies)
	}
}
