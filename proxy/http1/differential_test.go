package http1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"padlock/proxy/message"
)

// What two readers make of the same bytes: where they differ, one can be made to see a request that the other took for content.
// Ours may refuse what net/http repairs; what it takes it has to read as net/http does. The exceptions are listed where they are made.

// seen is a message as its reader understood it.
type seen struct {
	line     string
	fields   map[string][]string
	content  string
	trailers map[string][]string
}

func (s seen) String() string {
	return fmt.Sprintf("%s %q %q %q", s.line, s.fields, s.content, s.trailers)
}

func collect(fields message.Fields, skip ...string) map[string][]string {
	m := map[string][]string{}
	for _, f := range fields {
		name := textproto.CanonicalMIMEHeaderKey(f.Name)
		if !slices.Contains(skip, name) {
			m[name] = append(m[name], f.Value)
		}
	}
	return m
}

func collectHeader(h http.Header, skip ...string) map[string][]string {
	m := map[string][]string{}
	for name, values := range h {
		if len(values) > 0 && !slices.Contains(skip, name) {
			m[name] = values
		}
	}
	return m
}

// framing are the fields of which the two keep different accounts: they are compared by their effect.
// net/http adds a Cache-Control to Pragma: no-cache.
var framing = []string{"Content-Length", "Transfer-Encoding", "Trailer", "Expect", "Host", "Cache-Control", "Connection"}

// script is a connection on which a client says some bytes and no more.
type script struct {
	net.Conn
	text  *bytes.Reader
	facts message.Conn
}

func (s *script) Read(p []byte) (int, error)       { return s.text.Read(p) }
func (s *script) Write(p []byte) (int, error)      { return len(p), nil }
func (s *script) Close() error                     { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }
func (s *script) Facts() *message.Conn             { return &s.facts }
func (s *script) Cork()                            {}
func (s *script) Uncork() error                    { return nil }

// ours is what our server's handler sees of a connection's bytes, as far as it could be read whole.
func ours(text []byte) (all []seen) {
	s := NewServer(ServerOptions{
		Header: time.Minute, Idle: time.Minute, BodyIdle: time.Minute, Head: 64 << 10, Log: slog.New(slog.DiscardHandler),
		Handler: handler(func(_ *message.Context, r *message.Request, w message.Writer) {
			one := seen{line: strings.Clone(r.Method + " " + r.Target + " " + r.Host + " " + r.Proto)}
			fields := append(message.Fields(nil), r.Fields...)
			for i := range fields {
				fields[i] = message.Field{Name: strings.Clone(fields[i].Name), Value: strings.Clone(fields[i].Value)}
			}
			one.fields = collect(fields, framing...)
			if r.Body != nil {
				content, err := io.ReadAll(r.Body)
				if err != nil {
					w.Abort()
					return
				}
				one.content, one.trailers = string(content), collect(r.Body.Trailers())
			}
			all = append(all, one)
			_ = w.Head(200, nil, 0)
		}),
	})
	s.ServeConn(&script{text: bytes.NewReader(text)})
	return all
}

var errNotOurs = errors.New("refused for a reason that is not ours")

// theirs reads as many messages as we did with net/http.
func theirs(text []byte, n int) (all []seen, err error) {
	r := bufio.NewReader(bytes.NewReader(text))
	for range n {
		for { // empty lines between requests: we skip them, as RFC 9112 section 2.2 allows
			two, err := r.Peek(2)
			if err != nil || string(two) != "\r\n" {
				break
			}
			_, _ = r.Discard(2)
		}
		request, err := http.ReadRequest(r)
		if err != nil {
			if strings.Contains(err.Error(), "invalid URL escape") || strings.Contains(err.Error(), "parse ") || strings.Contains(err.Error(), "invalid URI") {
				err = errNotOurs // it decodes the path, which is the backend's affair
			}
			return all, err
		}
		content, err := io.ReadAll(request.Body)
		if err != nil {
			if strings.Contains(err.Error(), "trailer") || strings.Contains(err.Error(), "malformed MIME") {
				err = errNotOurs // it knows more forbidden trailers
			}
			return all, err
		}
		target := request.RequestURI
		if !strings.HasPrefix(target, "/") && target != "*" && request.Method != "CONNECT" { // we reduce it to the origin form
			target = target[strings.Index(target, "://")+3:]
			if slash := strings.IndexAny(target, "/?"); slash < 0 {
				target = "/"
			} else if target = target[slash:]; target[0] == '?' {
				target = "/" + target
			}
		}
		one := seen{line: request.Method + " " + target + " " + request.Host + " " + request.Proto, fields: collectHeader(request.Header, framing...), content: string(content)}
		if len(request.Trailer) > 0 {
			one.trailers = collectHeader(request.Trailer)
		}
		all = append(all, one)
	}
	return all, nil
}

// compare returns how many messages were read.
func compare(t *testing.T, text []byte) int {
	t.Helper()
	us := ours(text)
	them, err := theirs(text, len(us))
	for i := range them {
		// Trailers that were not announced are dropped by net/http, and those that were and did not come are kept as names.
		us[i].trailers, them[i].trailers = nil, nil
		if us[i].String() != them[i].String() {
			t.Fatalf("%q: message %d is\n%v, to net/http\n%v", text, i, us[i], them[i])
		}
	}
	if err != nil && !errors.Is(err, errNotOurs) {
		t.Fatalf("%q: we read %d messages, net/http %d: %v", text, len(us), len(them), err)
	}
	return len(us)
}

// Whatever requests we take from a connection, net/http takes and reads as we do: as many, with the same content.
func FuzzConversation(f *testing.F) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 50 {
		f.Add(conversation(random))
	}
	f.Add([]byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	f.Add([]byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) { compare(t, text) })
}

func TestGeneratedConversationsAreReadAsNetHTTPDoes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	read := 0
	for range 50_000 {
		read += compare(t, conversation(random))
	}
	if read < 5000 {
		t.Errorf("only %d messages were read: the generator is too wild", read)
	}
}

func pick(r *rand.Rand, of ...string) string { return of[r.IntN(len(of))] }

// mostly picks the first, but for one time in twelve.
func mostly(r *rand.Rand, of ...string) string {
	if r.IntN(12) > 0 {
		return of[0]
	}
	return pick(r, of[1:]...)
}

// conversation is some requests, most of them nearly right.
func conversation(r *rand.Rand) []byte {
	var b bytes.Buffer
	for range 1 + r.IntN(3) {
		end := mostly(r, "\r\n", "\n", "\r")
		fmt.Fprintf(&b, "%s%s%s%s%s%s", pick(r, "GET", "POST", "PUT", "OPTIONS", "G", "DELETE"), mostly(r, " ", "  ", "\t"),
			mostly(r, "/", "/a", "*", "http://a/b", "https://a?c", "/%zz", "a", "//x", "http://a:80/"), mostly(r, " ", "  "),
			mostly(r, "HTTP/1.1", "HTTP/1.0", "HTTP/1.0", "HTTP/1.2", "http/1.1"), end)
		lines := []string{mostly(r, "Host: a", "Host: a:80", "host:a", "Host : a", "Host: a, b", "")}
		content := pick(r, "", "x", "hello", "3\r\nabc\r\n0\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		for range r.IntN(4) {
			right := "Content-Length: " + fmt.Sprint(len(content))
			if strings.HasPrefix(content, "3\r\n") {
				right = "Transfer-Encoding: chunked"
			}
			lines = append(lines, pick(r, right, right, "X: y", "X: z", "Content-Length: 5", "Content-Length: +5", "Content-Length: 5, 5", "Content-Length:\t1",
				"Content-Length : 1", "Transfer-Encoding: chunked", "Transfer-Encoding: Chunked", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: x",
				"Transfer-Encoding:\vchunked", "Transfer-Encoding : chunked", " Transfer-Encoding: chunked", "Connection: close", "Connection: keep-alive",
				"X: y", "X:  y\t", "X: a\x00b", "X: a\r b", "X;: y", "Expect: 100-continue", "Upgrade: x", "Trailer: X", "X\x80: y", "X: \x80", "Host: a"))
		}
		for _, line := range lines {
			b.WriteString(line + mostly(r, "\r\n", "\n", "\r\n\t"))
		}
		b.WriteString(mostly(r, "\r\n", "\n") + content + mostly(r, "", "\r\n", "0\r\n\r\n"))
	}
	return b.Bytes()
}

// readOurs reads a response as our client side does.
func readOurs(text []byte, method string) (one seen, length int64, err error) {
	r := reader{source: bytes.NewReader(text), limit: noDeadline(), buf: make([]byte, 1<<10)}
	raw, err := r.responseHead(maxResponseHead)
	if err != nil {
		return one, 0, err
	}
	var h responseHead
	if err := h.parse(raw, nil, method, ""); err != nil {
		return one, 0, err
	}
	b := responseBody{content: content{
		r: &r, left: max(h.length, 0), chunked: h.length == lengthChunked, unbounded: h.length == lengthUnbounded, done: h.length == 0, limit: 1 << 10, padded: true,
	}}
	body, err := io.ReadAll(&b)
	one = seen{line: fmt.Sprint(h.status), fields: collect(h.fields, framing...), content: string(body)}
	return one, h.length, err
}

// trimmed takes off the space that net/http leaves where a field ends with a fold of nothing.
func trimmed(h http.Header) http.Header {
	for _, values := range h {
		for i := range values {
			values[i] = strings.TrimRight(values[i], " ")
		}
	}
	return h
}

// compareResponse reports whether the response was read.
func compareResponse(t *testing.T, text []byte, method string) bool {
	t.Helper()
	us, length, err := readOurs(text, method)
	if err != nil {
		return false
	}
	request := &http.Request{Method: method}
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(text)), request)
	if err != nil {
		if strings.Contains(err.Error(), "bad Content-Length") || strings.Contains(err.Error(), "multiple Content-Length") {
			return true // it knows no list of one number
		}
		if strings.Contains(err.Error(), "too many transfer encodings") {
			return true // it knows no chunked that is said twice
		}
		t.Fatalf("%q: net/http refuses it: %v; we read %v", text, err, us)
	}
	content, err := io.ReadAll(response.Body)
	if err != nil {
		if strings.Contains(err.Error(), "trailer") || strings.Contains(err.Error(), "malformed MIME") {
			return true // it knows more forbidden trailers
		}
		if strings.Contains(err.Error(), "invalid byte in chunk length") {
			return true // it knows no white space before an extension
		}
		t.Fatalf("%q: net/http refuses its content: %v; we read %v", text, err, us)
	}
	them := seen{line: fmt.Sprint(response.StatusCode), fields: collectHeader(trimmed(response.Header), framing...), content: string(content)}
	if us.String() != them.String() || length >= 0 && method != "HEAD" && response.StatusCode != 304 && response.StatusCode >= 200 && response.StatusCode != 204 && length != response.ContentLength {
		t.Fatalf("%q: we read %v, net/http %v", text, us, them)
	}
	return true
}

// Whatever response we take from a backend, net/http takes and reads as we do.
func FuzzResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), false)
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n"), false)
	f.Add([]byte("HTTP/1.0 404 Not Found\r\n\r\nhello"), false)
	f.Add([]byte("HTTP/1.1 304\r\nContent-Length: 5\r\n\r\n"), true)
	f.Fuzz(func(t *testing.T, text []byte, head bool) {
		method := "GET"
		if head {
			method = "HEAD"
		}
		compareResponse(t, text, method)
	})
}

func TestGeneratedResponsesAreReadAsNetHTTPDoes(t *testing.T) {
	r, read := rand.New(rand.NewPCG(3, 4)), 0
	for range 50_000 {
		var b bytes.Buffer
		fmt.Fprintf(&b, "%s%s%s%s%s", mostly(r, "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "http/1.1"), mostly(r, " ", "  "),
			mostly(r, "200", "204", "304", "404", "099", "600", "20", "2000", "+20"), mostly(r, " OK", "", " ", " a b", "OK", " \x80"), mostly(r, "\r\n", "\n", "\r\n "))
		content := pick(r, "", "hello", "5\r\nhello\r\n0\r\n\r\n", "5;x\r\nhello\r\n0\r\nX: y\r\n\r\n", "05\r\nhello\r\n00\r\n\r\n", "5\nhello\n0\n\n", "5 \t\r\nhello\r\n0 \r\n\r\n", "5 ;x\r\nhello\r\n0\r\n\r\n")
		for range r.IntN(4) {
			b.WriteString(pick(r, "Content-Length: 5, 5", "X: y\r\n z", "X: y\n\t", "Content-Length:\n 5", "Content-Length: "+fmt.Sprint(len(content)), "Content-Length: 5", "Content-Length: -5", "Content-Length: 5,5", "Transfer-Encoding: chunked",
				"Transfer-Encoding: CHUNKED", "Transfer-Encoding: gzip", "Transfer-Encoding : chunked", "X: y", "X : y", "X: \x00", " X: y", "Connection: close", "Set-Cookie: a=b",
				"Trailer: X") + mostly(r, "\r\n", "\n"))
		}
		b.WriteString(mostly(r, "\r\n", "\n") + content)
		if compareResponse(t, b.Bytes(), pick(r, "GET", "GET", "HEAD")) {
			read++
		}
	}
	if read < 5000 {
		t.Errorf("only %d responses were read: the generator is too wild", read)
	}
}
