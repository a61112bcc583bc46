package http1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"padlock/proxy/deadline"
	"padlock/proxy/message"
)

// ended is a connection without another byte.
type ended struct{ Conn }

func (ended) Read([]byte) (int, error) { return 0, io.EOF }

func noDeadline() *deadline.Deadline {
	d := &deadline.Deadline{}
	d.Init(func(time.Time) error { return nil })
	return d
}

// plain is a TCP connection as the server wants it.
type plain struct {
	*net.TCPConn
	facts message.Conn
}

func (p *plain) Facts() *message.Conn { return &p.facts }
func (p *plain) Cork()                {}
func (p *plain) Uncork() error        { return nil }

type handler func(*message.Context, *message.Request, message.Writer)

func (h handler) Serve(ctx *message.Context, r *message.Request, w message.Writer) { h(ctx, r, w) }

// echo answers with what it was asked, and its content.
func echo(_ *message.Context, r *message.Request, w message.Writer) {
	text := r.Method + " " + r.Target + " "
	if r.Body != nil {
		content, err := io.ReadAll(r.Body)
		if err != nil {
			w.Abort()
			return
		}
		text += string(content)
		for _, f := range r.Body.Trailers() {
			text += " " + f.Name + "=" + f.Value
		}
	}
	_ = w.Head(200, nil, int64(len(text)))
	_, _ = io.WriteString(w, text)
}

// serve runs a server and returns its address.
func serve(t *testing.T, h handler, change func(*ServerOptions)) string {
	t.Helper()
	o := ServerOptions{Handler: h, Header: 5 * time.Second, Idle: 5 * time.Second, BodyIdle: 5 * time.Second, Head: 8 << 10, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&o)
	}
	s := NewServer(o)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.ServeConn(&plain{TCPConn: c.(*net.TCPConn)})
		}
	}()
	return l.Addr().String()
}

func dial(t *testing.T, address string) (*net.TCPConn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c.(*net.TCPConn), bufio.NewReader(c)
}

// answer reads one response to a method.
func answer(t *testing.T, r *bufio.Reader, method string) (status int, content string, header http.Header) {
	t.Helper()
	response, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text), response.Header
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	c, r := dial(t, serve(t, echo, nil))
	var all strings.Builder
	const n = 200
	for i := range n {
		switch i % 3 {
		case 0:
			fmt.Fprintf(&all, "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i)
		case 1:
			fmt.Fprintf(&all, "POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", i)
		case 2:
			fmt.Fprintf(&all, "POST /%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\nT: %d\r\n\r\n", i, i)
		}
	}
	go io.WriteString(c, all.String())
	for i := range n {
		want := []string{fmt.Sprintf("GET /%d ", i), fmt.Sprintf("POST /%d abc", i), fmt.Sprintf("POST /%d abc T=%d", i, i)}[i%3]
		if status, content, _ := answer(t, r, "GET"); status != 200 || content != want {
			t.Fatalf("%d %q, not %q", status, content, want)
		}
	}
}

func TestARequestMayComeInAnyPieces(t *testing.T) {
	c, r := dial(t, serve(t, echo, nil))
	text := "\r\nPOST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
	for range 3 {
		for i := range len(text) {
			io.WriteString(c, text[i:i+1])
			if i%7 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		if _, content, _ := answer(t, r, "POST"); content != "POST /x abc" {
			t.Fatalf("%q", content)
		}
	}
}

// What is refused gets its status, and nothing that follows on that connection is read as a request.
func TestWhatIsRefusedEndsTheConnection(t *testing.T) {
	var served atomic.Int32
	address := serve(t, func(ctx *message.Context, r *message.Request, w message.Writer) { served.Add(1); echo(ctx, r, w) }, nil)
	smuggled := "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
	for text, status := range map[string]int{
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": 400,
		"GET / HTTP/1.1\nHost: a\n\n":                                                400,
		"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n":                                    400,
		"GET / HTTP/3.0\r\nHost: a\r\n\r\n":                                          505,
		"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("y", 9<<10) + "\r\n\r\n": 431,
		"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("y", 9<<10):              431,
	} {
		c, r := dial(t, address)
		io.WriteString(c, text+smuggled)
		if got, _, _ := answer(t, r, "GET"); got != status {
			t.Errorf("%.40q: %d, not %d", text, got, status)
		}
		if rest, _ := io.ReadAll(r); len(rest) > 0 {
			t.Errorf("%.40q: then %q", text, rest)
		}
	}
	if served.Load() != 0 {
		t.Errorf("%d requests were served", served.Load())
	}
}

// Content that is malformed or cut short never looks whole to the handler, and never becomes a request.
func TestMalformedContentIsNeverWhole(t *testing.T) {
	whole := make(chan string, 1)
	address := serve(t, func(_ *message.Context, r *message.Request, w message.Writer) {
		content, err := io.ReadAll(r.Body)
		if err == nil {
			whole <- string(content)
		}
		w.Abort()
	}, nil)
	for _, content := range []string{
		"3\r\nabcd\r\n0\r\n\r\n", "3\r\nabc0\r\n\r\n", "3\nabc\r\n0\r\n\r\n", "-3\r\nabc\r\n0\r\n\r\n", "0x3\r\nabc\r\n0\r\n\r\n", " 3\r\nabc\r\n0\r\n\r\n",
		"3\r\nabc\r\n\r\n\r\n", "3 x\r\nabc\r\n0\r\n\r\n", "3\r\nabc\r\n0\r\n bad\r\n\r\n", "3\r\nabc\r\n0\r\nA : b\r\n\r\n", "ffffffffffffffff1\r\nabc", "3\r\nab", "3\r\nabc\r\n0\r\n",
		"3\r\nabc\n0\r\n\r\n", "3\r\nabc\r\n0\n\n", "3;\x00\r\nabc\r\n0\r\n\r\n", strings.Repeat("0", 20) + "3\r\nabc\r\n0\r\n\r\n",
	} {
		c, r := dial(t, address)
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"+content)
		c.CloseWrite()
		if rest, _ := io.ReadAll(r); len(rest) > 0 {
			t.Errorf("%q: answered %q", content, rest)
		}
		select {
		case got := <-whole:
			t.Errorf("%q was taken for %q", content, got)
		default:
		}
	}
}

func TestContinueIsSentWhenTheContentIsWanted(t *testing.T) {
	c, r := dial(t, serve(t, echo, nil))
	io.WriteString(c, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
	if line, _ := r.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("%q", line)
	}
	_, _ = r.ReadString('\n')
	io.WriteString(c, "abc")
	if _, content, _ := answer(t, r, "POST"); content != "POST /x abc" {
		t.Errorf("%q", content)
	}
	// A handler that does not want it: the final status comes at once, and the connection ends, because the content may come or not.
	c, r = dial(t, serve(t, func(_ *message.Context, _ *message.Request, w message.Writer) { _ = w.Head(403, nil, 0) }, nil))
	io.WriteString(c, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
	if status, _, _ := answer(t, r, "POST"); status != 403 {
		t.Errorf("%d", status)
	}
	if rest, err := io.ReadAll(r); len(rest) > 0 || err != nil {
		t.Errorf("then %q, %v", rest, err)
	}
}

// unwritable are fields that would become others, or the end of the head.
var unwritable = []message.Fields{{{Name: "X", Value: "a\r\nInjected: b"}}, {{Name: "X", Value: "a\x00"}}, {{Name: "X\r\nInjected", Value: "a"}}, {{Name: "X y", Value: "a"}}, {{Name: "X:", Value: "a"}}, {{Name: "", Value: "a"}}}

// Trailers that cannot be written end the response, so that nobody takes it for whole.
func TestTrailersThatCannotBeWrittenCutTheResponse(t *testing.T) {
	for _, bad := range unwritable {
		address := serve(t, func(_ *message.Context, _ *message.Request, w message.Writer) {
			_ = w.Head(200, nil, -1)
			_, _ = io.WriteString(w, "all")
			w.Trailers(bad)
		}, nil)
		c, r := dial(t, address)
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		text, _ := io.ReadAll(r)
		if strings.Contains(string(text), "Injected") || strings.Contains(string(text), "\r\n0\r\n") {
			t.Errorf("%q: %q", bad, text)
		}
	}
}

func TestContentIsFramedAsTheClientUnderstands(t *testing.T) {
	stream := func(_ *message.Context, r *message.Request, w message.Writer) {
		for _, bad := range unwritable {
			if w.Interim(103, bad) == nil && r.Proto == "HTTP/1.1" || w.Head(200, bad, -1) == nil {
				t.Errorf("%q is written", bad)
			}
		}
		_ = w.Interim(103, message.Fields{{Name: "Link", Value: "x"}})
		_ = w.Head(200, nil, -1)
		_, _ = io.WriteString(w, "one ")
		_ = w.Flush()
		_, _ = io.WriteString(w, "two")
		w.Trailers(message.Fields{{Name: "Sum", Value: "2"}})
	}
	address := serve(t, stream, nil)
	for request, want := range map[string][]string{
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n":  {"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK", "Transfer-Encoding: chunked", "\r\n\r\n4\r\none \r\n3\r\ntwo\r\n0\r\nSum: 2\r\n\r\n", "Connection: close"},
		"GET / HTTP/1.0\r\n\r\n":                                  {"HTTP/1.1 200 OK", "\r\n\r\none two"},
		"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n": {"HTTP/1.1 200 OK", "Connection: close\r\n\r\n"},
	} {
		c, r := dial(t, address)
		io.WriteString(c, request)
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range want {
			if !strings.Contains(string(text), part) {
				t.Errorf("%q: %q is missing in %q", request, part, text)
			}
		}
		if strings.Contains(string(text), "\nInjected") || !strings.HasSuffix(string(text), want[len(want)-1]) && !strings.Contains(request, "1.1") {
			t.Errorf("%q: %q", request, text)
		}
	}
}

// Content beyond the announced length stays here, and content that falls short breaks the connection off: both would shift what follows.
func TestAnnouncedLengthsAreKept(t *testing.T) {
	for _, content := range []string{"short", "much too long"} {
		c, r := dial(t, serve(t, func(_ *message.Context, _ *message.Request, w message.Writer) {
			_ = w.Head(200, nil, 8)
			_, _ = io.WriteString(w, content)
		}, nil))
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
		if response, err := http.ReadResponse(r, nil); err == nil {
			if text, err := io.ReadAll(response.Body); err == nil {
				t.Errorf("%q looks whole: %q", content, text)
			}
		}
	}
}

func TestAClientThatGoesAwayEndsTheContext(t *testing.T) {
	gone := make(chan struct{})
	address := serve(t, func(ctx *message.Context, r *message.Request, w message.Writer) {
		<-ctx.Done()
		close(gone)
	}, nil)
	c, _ := dial(t, address)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	time.Sleep(2 * patience)
	c.Close()
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
		t.Fatal("the handler was not told")
	}
}

// While a handler takes its time, the next request may come; it is neither lost nor read too early.
func TestARequestThatComesWhileAnotherIsAnswered(t *testing.T) {
	c, r := dial(t, serve(t, func(ctx *message.Context, r *message.Request, w message.Writer) {
		time.Sleep(3 * patience)
		echo(ctx, r, w)
	}, nil))
	io.WriteString(c, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n")
	time.Sleep(2 * patience)
	io.WriteString(c, "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
	for _, want := range []string{"GET /1 ", "POST /2 abc"} {
		if _, content, _ := answer(t, r, "GET"); content != want {
			t.Fatalf("%q, not %q", content, want)
		}
	}
}

// The answer may come while the content still does; the content that nobody wants does not become the next request.
func TestAnEarlyAnswer(t *testing.T) {
	address := serve(t, func(_ *message.Context, r *message.Request, w message.Writer) {
		_ = w.Head(413, nil, 3)
		_, _ = io.WriteString(w, "big")
	}, nil)
	for _, size := range []int{10, 1 << 20} {
		c, r := dial(t, address)
		go func() {
			fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", size)
			io.WriteString(c, strings.Repeat("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", size)[:size])
			io.WriteString(c, "GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		}()
		if status, _, _ := answer(t, r, "POST"); status != 413 {
			t.Errorf("%d", status)
		}
		rest, _ := io.ReadAll(r)
		if n := strings.Count(string(rest), "HTTP/1.1"); n > 1 || size > maxDrain && n > 0 {
			t.Errorf("%d bytes of content: %d more answers", size, n)
		}
	}
}

// A response that does not end the connection keeps that promise, however long the content takes that nobody wanted.
func TestContentMayComeLongAfterItsAnswer(t *testing.T) {
	early := handler(func(_ *message.Context, r *message.Request, w message.Writer) { _ = w.Head(405, nil, 0) })
	request := func(next string) string {
		return "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n" + next
	}
	address := serve(t, early, func(o *ServerOptions) { o.BodyIdle, o.Rate = 2*time.Second, 10 })
	c, r := dial(t, address)
	io.WriteString(c, request("01234"))
	if response, err := http.ReadResponse(r, nil); err != nil || response.StatusCode != 405 || response.Close {
		t.Fatalf("%+v, %v", response, err)
	}
	time.Sleep(time.Second) // a client that is slow, but not too slow
	io.WriteString(c, "56789"+request("0123456789"))
	if status, _, _ := answer(t, r, "POST"); status != 405 {
		t.Errorf("the next request is answered %d", status)
	}

	// One that sends nothing more has the connection for as long as content may stall.
	began := time.Now()
	io.WriteString(c, request("01234"))
	answer(t, r, "POST")
	rest, err := io.ReadAll(r)
	if took := time.Since(began); len(rest) > 0 || err != nil || took < 2*time.Second || took > 6*time.Second {
		t.Errorf("content that never comes ends the connection after %v: %q, %v", took, rest, err)
	}
}

// An early answer keeps its promise of another request although somebody still waits for content, and makes none where the content may never come.
func TestAnEarlyAnswerPromisesWhatItKeeps(t *testing.T) {
	reading := func(w message.Writer) bool {
		free := w.(*writer).x.body.mu.TryLock()
		if free {
			w.(*writer).x.body.mu.Unlock()
		}
		return !free
	}
	head := "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n"
	for _, test := range []struct {
		name, head string
		answer     handler
		closes     bool
	}{
		{"a reader waits", head + "\r\n", func(_ *message.Context, r *message.Request, w message.Writer) {
			go func() { _, _ = io.Copy(io.Discard, r.Body) }()
			for !reading(w) {
				time.Sleep(time.Millisecond)
			}
			_ = w.Head(405, nil, 0)
		}, false},
		{"a reader is about to ask for the content", head + "Expect: 100-continue\r\n\r\n", func(_ *message.Context, _ *message.Request, w message.Writer) {
			b := &w.(*writer).x.body
			b.mu.Lock()
			_ = w.Head(405, nil, 0)
			b.mu.Unlock()
			_, _ = b.Read(make([]byte, 0))
		}, true},
		{"the content has stalled", head + "\r\n", func(_ *message.Context, r *message.Request, w message.Writer) {
			_, _ = io.Copy(io.Discard, r.Body)
			_ = w.Head(405, nil, 0)
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c, r := dial(t, serve(t, test.answer, func(o *ServerOptions) { o.BodyIdle = 2 * time.Second }))
			io.WriteString(c, test.head)
			if response, err := http.ReadResponse(r, nil); err != nil || response.Close != test.closes {
				t.Fatalf("%+v, %v", response, err)
			}
			if test.closes {
				return
			}
			time.Sleep(300 * time.Millisecond) // the exchange ends meanwhile
			io.WriteString(c, "0123456789"+test.head)
			if status, _, _ := answer(t, r, "POST"); status != 405 {
				t.Errorf("the next request is answered %d", status)
			}
		})
	}
}

// Content that nobody waits for does not delay the end of the server.
func TestShutdownDoesNotWaitForUnwantedContent(t *testing.T) {
	s := NewServer(ServerOptions{
		Handler: handler(func(_ *message.Context, _ *message.Request, w message.Writer) { _ = w.Head(405, nil, 0) }),
		Header:  time.Minute, Idle: time.Minute, BodyIdle: time.Minute, Head: 8 << 10, Log: slog.New(slog.DiscardHandler),
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s.ServeConn(&plain{TCPConn: c.(*net.TCPConn)})
	}()
	c, r := dial(t, l.Addr().String())
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234")
	answer(t, r, "POST")

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(ctx) }()
	if rest, err := io.ReadAll(r); len(rest) > 0 || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
	c.Close()
	if err := <-ended; err != nil {
		t.Errorf("the server still waits for content: %v", err)
	}
}

func TestSlowHeadsAndIdleConnectionsAreCut(t *testing.T) {
	address := serve(t, echo, func(o *ServerOptions) { o.Header, o.Idle = 200*time.Millisecond, 300*time.Millisecond })
	for _, sent := range []string{"", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"} {
		c, r := dial(t, address)
		began := time.Now()
		io.WriteString(c, sent)
		_, err := io.ReadAll(r)
		if took := time.Since(began); took > 3*time.Second || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q: cut after %v, %v", sent, took, err)
		}
	}
}

// A client that trickles its content, or takes nothing of a response, does not hold a handler for longer than it is allowed to.
func TestSlowContentAndSlowReadersAreCut(t *testing.T) {
	ended := make(chan error, 1)
	address := serve(t, func(_ *message.Context, r *message.Request, w message.Writer) {
		if r.Body != nil {
			_, err := io.Copy(io.Discard, r.Body)
			ended <- err
			_ = w.Head(408, nil, 0)
			return
		}
		_ = w.Head(200, nil, 1<<30)
		var err error
		for err == nil {
			_, err = w.Write(make([]byte, 32<<10))
		}
		ended <- err
		w.Abort()
	}, func(o *ServerOptions) { o.BodyIdle, o.Rate = 300*time.Millisecond, 1000 })
	c, _ := dial(t, address)
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
	stop := time.After(10 * time.Second)
	for trickles := true; trickles; {
		select {
		case err := <-ended:
			if trickles = false; err == nil {
				t.Error("content that trickled has ended well")
			}
		case <-stop:
			t.Fatal("ten seconds later it still trickles")
		case <-time.After(50 * time.Millisecond):
			_, _ = io.WriteString(c, "1\r\nx\r\n")
		}
	}
	c, _ = dial(t, address)
	_ = c.SetReadBuffer(4 << 10)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("a client that reads nothing is still written to")
	}
}

// One request after another allocates next to nothing here: what remains is the test's own and net's.
func BenchmarkKeepAlive(b *testing.B) {
	s := NewServer(ServerOptions{Handler: handler(func(_ *message.Context, _ *message.Request, w message.Writer) {
		_ = w.Head(200, nil, 5)
		_, _ = w.Write([]byte("hello"))
	}), Header: time.Minute, Idle: time.Minute, BodyIdle: time.Minute, Head: 64 << 10, Log: slog.New(slog.DiscardHandler)})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			s.ServeConn(&plain{TCPConn: c.(*net.TCPConn)})
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	request, buffer := []byte("GET /a?b HTTP/1.1\r\nHost: example.com\r\nUser-Agent: x\r\nAccept: */*\r\n\r\n"), make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(request); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Read(buffer); err != nil {
			b.Fatal(err)
		}
	}
}
