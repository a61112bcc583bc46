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

	"padlock/config"
)

// scripted is a backend that answers a request for /N with the Nth of its texts, as it stands, and other requests properly.
type scripted struct {
	net.Listener
	texts  []string
	opened atomic.Int32
	ended  chan struct{} // a connection was closed by padlock after a text
}

func script(t *testing.T, texts ...string) *scripted {
	s := &scripted{Listener: listen(t), texts: texts, ended: make(chan struct{}, 100)}
	t.Cleanup(func() { s.Close() })
	go func() {
		for {
			c, err := s.Accept()
			if err != nil {
				return
			}
			s.opened.Add(1)
			go s.serve(c)
		}
	}()
	return s
}

func (s *scripted) serve(c net.Conn) {
	defer c.Close()
	reader := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		n := 0
		if _, err := fmt.Sscanf(r.URL.Path, "/%d", &n); err != nil || n >= len(s.texts) {
			if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nproper"); err != nil {
				return
			}
			continue
		}
		text, close := strings.CutSuffix(s.texts[n], "<close>")
		if _, err := io.WriteString(c, text); err != nil || close {
			return
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := reader.ReadByte(); err == io.EOF || err != nil && !strings.Contains(err.Error(), "timeout") {
			s.ended <- struct{}{}
		}
		return
	}
}

// A response that two readers could understand differently is a 502, or a body that is seen to be cut. Its connection is thrown away,
// and nothing of it shows up in another response.
func TestAmbiguousResponsesAreNotPassedOn(t *testing.T) {
	const evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	refused := []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 39\r\n\r\n" + evil,
		"HTTP/1.1 200 OK\r\nContent-Length: 4, 5\r\n\r\nabcd",
		"HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\nabcd",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n" + evil,
		"HTTP/1.1 200 OK\r\nContent-Length: 0x4\r\n\r\nabcd",
		"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n" + evil,
		"HTTP/1.1 200 OK\r\nContent-Length : 4\r\n\r\nabcd",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nabcd",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX: y\rContent-Length: 4\r\n\r\nabcd",
		"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 4\r\n\r\nabcd",
		"HTTP/1.1 200 OK\r\nContent-Length:\r\n 0\r\n\r\n" + evil,
		"HTTP/1.1 200 OK\r\n X: y\r\nContent-Length: 4\r\n\r\nabcd",
		"HTTP/1.1 200 OK\r\nX y\r\nContent-Length: 4\r\n\r\nabcd",
		"HTTP/1.1 200 O\x00K\r\nContent-Length: 4\r\n\r\nabcd",
		"HTTP/1.1 20 OK\r\nContent-Length: 4\r\n\r\nabcd",
		"HTTP/1.1 2000 OK\r\nContent-Length: 4\r\n\r\nabcd",
		"HTTP/1.1  200 OK\r\nContent-Length: 4\r\n\r\nabcd",
		"HTTP/2. 200 OK\r\nContent-Length: 4\r\n\r\nabcd",
		"ICY 200 OK\r\nContent-Length: 4\r\n\r\nabcd",
		"\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd",
		"garbage\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\n\r\n" + evil,
		strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n", 11) + evil,
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 257<<10) + "\r\n\r\n",
		"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 201) + "\r\n",
		"<close>",
		"HTTP/1.1 200 OK\r\nContent-Le<close>",
	}
	cut := []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n" + evil, // the coding decides
		"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabcd<close>",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n<close>",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nab<close>",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n<close>",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcdX\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\nabcd\n0\n\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-4\r\nabcd\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\nX y\r\n\r\n",
	}
	behind := []string{ // the response is good; what stands behind it is nobody's
		"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood" + evil,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n" + evil,
		"HTTP/1.0 200 OK\r\nContent-Length: 4\r\nConnection: keep-alive\r\n\r\ngood" + evil,
	}
	s := script(t, append(append(append([]string(nil), refused...), cut...), behind...)...)
	e := start(t, "http://"+s.Addr().String(), func(c *config.Config) { c.Timeouts.ResponseHeader = config.Patience(2 * time.Second) })
	for name, client := range e.clients(t) {
		for i, text := range s.texts {
			response, err := client.Get(fmt.Sprintf("https://localhost/%d", i))
			body := ""
			status := 0
			if err == nil {
				var all []byte
				all, err = io.ReadAll(response.Body)
				response.Body.Close()
				body, status = string(all), response.StatusCode
			}
			switch {
			case i < len(refused):
				if err != nil || status != 502 {
					t.Errorf("%s: %.80q: %d, %v", name, text, status, err)
				}
			case i < len(refused)+len(cut):
				if err == nil && status != 502 {
					t.Errorf("%s: %.80q: %d %q looks whole", name, text, status, body)
				}
			default:
				if err != nil || body != "good" {
					t.Errorf("%s: %.80q: %q, %v", name, text, body, err)
				}
			}
			if strings.Contains(body, "evil") {
				t.Errorf("%s: %.80q: passed on %q", name, text, body)
			}
			if proper, err := client.Get("https://localhost/proper"); err != nil {
				t.Errorf("%s: after %.80q: %v", name, text, err)
			} else {
				all, err := io.ReadAll(proper.Body)
				proper.Body.Close()
				if string(all) != "proper" || err != nil {
					t.Errorf("%s: after %.80q came %q, %v", name, text, all, err)
				}
			}
			if !strings.HasSuffix(text, "<close>") {
				select {
				case <-s.ended:
				case <-time.After(5 * time.Second):
					t.Errorf("%s: %.80q: its connection is still open", name, text)
				}
			}
		}
	}
}

// What has no content has none, whatever its head says.
func TestResponsesWithoutContent(t *testing.T) {
	s := script(t,
		"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 400\r\nETag: \"x\"\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
	)
	e := start(t, "http://"+s.Addr().String(), nil)
	for name, client := range e.clients(t) {
		for i, want := range []int{204, 304, 204} {
			response, err := client.Get(fmt.Sprintf("https://localhost/%d", i))
			if err != nil {
				t.Errorf("%s %d: %v", name, i, err)
				continue
			}
			body, err := io.ReadAll(response.Body)
			response.Body.Close()
			if response.StatusCode != want || len(body) > 0 || err != nil {
				t.Errorf("%s %d: %s %q %v", name, i, response.Status, body, err)
			}
		}
	}
}

// closing is a backend that closes its connections after some requests, by a rule.
func closing(t *testing.T, rule func(connection, request int) (answer, close bool)) (address string, requests *atomic.Int32) {
	l := listen(t)
	t.Cleanup(func() { l.Close() })
	requests = new(atomic.Int32)
	go func() {
		for connection := 0; ; connection++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				reader := bufio.NewReader(c)
				for request := 0; ; request++ {
					r, err := http.ReadRequest(reader)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					requests.Add(1)
					answer, close := rule(connection, request)
					if answer {
						_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
					}
					if close {
						return
					}
				}
			}()
		}
	}()
	return "http://" + l.Addr().String(), requests
}

func TestABackendsClosedConnectionsAreNotUsedAgain(t *testing.T) {
	address, requests := closing(t, func(_, _ int) (bool, bool) { return true, true }) // keep-alive, and yet
	client := start(t, address, nil).clients(t)["h1"]
	for i := range 20 {
		response, err := client.Post("https://localhost/", "", strings.NewReader("not to be sent twice"))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != 200 {
			t.Fatalf("request %d: %s", i, response.Status)
		}
		time.Sleep(5 * time.Millisecond) // until its end has come
	}
	if n := requests.Load(); n != 20 {
		t.Errorf("the backend got %d requests, not 20", n)
	}
}

// A connection that dies while the request is on its way: what can be repeated is repeated, once; what cannot is not.
func TestOnlyIdempotentRequestsAreRepeated(t *testing.T) {
	for _, test := range []struct {
		method, content string
		status          int
		requests        int32
	}{{"GET", "", 200, 3}, {"DELETE", "", 200, 3}, {"PUT", "content", 200, 3}, {"POST", "", 502, 2}, {"POST", "content", 502, 2}, {"PATCH", "content", 502, 2}} {
		address, requests := closing(t, func(connection, request int) (bool, bool) {
			return connection > 0 || request == 0, connection == 0 && request == 1 // the first connection dies at its second request
		})
		client := start(t, address, nil).clients(t)["h1"]
		for _, want := range []int{200, test.status} {
			request, _ := http.NewRequest(test.method, "https://localhost/", strings.NewReader(test.content))
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, response.Body) // else the client's connection ends, and the target's with it
			response.Body.Close()
			if response.StatusCode != want {
				t.Errorf("%s: %s, not %d", test.method, response.Status, want)
			}
		}
		if n := requests.Load(); n != test.requests {
			t.Errorf("%s: the backend got %d requests, not %d", test.method, n, test.requests)
		}
	}
}

// A fault of the client is never called one of the target.
func TestClientFaultsAreNotTheTargets(t *testing.T) {
	e := start(t, backend(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }), func(c *config.Config) {
		c.Timeouts.BodyIdle = 300 * time.Millisecond
	})
	for text, want := range map[string]string{
		"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nz\r\n": "HTTP/1.1 400 ",
		"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhello":                       "HTTP/1.1 408 ",
	} {
		if answer := e.say(t, text); !strings.HasPrefix(answer, want) {
			t.Errorf("%q: answered %q", text, answer)
		}
	}
	if err := e.stop(); err != nil { // the log is whole
		t.Fatal(err)
	}
	if log := e.access.String(); strings.Contains(log, `"status":502`) || !strings.Contains(log, `"status":408`) {
		t.Errorf("the access log says\n%s", log)
	}
}

// What many servers get wrong, and what can mislead nobody as padlock frames the response anew, passes: with the right content, and fields
// of one line each.
func TestMistakesOfServersThatHarmNobodyPass(t *testing.T) {
	t.Parallel()
	chunked := "Transfer-Encoding: chunked\r\n"
	cases := []struct {
		text   string
		status int
		field  string // X
		body   string
	}{
		{"HTTP/1.1 200 OK\r\n" + chunked + "\r\n5  \r\nhello\r\n6\t\r\n, good\r\n0 \t \r\n\r\n", 200, "", "hello, good"}, // ESP8266, ESP32
		{"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX: y\r\ncontent-length: 4\r\n\r\ngood", 200, "y", "good"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 4, 4\r\n\r\ngood", 200, "", "good"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n" + chunked + "\r\n4\r\ngood\r\n0\r\n\r\n", 200, "", "good"},
		{"HTTP/1.1 200 OK\r\n" + chunked + "Content-Length: 1\r\n\r\n4\r\ngood\r\n0\r\n\r\n", 200, "", "good"},
		{"HTTP/2.0 404 Not Found\r\nConnection: close\r\n\r\ngood<close>", 404, "", "good"}, // php -S
		{"HTTP/1.1 600 Odd\r\nContent-Length: 4\r\n\r\ngood", 600, "", "good"},
		{"HTTP/1.1 999 Request denied\r\nContent-Length: 4\r\n\r\ngood", 999, "", "good"},
		{"HTTP/1.1 200 OK\nX: y\nContent-Length: 4\n\ngood", 200, "y", "good"},
		{"HTTP/1.0 200 Script output follows\r\nServer: x\r\nX: y\nContent-Type: text/plain\n\ngood<close>", 200, "y", "good"},
		{"HTTP/1.1 200 OK\r\nX: a;\r\n  b;\r\n\tc\r\nContent-Length: 4\r\n\r\ngood", 200, "a; b; c", "good"},
		{"HTTP/1.1 200 OK\r\nX: a;\n    b\r\nContent-Length: 4\r\n\r\ngood", 200, "a; b", "good"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX:\r\n a\r\n\r\ngood", 200, "a", "good"},
		{"HTTP/1.1 103 Early Hints\nX: a\n b\n\nHTTP/1.1 200 OK\nX: y\nContent-Length: 4\n\ngood", 200, "y", "good"},
	}
	texts := make([]string, 0, len(cases))
	for _, c := range cases {
		texts = append(texts, c.text)
	}
	e := start(t, "http://"+script(t, texts...).Addr().String(), nil)
	for name, client := range e.everyClient(t) {
		for i, c := range cases {
			response, err := client.Get(fmt.Sprintf("https://localhost/%d", i))
			if err != nil {
				t.Errorf("%s: %q: %v", name, c.text, err)
				continue
			}
			body, err := io.ReadAll(response.Body)
			response.Body.Close()
			lengths := response.Header["Content-Length"]
			if err != nil || response.StatusCode != c.status || string(body) != c.body || response.Header.Get("X") != c.field || len(lengths) > 1 {
				t.Errorf("%s: %q: %s, X %q, lengths %q, %q, %v", name, c.text, response.Status, response.Header["X"], lengths, body, err)
			}
		}
		response, err := client.Head("https://localhost/2")
		if err != nil || response.StatusCode != 200 || response.ContentLength != 4 {
			t.Errorf("%s: HEAD: %v, %v", name, response, err)
		}
	}
}

// A target that does not speak HTTP is a 502 that says so, at once, however long it would go on.
func TestATargetThatIsNotHTTPIsNamedAtOnce(t *testing.T) {
	t.Parallel()
	for greeting, why := range map[string]string{
		"SSH-2.0-OpenSSH_9.2\r\n":        "the status line is malformed",
		"220 mail ESMTP\r\n":             "the status line is malformed",
		"HTTP/1.1 200 OK\r\nX y\r\n\r\n": "a field line is malformed",
	} {
		e := start(t, "http://"+script(t, greeting).Addr().String(), func(c *config.Config) { c.Timeouts.ResponseHeader = config.Patience(time.Minute) })
		response, err := e.clients(t)["h1"].Get("https://localhost/0")
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != 502 || !strings.Contains(string(text), why) {
			t.Errorf("%q: %s %s", greeting, response.Status, text)
		}
		soonIn(t, e, why)
	}
}
