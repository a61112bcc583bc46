//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// beginnings are cases of frames that come with the handshake.
func beginnings() []wsCase {
	first, answer := up(fin|opText, "early"), down(fin|opText, "early too")
	large := up(fin|opBinary, noise(1<<20))
	return []wsCase{
		{
			name: "the client's first frame in one segment with its request", request: wsRequest{early: first},
			target: func(p *wsPeer) { p.accept(); p.hear(first); p.say(answer); p.end() },
			client: func(v *wsClient) { v.hear(answer); must(v.t, v.end()); v.properly() },
		},
		{
			name:   "the target's first frame in one segment with its 101",
			target: func(p *wsPeer) { p.say(append([]byte(p.switching()), answer...)); p.hear(first); p.end() },
			client: func(v *wsClient) { v.hear(answer); v.say(first); must(v.t, v.end()); v.properly() },
		},
		{
			name: "both sides' first frames with their heads", request: wsRequest{early: first},
			target: func(p *wsPeer) { p.say(append([]byte(p.switching()), answer...)); p.hear(first); p.end() },
			client: func(v *wsClient) { v.hear(answer); must(v.t, v.end()); v.properly() },
		},
		{
			name: "all that a client has to say with its request", request: wsRequest{early: append(bytes.Clone(first), up(fin|opClose, status(1000, ""))...)},
			target: func(p *wsPeer) {
				p.say(append([]byte(p.switching()), answer...))
				p.hear(append(bytes.Clone(first), up(fin|opClose, status(1000, ""))...))
				p.say(down(fin|opClose, status(1000, "")))
			},
			client: func(v *wsClient) {
				v.hear(append(bytes.Clone(answer), down(fin|opClose, status(1000, ""))...))
				v.ended()
			},
		},
		{
			name: "a mebibyte that is sent before the target has answered", request: wsRequest{early: large},
			target: func(p *wsPeer) {
				select { // time for padlock to do something wrong with it
				case <-p.t.Context().Done():
				case <-time.After(300 * time.Millisecond):
				}
				p.accept()
				p.hear(large)
				p.say(answer)
				p.end()
			},
			client: func(v *wsClient) { v.hear(answer); must(v.t, v.end()); v.properly() },
		},
		{
			name: "a mebibyte in one write with the target's 101",
			target: func(p *wsPeer) {
				p.say(append([]byte(p.switching()), down(fin|opBinary, noise(1<<20))...))
				p.hear(first)
				p.end()
			},
			client: func(v *wsClient) {
				v.hear(down(fin|opBinary, noise(1<<20)))
				v.say(first)
				must(v.t, v.end())
				v.properly()
			},
		},
	}
}

// refusal is a case in which the target answers with something other than a WebSocket, and the client gets that.
func refusal(name, head string, code int, body string, fields ...string) wsCase {
	return wsCase{
		name: name, refused: true,
		target: func(p *wsPeer) { p.refuse(head, body) },
		client: func(v *wsClient) { v.answered(code, body, fields...) },
	}
}

func (v *wsClient) answered(code int, body string, fields ...string) {
	v.t.Helper()
	got, err := io.ReadAll(v.Reader)
	if v.status != code || string(got) != body || err != nil {
		v.t.Errorf("the answer is %d %.80q: %v", v.status, got, err)
	}
	for i := 0; i < len(fields); i += 2 {
		if got := v.fields.Get(fields[i]); got != fields[i+1] {
			v.t.Errorf("%s is %q, not %q", fields[i], got, fields[i+1])
		}
	}
}

// failed is for answers that padlock makes itself.
func failed(code int) func(*wsClient) {
	return func(v *wsClient) {
		if v.status != code {
			v.t.Errorf("the answer is %d %v", v.status, v.fields)
		}
	}
}

func handshakes() []wsCase {
	tunnelled := []string{"h2", "h3"}
	wrong := func(p *wsPeer) {
		p.say([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"))
		p.gone()
	}
	fine := func(p *wsPeer) { p.refuse("200 OK\r\nContent-Type: text/plain", "a page") }
	cases := []wsCase{
		refusal("a target's 403 with its content", "403 Forbidden\r\nX-Why: origin", 403, "not from there", "X-Why", "origin"),
		refusal("a target's 401 with its challenge", "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"chat\"", 401, "who are you?", "Www-Authenticate", `Basic realm="chat"`),
		refusal("a target's 426 with the version that it speaks", "426 Upgrade Required\r\nSec-WebSocket-Version: 13", 426, "", "Sec-Websocket-Version", "13"),
		refusal("a target's redirect", "302 Found\r\nLocation: https://other.example/chat", 302, "", "Location", "https://other.example/chat"),
		refusal("a target's 503 with a time to come again", "503 Service Unavailable\r\nRetry-After: 7", 503, "full", "Retry-After", "7"),
		{name: "a target's 200, which is no WebSocket", over: []string{"h1"}, refused: true, target: fine, client: func(v *wsClient) { v.answered(200, "a page") }},
		// By HTTP/2 and 3 any 2xx would tell the client that its WebSocket is open (RFC 8441 section 5).
		{name: "a target's 200, which must not look like a WebSocket", over: tunnelled, refused: true, target: fine, client: failed(502)},
		{name: "an answer of a target that has not read the key", over: []string{"h1"}, target: wrong, client: func(v *wsClient) {
			if got := v.fields.Get("Sec-WebSocket-Accept"); got != wsKey {
				v.t.Errorf("the client cannot see it: %q", got)
			}
		}},
		{name: "an answer of a target that has not read the key", over: tunnelled, refused: true, target: wrong, client: failed(502)},
		{name: "a target that ends in the handshake", refused: true, target: func(p *wsPeer) {}, client: failed(502)},
		{name: "a target that switches to another protocol", refused: true, target: func(p *wsPeer) {
			p.say([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"))
			p.gone()
		}, client: failed(502)},
		{name: "a target that switches without saying Connection", refused: true, target: func(p *wsPeer) {
			p.say([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"))
			p.gone()
		}, client: failed(502)},
		{
			name: "what the client says in its handshake",
			request: wsRequest{fields: []string{"Origin", "https://app.example", "Cookie", "session=1; b=2", "Authorization", "Bearer token",
				"Sec-WebSocket-Protocol", "chat, superchat", "Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits, x-other; a=1", "X-Forwarded-For", "203.0.113.1"}},
			target: func(p *wsPeer) { p.asked(); p.accept(); p.end() },
			client: func(v *wsClient) { must(v.t, v.end()); v.properly() },
		},
		{
			name: "what the target says in its handshake",
			target: func(p *wsPeer) {
				p.accept("Sec-WebSocket-Protocol: superchat", "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover", "Set-Cookie: seen=1", "X-Own: value")
				p.say(down(fin|rsv1|opText, "\xca\x48\xcd\xc9\xc9\x07\x00")) // RFC 7692 section 7.2.3.1
				p.end()
			},
			client: func(v *wsClient) {
				for name, want := range map[string]string{"Sec-Websocket-Protocol": "superchat", "Set-Cookie": "seen=1", "X-Own": "value",
					"Sec-Websocket-Extensions": "permessage-deflate; server_no_context_takeover"} {
					if got := v.fields.Get(name); got != want {
						v.t.Errorf("%s is %q", name, got)
					}
				}
				v.hear(down(fin|rsv1|opText, "\xca\x48\xcd\xc9\xc9\x07\x00"))
				must(v.t, v.end())
				v.properly()
			},
		},
		{name: "an address that may not come", request: wsRequest{path: "/denied/chat"}, refused: true, client: failed(403)},
		{name: "a client that needs a password", request: wsRequest{path: "/secret/chat"}, refused: true, client: func(v *wsClient) {
			if v.status != 401 || v.fields.Get("WWW-Authenticate") == "" {
				v.t.Errorf("the answer is %d %v", v.status, v.fields)
			}
		}},
		{name: "an address for other methods", request: wsRequest{path: "/posts/chat"}, refused: true, client: failed(405)},
		{name: "an address that does not exist", request: wsRequest{path: "/nothing"}, refused: true, client: failed(404)},
		{name: "a host that is not served", request: wsRequest{path: "/raw/other", host: "other.localhost"}, refused: true, client: failed(421)},
		// HTTP/3's client says CONNECT alone where the protocol is HTTP/1.1.
		{name: "a CONNECT to anywhere", over: []string{"h3"}, request: wsRequest{path: "/", protocol: "HTTP/1.1"}, refused: true, client: failed(405)},
		{name: "a protocol that is none of ours", over: tunnelled, request: wsRequest{path: "/raw/udp", protocol: "connect-udp"}, refused: true, client: failed(501)},
		{name: "a protocol that is none of ours, at an address without a target", over: tunnelled, request: wsRequest{path: "/fixed", protocol: "connect-udp"}, refused: true, client: failed(501)},
		{name: "an address without a target", over: []string{"h1"}, request: wsRequest{path: "/fixed"}, refused: true, client: func(v *wsClient) { v.answered(200, "hello\n") }},
		{name: "an address without a target", over: tunnelled, request: wsRequest{path: "/fixed"}, refused: true, client: failed(501)},
	}
	return cases
}

// asked checks what the target is told.
func (p *wsPeer) asked() {
	for name, want := range map[string]string{
		"Origin": "https://app.example", "Cookie": "session=1; b=2", "Authorization": "Bearer token", "Sec-Websocket-Protocol": "chat, superchat",
		"Sec-Websocket-Extensions": "permessage-deflate; client_max_window_bits, x-other; a=1", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https",
		"X-Forwarded-Host": "localhost", "Sec-Websocket-Version": "13", "Connection": "Upgrade", "Upgrade": "websocket",
	} {
		if got := strings.Join(p.request.Header.Values(name), " and "); got != want {
			p.t.Errorf("%s is %q at the target", name, got)
		}
	}
	if keys := p.request.Header.Values("Sec-WebSocket-Key"); len(keys) != 1 || len(keys[0]) != 24 || p.request.Method != "GET" || p.request.ContentLength != 0 || p.request.Host != "localhost" {
		p.t.Errorf("the target was asked %s for %s, with keys %q", p.request.Method, p.request.Host, keys)
	}
}

// wsHeads are heads of HTTP/1.1 that a client of good will does not send.
var wsHeads = map[string]func(*testing.T, *wsSuite){
	"an upgrade with content is refused": func(t *testing.T, s *wsSuite) {
		s.refusesHead(t, "GET /raw/content HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello")
	},
	"an upgrade with chunked content is refused": func(t *testing.T, s *wsSuite) {
		s.refusesHead(t, "GET /raw/chunks HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
	},
	"an upgrade by POST is refused": func(t *testing.T, s *wsSuite) {
		s.refusesHead(t, "POST /raw/post HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n")
	},
	"CONNECT by HTTP/1.1 is refused": func(t *testing.T, s *wsSuite) {
		s.refusesHead(t, "CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n")
	},
	"an Upgrade without Connection is no upgrade": func(t *testing.T, s *wsSuite) {
		s.plainRequest(t, "/raw/unconnected", "HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n")
	},
	"a Connection without Upgrade is no upgrade": func(t *testing.T, s *wsSuite) {
		s.plainRequest(t, "/raw/unupgraded", "HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n")
	},
	"an upgrade to h2c is no upgrade": func(t *testing.T, s *wsSuite) {
		s.plainRequest(t, "/raw/h2c", "HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n")
	},
	"an upgrade to several other protocols is no upgrade": func(t *testing.T, s *wsSuite) {
		s.plainRequest(t, "/raw/several", "HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: foo/2, h2c\r\n")
	},
	"two fields of Upgrade with other protocols are no upgrade": func(t *testing.T, s *wsSuite) {
		s.plainRequest(t, "/raw/twice", "HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: foo\r\n")
	},
	"a WebSocket among several protocols is opened": func(t *testing.T, s *wsSuite) {
		s.opens(t, "/raw/among", "host: localhost\r\nconnection: Upgrade\r\nupgrade: h2c, websocket\r\n")
	},
	"a WebSocket in the second field of Upgrade is opened": func(t *testing.T, s *wsSuite) {
		s.opens(t, "/raw/second", "host: localhost\r\nconnection: Upgrade\r\nupgrade: h2c\r\nupgrade: websocket\r\n")
	},
	"HTTP/1.0 knows no upgrade": func(t *testing.T, s *wsSuite) {
		s.plainRequest(t, "/raw/old", "HTTP/1.0\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n")
	},
	"the case of letters does not matter": func(t *testing.T, s *wsSuite) {
		s.opens(t, "/raw/case", "host: LOCALHOST\r\nconnection: keep-alive , uPGRADE\r\nupgrade: WebSocket\r\n")
	},
	// Who believes that a WebSocket is open where it is not would send anything past the edge's rules: "upgrade smuggling".
	"what follows a handshake that was refused is judged as any request": func(t *testing.T, s *wsSuite) {
		conn := s.fronts["h1"].raw(t)
		script := s.target.expect(t, "/raw/refused", func(p *wsPeer) {
			p.refuse("426 Upgrade Required\r\nSec-WebSocket-Version: 13", "")
			p.end() // and no byte of what follows
		})
		_, _ = io.WriteString(conn, "GET /raw/refused HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 777\r\nSec-WebSocket-Key: "+wsKey+"\r\n\r\n"+
			"GET /denied/admin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		r := bufio.NewReader(conn)
		for _, want := range []int{426, 403} {
			response, err := http.ReadResponse(r, nil)
			if err != nil || response.StatusCode != want {
				t.Fatalf("%v, %v, not %d", response, err, want)
			}
			_, _ = io.Copy(io.Discard, response.Body)
		}
		script.wait()
	},
	"frames that follow a handshake that was refused are no requests": func(t *testing.T, s *wsSuite) {
		conn := s.fronts["h1"].raw(t)
		script := s.target.expect(t, "/raw/frames", func(p *wsPeer) { p.refuse("403 Forbidden", "no"); p.end() })
		_, _ = conn.Write(append([]byte("GET /raw/frames HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"), up(fin|opText, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")...))
		r := bufio.NewReader(conn)
		response, err := http.ReadResponse(r, nil)
		if err != nil || response.StatusCode != 403 {
			t.Fatalf("%v, %v", response, err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 && !strings.HasPrefix(string(rest), "HTTP/1.1 400 ") {
			t.Errorf("and then %q, %v", rest, err)
		}
		script.wait()
	},
}

func (f wsFront) raw(t *testing.T) *tls.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", f.address, f.tls("http/1.1"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(wsPatience))
	return conn
}

// opens opens a WebSocket with these fields, of which the target hears alone, and has a message go each way.
func (s *wsSuite) opens(t *testing.T, path, fields string) {
	conn := s.fronts["h1"].raw(t)
	script := s.target.expect(t, path, func(p *wsPeer) {
		if got := p.request.Header.Values("Upgrade"); len(got) != 1 || !strings.EqualFold(got[0], "websocket") {
			p.t.Errorf("the target saw Upgrade: %q", got)
		}
		p.accept()
		p.hear(up(fin|opText, "x"))
		p.say(down(fin|opText, "y"))
	})
	_, _ = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\n"+fields+"sec-websocket-key: "+wsKey+"\r\n\r\n")
	r := bufio.NewReader(conn)
	if response, err := http.ReadResponse(r, nil); err != nil || response.StatusCode != 101 {
		t.Fatalf("%v, %v", response, err)
	}
	_, _ = conn.Write(up(fin|opText, "x"))
	hears(t, "the client", r, down(fin|opText, "y"))
	script.wait()
}

// refusesHead sends what no target may see.
func (s *wsSuite) refusesHead(t *testing.T, head string) {
	conn := s.fronts["h1"].raw(t)
	_, _ = io.WriteString(conn, head)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || response.StatusCode/100 != 4 {
		t.Errorf("%v, %v", response, err)
	}
}

// plainRequest sends what the target gets as a request like any other, without a trace of an upgrade.
func (s *wsSuite) plainRequest(t *testing.T, path, rest string) {
	conn := s.fronts["h1"].raw(t)
	script := s.target.expect(t, path, func(p *wsPeer) {
		for _, name := range []string{"Upgrade", "Http2-Settings"} {
			if got := p.request.Header.Get(name); got != "" {
				p.t.Errorf("the target saw %s: %s", name, got)
			}
		}
		p.refuse("200 OK", "a page")
	})
	_, _ = io.WriteString(conn, "GET "+path+" "+rest+"\r\n")
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || response.StatusCode != 200 {
		t.Fatalf("%v, %v", response, err)
	}
	if body, err := io.ReadAll(response.Body); string(body) != "a page" || err != nil {
		t.Errorf("%q, %v", body, err)
	}
	script.wait()
}
