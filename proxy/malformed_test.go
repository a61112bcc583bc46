package proxy_test

import (
	"context"
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

// counted counts the connections that a client makes.
func (e *edge) counted(dials *atomic.Int32) *http.Client {
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: e.tls(),
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			dials.Add(1)
			return net.Dial("tcp", e.address)
		},
	}}
}

// A malformed request is answered, in words, and the client does not send it again: Go's takes a reset with PROTOCOL_ERROR for a fault of the
// connection, and dials without end.
func TestAMalformedRequestIsAnsweredOnce(t *testing.T) {
	t.Parallel()
	r := record(t)
	e := start(t, r.url(), nil)
	var dials atomic.Int32
	for name, client := range map[string]*http.Client{"h2": e.counted(&dials), "h3": e.three(t, nil)} {
		for query, why := range map[string]string{"q=a b": "a space", "q=a\x01b": "a control character", "q=a#b": "a fragment", "q=\u0085": "a control character"} {
			for _, method := range []string{"GET", "HEAD", "POST"} {
				request, err := http.NewRequest(method, "https://localhost/", nil)
				if err != nil {
					t.Fatal(err)
				}
				if method == "POST" {
					request.Body = io.NopCloser(io.MultiReader(strings.NewReader("some"), forever{}))
				}
				request.URL.RawQuery = query
				response, err := client.Do(request)
				if err != nil {
					t.Errorf("%s %s %q: %v", name, method, query, err)
					continue
				}
				text, err := io.ReadAll(response.Body)
				response.Body.Close()
				if response.StatusCode != 400 || method != "HEAD" && (err != nil || !strings.Contains(string(text), why)) {
					t.Errorf("%s %s %q: %s %q, %v", name, method, query, response.Status, text, err)
				}
			}
		}
	}
	if n := dials.Load(); n > 12 {
		t.Errorf("12 requests made %d connections", n)
	}
	if got := r.take(); got != "" {
		t.Errorf("the backend saw %q", got)
	}
	if answer := e.say(t, "GET /?q=a b HTTP/1.1\r\nHost: localhost\r\n\r\n"); !strings.HasPrefix(answer, "HTTP/1.1 400 ") || !strings.Contains(answer, "sent as %20") {
		t.Errorf("by HTTP/1.1: %q", answer)
	}
	soonInLog(t, e, "reason=malformed", "latest=")
}

// soonInLog waits for a line with all parts.
func soonInLog(t *testing.T, e *edge, parts ...string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		for line := range strings.Lines(e.log.String()) {
			found := true
			for _, part := range parts {
				found = found && strings.Contains(line, part)
			}
			if found {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("no line with %q in %s", parts, e.log.String())
		}
	}
}

// Content that is not what its head announced is answered with 400 too, in words.
func TestContentThatIsNotAsAnnouncedIsAnswered(t *testing.T) {
	t.Parallel()
	r := record(t)
	e := start(t, r.url(), nil)
	plain := set(":method", "POST")
	post := append(plain[:8:8], "content-length", "5")
	for name, ask := range e.fronts(t) {
		for _, f := range []forged{{post, "hello, world", nil}, {post, "hell", nil}, {plain, "hello", []string{"X", "y"}}} {
			if o := ask(f); o.status != "400" || !strings.HasPrefix(o.body, "The request is malformed: ") {
				t.Errorf("%s: %q %q: %+v", name, f.data, f.trailers, o)
			}
			if got := r.take(); strings.HasSuffix(got, "hello") {
				t.Errorf("%s: the backend saw %q", name, got)
			}
		}
	}
}

// A query may have characters beyond ASCII, as PHP, Python, Go and curl send them: they go to targets byte by byte, as with other
// proxies. What ends a line or a word does not, and neither does a path that readers decode in different ways.
func TestAQueryMayHaveCharactersBeyondASCII(t *testing.T) {
	t.Parallel()
	queries := []string{"q=größe", "q=日本語&x=😀", "größe", "a=b?ä", "q=gr\xf6\xdfe", "q=à"} // the last but one as Latin 1 has it
	one, two := record(t), make(chan string, 1)
	byHTTP2 := h2cBackend(t, func(_ http.ResponseWriter, r *http.Request) { two <- r.RequestURI })
	e := start(t, one.url(), func(c *config.Config) {
		to, err := config.ParseTarget(byHTTP2)
		if err != nil {
			t.Fatal(err)
		}
		c.Sites[0].Routes = append(c.Sites[0].Routes, config.Route{Path: "/two", Upstream: config.Upstream{To: []config.Backend{{Target: to}}}})
	})
	ask := e.fronts(t)
	ask["h1"] = func(f forged) (o outcome) {
		answer := e.say(t, fmt.Sprintf("GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", f.fields[7]))
		_, _ = fmt.Sscanf(answer, "HTTP/1.1 %s ", &o.status)
		return o
	}
	for name, ask := range ask {
		for _, query := range queries {
			if o := ask(forged{fields: set(":path", "/x?"+query)}); o.status != "200" {
				t.Errorf("%s: %q: %+v", name, query, o)
			}
			if got := one.take(); !strings.HasPrefix(got, "GET /x?"+query+" HTTP/1.1\r\n") {
				t.Errorf("%s: %q: the backend saw %q", name, query, got)
			}
			if o := ask(forged{fields: set(":path", "/two?"+query)}); o.status != "200" {
				t.Errorf("%s: %q to h2c: %+v", name, query, o)
				continue
			}
			if got := <-two; got != "/two?"+query {
				t.Errorf("%s: %q: the h2c backend saw %q", name, query, got)
			}
		}
		for _, target := range []string{"/größe", "/gr\xf6?q=x", "/?q=ä b", "/?q=ä\tb", "/?q=ä\x00", "/?q=ä\x7f", "/?ä#b", "/?q=\u0085", "/?q=\u009b2J"} {
			if o := ask(forged{fields: set(":path", target)}); o.status != "400" {
				t.Errorf("%s: %q: %+v", name, target, o)
			}
			if got := one.take(); got != "" {
				t.Errorf("%s: %q: the backend saw %q", name, target, got)
			}
		}
	}
	soonIn(t, e, `"target":"/x?q=größe"`)
}
