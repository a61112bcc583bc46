package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"padlock/config"
)

// everyClient speaks HTTP/1.1, 2 and 3 to the edge.
func (e *edge) everyClient(t *testing.T) map[string]*http.Client {
	all := e.clients(t)
	all["h3"] = e.three(t, nil)
	return all
}

const evilResponse = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"

// oddResponses are heads that no two readers are sure to understand alike.
func oddResponses() (all []string) {
	head := func(format string, args ...any) {
		all = append(all, fmt.Sprintf(format, args...)+"\r\n\r\n"+evilResponse)
	}
	for _, line := range []string{
		" HTTP/1.1 200 OK", "HTTP/1.1\t200 OK", "HTTP/1.1 200\tOK", "HTTP/1.1 0200 OK", "HTTP/1.1 -200 OK", "HTTP/1.1 +20 OK", "HTTP/1.1 2x0 OK", "HTTP/1.1 2 OK", "HTTP/1.1  OK", "HTTP/1.1", "http/1.1 200 OK", "HTTP/1.2 200 OK", "HTTP/0.9 200 OK",
		"HTTP/11 200 OK", "HTTPS/1.1 200 OK", "HTTP/1.1 099 OK", "HTTP/1.1 000 OK", "HTTP/1 200 OK", "HTTP/2  200 OK", "HTTP/2\t200 OK", "HTTP/2. 200 OK", "HTTP/20 200 OK", "HTTP/2.1 200 OK", "HTTP/4 200 OK", "HTTP/4.0 200 OK", "HTTP/1.1 200OK", "HTTP/1.1 200 O\rK", "HTTP/1.1 200 O\x1bK", "HTTP/1.1 200 O\x7fK", "HTTP/1.1 200 OK\r", "\x00HTTP/1.1 200 OK", "200 OK", "SIP/2.0 200 OK", "GET / HTTP/1.1",
	} {
		head("%s\r\nContent-Length: 0", line)
	}
	for _, length := range []string{"", " ", "+0", "-0", "0x0", "0, 1", "0,,0", "0,", ",0", "0;", "0 0", "0.0", "1e0", "٠", "\x0b0", "0\x0c", "00000000000000000000", "18446744073709551616", "null", "=0", "'0'"} {
		head("HTTP/1.1 200 OK\r\nContent-Length: %s", length)
	}
	for _, coding := range []string{"", "gzip", "identity", "chunked, identity", "chunked, , chunked", "gzip, chunked", "chunked, gzip", "chunked;q=1", "\"chunked\"", "xchunked", "chunkedx", "\x0bchunked", "chunked\x0c", "chunked,", ",chunked", "c hunked", "chunked x", "chunked\xa0"} {
		head("HTTP/1.1 200 OK\r\nTransfer-Encoding: %s", coding)
		head("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: %s", coding)
	}
	head("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip")
	head("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked, chunked")
	head("HTTP/1.1 200 OK\r\nContent-Length: x\r\nTransfer-Encoding: chunked")
	head("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 0")
	for _, field := range []string{
		"X", "X y", ": y", "X : y", "X\t: y", "X: y\rZ: z", "X: y\r", "X: y\r\r", "X: y\n\r z", "X: y\r\n \r z", "X: \x00", "X: \x07", "X: \x1b[2J", "X: \x7f", "X\x00: y", "X\x80: y", "X(y): z", "X\r: y", "Content-Length : 5", "Content-Length\t: 5",
		"Transfer-Encoding : chunked", "Transfer-Encoding\x00: chunked", "Set-Cookie: a=b\rSet-Cookie: c=d", "Content-Length: 5", "Content-Length: 0, 5", "X\r\n : y", "X\n y: z", "Content-Length:\r\n 0", "Content-Length: 0\n\t0", "Transfer-Encoding:\r\n chunked", "Transfer-Encoding: chun\r\n ked", "X: y\r\n \x00",
	} {
		head("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n%s", field)
	}
	for _, interim := range []string{"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade", "HTTP/1.1 101 X\r\nContent-Length: 0", "HTTP/1.0 101 X", "HTTP/1.1 103 Early Hints\r\nX y", "HTTP/1.1 103 Early Hints\r\nX: a\x00", "HTTP/1.1 100 Continue\r\nContent-Length: x", "HTTP/1.1 102 P\r\nTransfer-Encoding: gzip"} {
		head("%s", interim)
	}
	for _, line := range []string{" X: y", "\tX: y", " Content-Length: 0", " "} { // a fold of nothing
		all = append(all, "HTTP/1.1 200 OK\r\n"+line+"\r\nContent-Length: 0\r\n\r\n"+evilResponse, "HTTP/1.1 200 OK\n"+line+"\nContent-Length: 0\n\n"+evilResponse)
	}
	all = append(all,
		"\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd", "\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd", "HTTP/1.1 200 OK\nContent-Length: 5\nContent-Length: 4\n\nabcd", "HTTP/1.1 200 OK\rContent-Length: 4\r\rabcd<close>", "abcd<close>", "\x16\x03\x01\x02\x00<close>", "<html></html>\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 4<close>", "H<close>", "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n<close>", "HTTP/1.1 100 Continue\r\n\r\n<close>",
	)
	return all
}

// cutResponses begin well and do not end as their head says.
var cutResponses = []string{
	"5\r\nhell<close>", "5\r\nhello<close>", "5\r\nhello\r<close>", "5\r\nhello\r\n0<close>", "5\r\nhello\r\n0\r<close>", "5\r\nhello\r\n0\r\nX: y<close>", "5\r\nhello\r\n0\r\nX: y\r\n<close>", "5\r\nhelloo\r\n0\r\n\r\n", "5\r\nhello\n0\r\n\r\n", "5\r\nhello0\r\n\r\n",
	"+5\r\nhello\r\n0\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n", " 5\r\nhello\r\n0\r\n\r\n", "5 x\r\nhello\r\n0\r\n\r\n", "5 6\r\nhello\r\n0\r\n\r\n", "5 \n\r\nhello\r\n0\r\n\r\n", "5\v\r\nhello\r\n0\r\n\r\n", "5;\x00\r\nhello\r\n0\r\n\r\n", "5;x\ny\r\nhello\r\n0\r\n\r\n", "5\nhello\n0\n\n", "10000000000000005\r\nhello\r\n0\r\n\r\n", "ffffffffffffffff\r\nhello", ";x\r\n", "\r\n", "x\r\n",
	"5\r\nhello\r\n0\r\nX\r\n\r\n", "5\r\nhello\r\n0\r\nX : y\r\n\r\n", "5\r\nhello\r\n0\r\n X: y\r\n\r\n", "5\r\nhello\r\n0\r\nX: \x00\r\n\r\n", "5\r\nhello\r\n0\r\nX: y\n\r\n", "5\r\nhello\r\n0\r\n\n", "5\r\nhello\r\n-0\r\n\r\n", "5\r\nhello\r\nHTTP/1.1 200 OK\r\n\r\n",
}

// goodResponses are whole, and their content is "good" or none; what stands behind them is nobody's.
var goodResponses = []string{
	"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood" + evilResponse,
	"HTTP/1.1 200 OK\r\nContent-Length: 04\r\n\r\ngood\r\n" + evilResponse,
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\n\r\n2;evil=\"x\"\r\ngo\r\n02\r\nod\r\n000\r\nX-T: v\r\n\r\n" + evilResponse,
	"HTTP/1.1 200\r\nContent-Length: 4\r\n\r\ngood" + evilResponse,
	"HTTP/1.1 200 OK\r\nContent-Length: 4\r\ncontent-length: 4\r\n\r\ngood" + evilResponse,
	"HTTP/1.1 200 OK\r\nContent-Length: 4, 04\r\n\r\ngood" + evilResponse,
	"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n" + evilResponse,
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2000\r\n\r\n4\r\ngood\r\n0\r\n\r\n" + evilResponse,
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2  \r\ngo\r\n2\t;evil=x\r\nod\r\n0 \r\n\r\n" + evilResponse,
	"HTTP/2.0 200 OK\r\nContent-Length: 4\r\n\r\ngood" + evilResponse,
	"HTTP/2 200 OK\r\nContent-Length: 4\r\n\r\ngood" + evilResponse,
	"HTTP/2 200\r\nContent-Length: 4\r\n\r\ngood" + evilResponse,
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n" + evilResponse,
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, Chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n" + evilResponse,
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n" + evilResponse,
	"HTTP/3.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n" + evilResponse,
	"HTTP/1.1 200 OK\nContent-Length: 4\n\ngood" + evilResponse,
	"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 4\n\r\ngood" + evilResponse,
	"HTTP/1.0 200 Script output follows\r\nDate: x\r\nContent-Type: text/html\nX: y\r\n z\n\ngood<close>",
	"HTTP/1.1 200 OK\r\nX: y\r\n\t Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\ngood" + evilResponse,
	"HTTP/1.1 103 Early Hints\nLink: <a>;\n rel=preload\n\nHTTP/1.1 200 OK\nContent-Length: 4\n\ngood" + evilResponse,
	"HTTP/1.1 200 OK\r\n\r\ngood<close>",
	"HTTP/1.0 200 OK\r\n\r\ngood<close>",
	"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\ngood<close>",
	"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\ngood" + evilResponse,
	"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\ngood" + evilResponse,
	"HTTP/1.1 204 No Content\r\n\r\n" + evilResponse,
	"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil",
	"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n",
	"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil",
	"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n",
	"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood" + evilResponse,
	"HTTP/1.1 103 Early Hints\r\nContent-Length: 4\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood" + evilResponse,
	strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n", 5) + "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood" + evilResponse,
	"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 200<<10) + "\r\nContent-Length: 4\r\n\r\ngood" + evilResponse,
}

// Of a response that is odd the client hears in a 502, or sees that it was cut; its connection is thrown away, and nothing of it shows up in
// the response that follows.
func TestNothingOddComesBackFromABackend(t *testing.T) {
	t.Parallel()
	odd := oddResponses()
	texts := append([]string(nil), odd...)
	for _, chunks := range cutResponses {
		texts = append(texts, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+chunks)
	}
	whole := len(texts)
	s := script(t, append(texts, goodResponses...)...)
	e := start(t, "http://"+s.Addr().String(), nil)
	for name, client := range e.everyClient(t) {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		get := func(path string) (status int, body string, err error) {
			response, err := client.Get("https://localhost/" + path)
			if err != nil {
				return 0, "", err
			}
			defer response.Body.Close()
			all, err := io.ReadAll(response.Body)
			return response.StatusCode, string(all), err
		}
		for i, text := range s.texts {
			status, body, err := get(fmt.Sprint(i))
			switch {
			case strings.Contains(body, "evil"):
				t.Errorf("%s: %.100q: passed on %q", name, text, body)
			case i < len(odd) && (status != 502 || err != nil):
				t.Errorf("%s: %.100q: %d %q, %v", name, text, status, body, err)
			case i >= len(odd) && i < whole && err == nil && status != 502:
				t.Errorf("%s: %.100q: %d %q looks whole", name, text, status, body)
			case i >= whole && (err != nil || body != "good" && status != 204 && status != 304):
				t.Errorf("%s: %.100q: %d %q, %v", name, text, status, body, err)
			}
			if status, body, err := get("proper"); status != 200 || body != "proper" || err != nil {
				t.Errorf("%s: after %.100q came %d %q, %v", name, text, status, body, err)
			}
			if !strings.HasSuffix(text, "<close>") {
				select {
				case <-s.ended:
				case <-time.After(10 * time.Second):
					t.Errorf("%s: %.100q: its connection is still open", name, text)
				}
			}
		}
	}
	if len(s.texts) < 170 {
		t.Errorf("only %d responses: docs/security.md tells of more", len(s.texts))
	}
}

// The same as bytes: a client that pipelines sees whole responses of padlock's own framing, one for each request, or the end.
func TestResponsesAreFramedByPadlock(t *testing.T) {
	t.Parallel()
	s := script(t, append(append([]string(nil), goodResponses...), oddResponses()...)...)
	e := start(t, "http://"+s.Addr().String(), nil)
	for _, method := range []string{"GET", "HEAD"} {
		for i, text := range s.texts {
			answer := e.sayWithin(t, 20*time.Second, fmt.Sprintf("%s /%d HTTP/1.1\r\nHost: localhost\r\n\r\nGET /proper HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", method, i))
			r := bufio.NewReader(strings.NewReader(answer))
			var bodies []string
			for m := method; ; {
				response, err := http.ReadResponse(r, &http.Request{Method: m})
				if err != nil {
					break
				}
				body, err := io.ReadAll(response.Body)
				if err != nil {
					t.Errorf("%s %.100q: %v in %q", method, text, err, answer)
				}
				if length := response.Header["Content-Length"]; len(length) > 0 && (response.StatusCode < 200 || response.StatusCode == 204) {
					t.Errorf("%s %.100q: %d with a length of %s", method, text, response.StatusCode, length)
				}
				if response.StatusCode >= 200 {
					bodies, m = append(bodies, string(body)), "GET"
				}
			}
			if len(bodies) != 2 || bodies[1] != "proper" || strings.Contains(answer, "evil") {
				t.Errorf("%s %.100q: the client saw %.500q", method, text, answer)
			}
		}
	}
}

// What a backend says on an idle connection, before anybody has asked, answers nobody's request.
func TestAnAnswerToNoRequestIsNobodys(t *testing.T) {
	l := listen(t)
	t.Cleanup(func() { l.Close() })
	spoken := make(chan struct{}, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				if _, err := http.ReadRequest(r); err != nil {
					return
				}
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nproper")
				time.Sleep(20 * time.Millisecond) // until the connection is idle
				_, _ = io.WriteString(c, evilResponse)
				spoken <- struct{}{}
				if _, err := http.ReadRequest(r); err == nil {
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nunsure")
				}
			}()
		}
	}()
	e := start(t, "http://"+l.Addr().String(), nil)
	for name, client := range e.everyClient(t) {
		for range 3 {
			if got := body(t, client, "https://localhost/"); got != "proper" {
				t.Errorf("%s: %q", name, got)
			}
			<-spoken
		}
	}
}

// h2cAnswer is what a backend by HTTP/2 says to one request.
type h2cAnswer func(s *h2cStream)

type h2cStream struct {
	id     uint32
	path   string
	framer *http2.Framer
	coder  *hpack.Encoder
	block  *bytes.Buffer
	conn   net.Conn
}

// hangUp ends the connection, as a target's death does.
func (s *h2cStream) hangUp() { s.conn.Close() }

func (s *h2cStream) head(end bool, pairs ...string) {
	s.block.Reset()
	for i := 0; i < len(pairs); i += 2 {
		_ = s.coder.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	_ = s.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id, BlockFragment: s.block.Bytes(), EndStream: end, EndHeaders: true})
}

func (s *h2cStream) data(end bool, content string) {
	_ = s.framer.WriteData(s.id, end, []byte(content))
}

// oddH2C answers each request for /N with the Nth of its answers, and others properly.
func oddH2C(t *testing.T, answers ...h2cAnswer) string {
	return serveH2C(t, func(s *h2cStream) {
		n := -1
		if _, err := fmt.Sscanf(s.path, "/%d", &n); err != nil || n < 0 || n >= len(answers) {
			s.head(false, ":status", "200", "content-length", "6")
			s.data(true, "proper")
			return
		}
		answers[n](s)
	})
}

// serveH2C answers every request the same way, frame by frame.
func serveH2C(t *testing.T, answer h2cAnswer) string {
	l := listen(t)
	t.Cleanup(func() { l.Close() })
	serve := func(c net.Conn) {
		defer c.Close()
		if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		f := http2.NewFramer(c, c)
		f.AllowIllegalWrites = true
		f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		_ = f.WriteSettings()
		s := &h2cStream{framer: f, block: new(bytes.Buffer), conn: c}
		s.coder = hpack.NewEncoder(s.block)
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			switch frame := frame.(type) {
			case *http2.SettingsFrame:
				if !frame.IsAck() {
					_ = f.WriteSettingsAck()
				}
			case *http2.MetaHeadersFrame:
				s.id, s.path = frame.StreamID, frame.PseudoValue("path")
				answer(s)
			}
		}
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return "h2c://" + l.Addr().String()
}

// What a backend of HTTP/2 says and HTTP/1.1 would understand otherwise does not get to a client of HTTP/1.1.
func TestNothingIsInjectedByAnH2CBackend(t *testing.T) {
	fields := func(pairs ...string) h2cAnswer { return func(s *h2cStream) { s.head(true, pairs...) } }
	var answers []h2cAnswer
	for _, c := range []string{"\r\n", "\n", "\r", "\x00", "\x7f", "\x1b"} {
		answers = append(answers, fields(":status", "200", "x", "a"+c+"evil: b"), fields(":status", "200", "x"+c+"evil", "b"), fields(":status", "200", "set-cookie", "a=b"+c+"evil"), fields(":status", "200"+c))
	}
	for _, status := range []string{"", "20", "2000", "0200", "abc", "-200", "+20", "099", "1000", "99", "200 OK", "101"} {
		answers = append(answers, fields(":status", status, "x-evil", "evil"))
	}
	for _, pairs := range [][]string{
		{"x-evil", "evil"}, {"x", "y", ":status", "200"}, {":status", "200", ":status", "204"}, {":path", "/"}, {":status", "200", ":path", "/evil"}, {":status", "200", "X-Upper", "evil"}, {":status", "200", "x evil", "y"}, {":status", "200", "x-evil:", "y"}, {":status", "200", "", "evil"},
		{":status", "103"}, {":status", "100"},
		{":status", "200", "content-length", "x-evil"}, {":status", "200", "content-length", "0", "content-length", "5"}, {":status", "200", "content-length", "0, 5"}, {":status", "200", "content-length", "5"},
	} {
		answers = append(answers, fields(pairs...))
	}
	for _, interim := range []string{"101", "1000", "99"} { // and a whole response behind it
		answers = append(answers, func(s *h2cStream) {
			s.head(false, ":status", interim, "x-evil", "evil")
			s.head(true, ":status", "200", "x-evil", "evil")
		})
	}
	harmless := len(answers)
	for _, pairs := range [][]string{
		{"content-length", "0, 0"}, {"x-odd", " \tspaced "}, {"te", "gzip"}, {"connection", "x-gone"}, {"transfer-encoding", "chunked"}, {"upgrade", "evil"}, {"keep-alive", "evil"}, {"proxy-connection", "evil"},
	} {
		answers = append(answers, fields(append([]string{":status", "200"}, pairs...)...))
	}
	e := start(t, oddH2C(t, answers...), func(c *config.Config) { c.Timeouts.ResponseHeader = config.Patience(2 * time.Second) })
	for i := range answers {
		answer := e.say(t, fmt.Sprintf("GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\nGET /proper HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", i))
		head, _, _ := strings.Cut(answer, "\r\n\r\n")
		lower := strings.ToLower(head)
		if strings.Contains(lower, "evil") || strings.Contains(lower, "transfer-encoding") || strings.Contains(lower, "x-gone") {
			t.Errorf("%d: the client saw %q", i, head)
		}
		if i < harmless != strings.HasPrefix(answer, "HTTP/1.1 502 ") || !strings.HasSuffix(answer, "\r\n\r\nproper") {
			t.Errorf("%d: the client saw %q", i, answer)
		}
	}
}

// That an h2c backend does not keep to its length is seen by the client, whatever it speaks; so is what it may not say behind its content.
func TestAnH2CBackendIsHeldToItsLength(t *testing.T) {
	answer := func(length, content string) h2cAnswer {
		return func(s *h2cStream) {
			s.head(content == "", ":status", "200", "content-length", length)
			if content != "" {
				s.data(true, content)
			}
		}
	}
	trail := func(pairs ...string) h2cAnswer {
		return func(s *h2cStream) {
			s.head(false, ":status", "200")
			s.data(false, "good")
			s.head(true, pairs...)
		}
	}
	answers := []h2cAnswer{answer("5", ""), answer("5", "good"), answer("3", "goodevil"), answer("0", "evil"), trail("x\r\nevil", "y"), trail("x", "y\r\nevil"), trail(":status", "200"), trail("X-Evil", "y")}
	cut := len(answers)
	answers = append(answers, trail("content-length", "5"), trail("set-cookie", "evil=1"), trail("transfer-encoding", "chunked"), trail("x-sum", "4"))
	e := start(t, oddH2C(t, answers...), nil)
	for name, client := range e.everyClient(t) {
		for i := range answers {
			response, err := client.Get(fmt.Sprintf("https://localhost/%d", i))
			if err != nil {
				continue
			}
			content, err := io.ReadAll(response.Body)
			response.Body.Close()
			if i < cut && err == nil && response.StatusCode == 200 || strings.Contains(string(content), "evil") {
				t.Errorf("%s: %d: %s %q looks whole", name, i, response.Status, content)
			}
			if i >= cut && (err != nil || string(content) != "good") || strings.Contains(fmt.Sprint(response.Trailer), "evil") || response.Trailer.Get("Content-Length") != "" {
				t.Errorf("%s: %d: %q, %v, trailers %v", name, i, content, err, response.Trailer)
			}
		}
	}
}
