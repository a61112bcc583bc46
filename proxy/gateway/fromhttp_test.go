package gateway

//lint:file-ignore SA1019 x/net/http2 is a client of its own.

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/net/http2"

	"padlock/proxy/http1"
	padlock2 "padlock/proxy/http2"
	"padlock/proxy/message"
)

// unencrypted is a connection without TLS, as both servers want it.
type unencrypted struct {
	*net.TCPConn
	facts message.Conn
}

func (u *unencrypted) Facts() *message.Conn { return &u.facts }
func (u *unencrypted) NetConn() net.Conn    { return u.TCPConn }
func (u *unencrypted) Cork()                {}
func (u *unencrypted) Uncork() error        { return nil }

// journal is what was logged since it was last asked for.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) take() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	defer j.text.Reset()
	return j.text.String()
}

// serving answers with a handler of net/http over HTTP/1.1 and HTTP/2, and returns what was logged, and clients with their address.
func serving(t *testing.T, answerer http.HandlerFunc) (*journal, map[string]*http.Client, map[string]string) {
	t.Helper()
	log := &journal{}
	answer := message.FromHTTP(answerer)
	h := &Gateway{Options: Options{Log: slog.New(slog.NewTextHandler(log, nil)), Routes: func() *Routes { return nil }}}
	h.first = ActionFunc(func(ctx *message.Context, x *Exchange) (*message.Response, error) {
		return answer.RoundTrip(ctx, x.request, x)
	})

	const patience = 10 * time.Second
	one := http1.NewServer(http1.ServerOptions{Handler: h, Header: patience, Idle: patience, BodyIdle: patience, Head: 64 << 10, Log: h.Log, Scheme: "http"})
	two := padlock2.NewServer(padlock2.ServerOptions{Handler: h, Header: patience, Idle: patience, BodyIdle: patience, Head: 64 << 10, Log: h.Log})
	addresses := map[string]string{
		"HTTP/1.1": accepting(t, func(c *unencrypted) { one.ServeConn(c) }), "HTTP/2": accepting(t, func(c *unencrypted) { two.ServeConn(c) }),
	}
	transport1, transport2 := &http.Transport{}, &http2.Transport{AllowHTTP: true, DialTLSContext: func(_ context.Context, network, address string, _ *tls.Config) (net.Conn, error) {
		return net.Dial(network, address)
	}}
	t.Cleanup(func() {
		transport1.CloseIdleConnections()
		transport2.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := errors.Join(one.Shutdown(ctx), two.Shutdown(ctx)); err != nil {
			t.Error(err)
		}
	})
	still := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return log, map[string]*http.Client{"HTTP/1.1": {Transport: transport1, CheckRedirect: still}, "HTTP/2": {Transport: transport2, CheckRedirect: still}}, addresses
}

func accepting(t *testing.T, serve func(*unencrypted)) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			u := &unencrypted{TCPConn: c.(*net.TCPConn), facts: message.Conn{Remote: c.RemoteAddr().String(), Local: c.LocalAddr().String()}}
			u.facts.Client, u.facts.Addr = message.ClientAddr(u.facts.Remote)
			go serve(u)
		}
	}()
	return "http://" + l.Addr().String()
}

// each calls a test with each protocol's client, as the one that asks.
func each(t *testing.T, handler http.HandlerFunc, do func(t *testing.T, client *http.Client, url string, log *journal)) {
	t.Helper()
	log, clients, urls := serving(t, handler)
	for name, client := range clients {
		t.Run(name, func(t *testing.T) { do(t, client, urls[name], log) })
	}
}

func ask(t *testing.T, client *http.Client, r *http.Request) (*http.Response, string) {
	t.Helper()
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

func asking(method, url string, header ...string) *http.Request {
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		panic(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

// The standard library's file server answers as it does behind net/http's own server: whole files, ranges, conditions, directories, HEAD.
func TestTheStandardLibrarysFileServerIsAnAction(t *testing.T) {
	large := bytes.Repeat([]byte("0123456789"), 100_000)
	changed := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	files := fstest.MapFS{
		"index.html": {Data: []byte("<h1>hello"), ModTime: changed}, "large.bin": {Data: large, ModTime: changed}, "dir/a.txt": {Data: []byte("a"), ModTime: changed}, "empty.css": {ModTime: changed},
	}
	each(t, http.FileServerFS(files).ServeHTTP, func(t *testing.T, client *http.Client, url string, _ *journal) {
		for _, c := range []struct {
			r            *http.Request
			status       int
			kind, length string
			body         string
		}{
			{asking("GET", url+"/"), 200, "text/html; charset=utf-8", "9", "<h1>hello"},
			{asking("HEAD", url+"/"), 200, "text/html; charset=utf-8", "9", ""},
			{asking("GET", url+"/large.bin"), 200, "application/octet-stream", "1000000", string(large)},
			{asking("HEAD", url+"/large.bin"), 200, "application/octet-stream", "1000000", ""},
			{asking("GET", url+"/empty.css"), 200, "text/css; charset=utf-8", "0", ""},
			{asking("GET", url+"/large.bin", "Range", "bytes=999995-"), 206, "application/octet-stream", "5", "56789"},
			{asking("GET", url+"/large.bin", "Range", "bytes=2000000-"), 416, "text/plain; charset=utf-8", "", "invalid range: failed to overlap\n"},
			{asking("GET", url+"/large.bin", "If-Modified-Since", changed.Format(http.TimeFormat)), 304, "", "", ""},
			{asking("GET", url+"/large.bin", "If-Unmodified-Since", changed.Add(-time.Hour).Format(http.TimeFormat)), 412, "", "", ""},
			{asking("GET", url+"/dir"), 301, "", "0", ""},
			{asking("GET", url+"/none"), 404, "text/plain; charset=utf-8", "19", "404 page not found\n"},
			{asking("GET", url+"/dir/../../etc/passwd"), 404, "", "", "404 page not found\n"},
		} {
			response, body := ask(t, client, c.r)
			if response.StatusCode != c.status || body != c.body || c.kind != "" && response.Header.Get("Content-Type") != c.kind {
				t.Errorf("%s %s %v: %s %v, %d bytes", c.r.Method, c.r.URL.Path, c.r.Header, response.Status, response.Header, len(body))
			}
			if c.length != "" && response.Header.Get("Content-Length") != c.length {
				t.Errorf("%s %s: length %q", c.r.Method, c.r.URL.Path, response.Header.Get("Content-Length"))
			}
		}
		response, body := ask(t, client, asking("GET", url+"/large.bin", "Range", "bytes=0-1,5-6"))
		if response.StatusCode != 206 || !strings.Contains(response.Header.Get("Content-Type"), "multipart/byteranges") || strings.Count(body, "Content-Range:") != 2 {
			t.Errorf("%s %v %q", response.Status, response.Header, body)
		}
	})
}

// A handler finds in its request what net/http's server would give it.
func TestAHandlerFindsWhatNetHTTPWouldGiveIt(t *testing.T) {
	each(t, func(w http.ResponseWriter, r *http.Request) {
		content, err := io.ReadAll(r.Body)
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		fmt.Fprintln(w, r.Method, r.URL.Path, r.URL.Query().Get("q"), r.RequestURI, len(r.Cookies()), r.Header.Get("X-Name"), string(content), err, r.Trailer.Get("X-Sum"), r.Host == local.String(), r.ContentLength)
		if host, _, _ := net.SplitHostPort(r.RemoteAddr); host != "127.0.0.1" {
			fmt.Fprintln(w, "from", r.RemoteAddr)
		}
	}, func(t *testing.T, client *http.Client, url string, _ *journal) {
		r := asking("POST", url+"/a%20b?q=1", "X-Name", "v", "Cookie", "a=1; b=2")
		r.Body, r.ContentLength, r.Trailer = io.NopCloser(strings.NewReader("content")), -1, http.Header{"X-Sum": {"7"}}
		if response, body := ask(t, client, r); body != "POST /a b 1 /a%20b?q=1 2 v content <nil> 7 true -1\n" || response.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%s %v %q", response.Status, response.Header, body)
		}
		if _, body := ask(t, client, asking("GET", url+"/")); body != "GET /  / 0   <nil>  true 0\n" {
			t.Errorf("%q", body)
		}
	})
}

// What is flushed comes at once, and early hints before the head; trailers come behind the content, with the names that were declared and without.
func TestAHandlerStreams(t *testing.T) {
	next := make(chan string)
	each(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Trailer", "X-Count")
		n := 0
		for text := range next {
			if text == "" {
				break
			}
			n++
			_, _ = io.WriteString(w, text)
			_ = http.NewResponseController(w).Flush()
		}
		w.Header().Set("X-Count", strconv.Itoa(n))
		w.Header().Set(http.TrailerPrefix+"X-Late", "yes")
	}, func(t *testing.T, client *http.Client, url string, _ *journal) {
		hints := make(chan string, 1)
		r := asking("GET", url+"/")
		r = r.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			hints <- fmt.Sprint(code, h.Get("Link"))
			return nil
		}}))
		go func() { next <- "first" }()
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if hint := <-hints; hint != "103</style.css>; rel=preload" {
			t.Errorf("hints %q", hint)
		}
		room := make([]byte, 100)
		for i := range 3 {
			n, err := io.ReadAtLeast(response.Body, room, 5)
			if err != nil || string(room[:n]) != "first" {
				t.Fatalf("%d: %q %v", i, room[:n], err)
			}
			if i < 2 {
				next <- "first"
			}
		}
		next <- ""
		rest, err := io.ReadAll(response.Body)
		if err != nil || len(rest) > 0 || response.Trailer.Get("X-Count") != "3" || response.Trailer.Get("X-Late") != "yes" {
			t.Errorf("%q %v %v", rest, err, response.Trailer)
		}
	})
}

// A client that goes away ends the handler's context, and what it writes: neither when it works nor when it writes does a handler stay behind, and
// it holds no more than a bounded buffer for a client that reads nothing.
func TestAClientThatGoesAwayEndsTheHandler(t *testing.T) {
	ended := make(chan error, 1)
	each(t, func(w http.ResponseWriter, r *http.Request) {
		var err error
		switch r.URL.Path {
		case "/works":
			<-r.Context().Done()
			err = r.Context().Err()
		case "/reads":
			_, _ = w.Write(make([]byte, 10<<10))
			_, err = io.Copy(io.Discard, r.Body)
		case "/writes":
			for err == nil {
				_, err = w.Write(make([]byte, 100<<10))
			}
		}
		ended <- err
	}, func(t *testing.T, client *http.Client, url string, _ *journal) {
		for _, path := range []string{"/works", "/reads", "/writes"} {
			ctx, cancel := context.WithCancel(t.Context())
			in, out := io.Pipe()
			r := asking("POST", url+path).WithContext(ctx)
			if path == "/reads" {
				r.Body, r.ContentLength = in, -1
			}
			time.AfterFunc(100*time.Millisecond, cancel)
			response, err := client.Do(r)
			if err == nil {
				<-ctx.Done()
				response.Body.Close()
			}
			out.Close()
			select {
			case err := <-ended:
				if err == nil && path != "/reads" {
					t.Errorf("%s: the handler has not found out", path)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("%s: the handler is still there", path)
			}
			cancel()
		}
	})
}

// A panic is one request's: before the head it is an error page, behind it the response is cut short. Both are logged with the stack; a handler
// that aborts on purpose is not.
func TestAHandlersPanicIsContained(t *testing.T) {
	each(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/late") {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "some")
			_ = http.NewResponseController(w).Flush()
		}
		if strings.HasSuffix(r.URL.Path, "abort") {
			panic(http.ErrAbortHandler)
		}
		panic("a mistake")
	}, func(t *testing.T, client *http.Client, url string, log *journal) {
		if response, body := ask(t, client, asking("GET", url+"/early", "Accept", "text/plain")); response.StatusCode != 500 || strings.Contains(body, "mistake") {
			t.Errorf("%s %q", response.Status, body)
		}
		if text := log.take(); !strings.Contains(text, "a mistake") || !strings.Contains(text, "fromhttp_test.go") {
			t.Errorf("the log says %q", text)
		}
		if _, err := client.Do(asking("GET", url+"/abort")); err == nil {
			t.Error("an aborted response is one")
		}
		for _, path := range []string{"/late", "/late-abort"} {
			response, err := client.Do(asking("GET", url+path))
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(response.Body); err == nil || string(body) != "some" {
				t.Errorf("%s: %q, %v", path, body, err)
			}
			response.Body.Close()
			if text := log.take(); strings.Contains(text, "panic") != (path == "/late") {
				t.Errorf("%s: the log says %q", path, text)
			}
		}
	})
}

// Content keeps to what the head says of it.
func TestAHandlersContentKeepsToItsHead(t *testing.T) {
	errs := make(chan error, 1)
	each(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/none":
			w.WriteHeader(http.StatusNoContent)
		case "/more":
			w.Header().Set("Content-Length", "4")
		case "/less":
			w.Header().Set("Content-Length", "40")
		case "/line":
			w.Header().Set("X-Line", "a\r\nb")
			w.Header().Set("Connection", "X-Line2, close")
			w.Header().Set("X-Line2", "hop")
		}
		_, err := io.WriteString(w, "too much")
		errs <- err
	}, func(t *testing.T, client *http.Client, url string, _ *journal) {
		if response, body := ask(t, client, asking("GET", url+"/none")); response.StatusCode != 204 || body != "" || !errors.Is(<-errs, http.ErrBodyNotAllowed) {
			t.Errorf("%s %q", response.Status, body)
		}
		for _, path := range []string{"/more", "/less"} {
			response, err := client.Do(asking("GET", url+path))
			if err == nil {
				_, err = io.ReadAll(response.Body)
				response.Body.Close()
			}
			if err == nil {
				t.Errorf("%s looks whole", path)
			}
			if err := <-errs; (err == nil) != (path == "/less") {
				t.Errorf("%s: the handler got %v", path, err)
			}
		}
		if response, _ := ask(t, client, asking("GET", url+"/line")); response.Header.Get("X-Line") != "a  b" || response.Header.Get("X-Line2") != "" {
			t.Errorf("%v", response.Header)
		}
		<-errs
	})
}
