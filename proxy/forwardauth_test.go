package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"padlock/proxy/message"
)

// guard is a service that padlock asks: it lets those in whose cookie says who they are.
type guard struct {
	mu    sync.Mutex
	heard []*http.Request
	asked atomic.Int32
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.heard = append(g.heard, r)
	g.mu.Unlock()
	g.asked.Add(1)
	cookie, err := r.Cookie("session")
	switch {
	case err != nil:
		w.Header().Set("Set-Cookie", "attempt=1")
		w.Header().Set("WWW-Authenticate", `Basic realm="guard"`)
		http.Redirect(w, r, "https://login.test/?rd="+r.Header.Get("X-Forwarded-Uri"), http.StatusFound)
	case cookie.Value == "nobody":
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Remote-User", cookie.Value)
		w.Header().Add("Remote-Groups", "staff")
		w.Header().Add("Remote-Groups", "chess")
		w.Header().Set("X-Secret", "of the guard")
		w.Header().Set("Set-Cookie", "session=renewed")
		w.WriteHeader(http.StatusAccepted)
	}
}

// last is what the service was asked last.
func (g *guard) last() *http.Request {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.heard[len(g.heard)-1]
}

const guardedApp = `
sites:
  - hosts: [localhost]
    routes:
      - path: /app
        forward_auth: {to: %q, uri: "/verify?group=staff", copy: [Remote-User, Remote-Groups]}
        strip_prefix: true
        to: %q
`

// Whoever the service knows gets to the target, which learns who it is from the service alone; all others get the service's answer.
func TestAServiceDecidesAboutRequests(t *testing.T) {
	t.Parallel()
	g := &guard{}
	seen := make(chan *http.Request, 1)
	app := backend(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		seen <- r
	})
	e := startFile(t, guardedApp, backend(t, g.ServeHTTP), app)
	for name, client := range e.everyClient(t) {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		response, _ := fetch(t, client, "POST", "https://localhost/app/x?y=%2F", "Remote-User", "FORGED")
		if response.StatusCode != 302 || response.Header.Get("Location") != "https://login.test/?rd=/app/x?y=%2F" || response.Header.Get("Set-Cookie") != "attempt=1" || response.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: without a session: %s %v", name, response.Status, response.Header)
		}
		asked := g.last()
		for field, want := range map[string]string{
			"X-Forwarded-Method": "POST", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "localhost", "X-Forwarded-Uri": "/app/x?y=%2F", "X-Forwarded-For": "127.0.0.1",
			"X-Original-Method": "POST", "X-Original-Url": "https://localhost/app/x?y=%2F", "Remote-User": "", "Content-Length": "",
		} {
			if got := asked.Header.Get(field); got != want {
				t.Errorf("%s: the service heard %s: %q", name, field, got)
			}
		}
		if asked.Method != "GET" || asked.RequestURI != "/verify?group=staff" || asked.Host == "localhost" {
			t.Errorf("%s: the service was asked %s %s of %s", name, asked.Method, asked.RequestURI, asked.Host)
		}

		request, _ := http.NewRequest("POST", "https://localhost/app/x", strings.NewReader("content"))
		request.ContentLength = -1
		for _, alias := range []string{"Remote-User", "remote_user", "REMOTE.USER", "Remote-Groups", "Remote_Groups", "X-Forwarded-User", "X-Auth-Request-Email"} {
			request.Header[alias] = []string{"FORGED"}
		}
		request.Trailer = http.Header{"Remote-User": {"FORGED"}, "Remote-Groups": {"FORGED"}, "Remote_Groups": {"FORGED"}, "X-Sum": {"7"}}
		request.AddCookie(&http.Cookie{Name: "session", Value: "ada"})
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(name, err)
		}
		response.Body.Close()
		r := <-seen
		if response.StatusCode != 200 || response.Header.Get("Set-Cookie") != "session=renewed" || response.Header.Get("X-Secret") != "" {
			t.Errorf("%s: with a session: %s %v", name, response.Status, response.Header)
		}
		if r.RequestURI != "/x" || r.Header.Get("Remote-User") != "ada" || fmt.Sprint(r.Header["Remote-Groups"]) != "[staff chess]" || r.Header.Get("X-Secret") != "" ||
			strings.Contains(fmt.Sprint(r.Header, r.Trailer), "FORGED") || r.Trailer.Get("X-Sum") != "7" || r.Header.Get("X-Forwarded-User") != "ada" {
			t.Errorf("%s: the target got %s %v %v", name, r.RequestURI, r.Header, r.Trailer)
		}

		// Nothing takes the place of what the service does not say.
		fetch(t, client, "GET", "https://localhost/app/", "Cookie", "session=nobody", "Remote-User", "FORGED", "Remote_Groups", "FORGED")
		if r := <-seen; strings.Contains(fmt.Sprint(r.Header), "FORGED") || r.Header.Get("Remote-User") != "" {
			t.Errorf("%s: the target got %v", name, r.Header)
		}
		response, body := fetch(t, client, "HEAD", "https://localhost/app/")
		if response.StatusCode != 302 || body != "" {
			t.Errorf("%s: HEAD: %s %q", name, response.Status, body)
		}
	}
	if err := e.stop(); err != nil { // the log is written whole
		t.Error(err)
	}
	log := e.access.String()
	if !strings.Contains(log, `"user":"ada"`) || !strings.Contains(log, `"error":"forward_auth: http://127.0.0.1:`) || !strings.Contains(log, "answered 302") {
		t.Errorf("the access log: %s", log)
	}
}

// A client that names a field in Connection, or spells it otherwise, changes nothing about what the target is told, even where such spellings are kept.
func TestFieldsOfTheServiceCannotBeForged(t *testing.T) {
	t.Parallel()
	g, r := &guard{}, record(t)
	e := startFile(t, "underscores_in_headers: keep\n"+guardedApp, backend(t, g.ServeHTTP), r.url())
	for _, lines := range []string{
		"Connection: close, Remote-User", "Connection: close\r\nRemote-User: FORGED", "Connection: close\r\nREMOTE_USER: FORGED\r\nremote.groups: FORGED",
		"Connection: close\r\nConnection: cookie2, remote-groups\r\nRemote-User: FORGED\r\nRemote-User: FORGED",
	} {
		answer := e.say(t, "GET https://localhost/app/a HTTP/1.1\r\nHost: localhost\r\nCookie: session=ada\r\n"+lines+"\r\n\r\n")
		got := r.take()
		if !strings.HasPrefix(answer, "HTTP/1.1 200") || !strings.Contains(got, "\r\nRemote-User: ada\r\n") || !strings.Contains(got, "\r\nRemote-Groups: staff\r\nRemote-Groups: chess\r\n") || strings.Contains(got, "FORGED") {
			t.Errorf("%q: %s\nthe target got\n%s", lines, answer, got)
		}
	}
}

// broken are services that give no answer which could be believed.
func broken(t *testing.T) map[string]string {
	raw := func(text string) string {
		return "http://" + serveTCP(t, func(c *net.TCPConn) {
			_, _ = http.ReadRequest(bufio.NewReader(c))
			_, _ = io.WriteString(c, text)
		})
	}
	silent := serveTCP(t, func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
	return map[string]string{
		"is not there":      "http://127.0.0.1:1",
		"closes":            raw(""),
		"speaks no HTTP":    raw("SSH-2.0-x\r\n\r\n"),
		"switches":          raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
		"has a large head":  raw("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 300<<10) + "\r\n\r\n"),
		"has much to say":   raw("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100000)),
		"breaks off":        raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"),
		"is of two minds":   raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef"),
		"never answers":     "http://" + silent,
		"never ends":        raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
		"only has an early": raw("HTTP/1.1 103 Early Hints\r\nRemote-User: ada\r\n\r\n"),
	}
}

// Where the service cannot be asked, nobody gets to the target, and the log says why.
func TestWithoutAnAnswerNobodyComesIn(t *testing.T) {
	t.Parallel()
	for what, service := range broken(t) {
		var reached atomic.Int32
		app := backend(t, func(http.ResponseWriter, *http.Request) { reached.Add(1) })
		e := startFile(t, `sites: [{hosts: [localhost], forward_auth: {to: %q, uri: /verify, copy: [Remote-User], timeout: 300ms}, routes: [{to: %q}]}]`, service, app)
		for name, client := range e.everyClient(t) {
			response, body := fetch(t, client, "GET", "https://localhost/", "Cookie", "session=ada")
			want := 502
			if what == "never answers" {
				want = 504
			}
			if response.StatusCode != want && response.StatusCode != 504 || reached.Load() != 0 || !strings.Contains(body, "decides about access") {
				t.Errorf("%s: a service that %s: %s, the target was reached %d times", name, what, response.Status, reached.Load())
			}
		}
		if err := e.stop(); err != nil { // the log is written whole
			t.Error(err)
		}
		if log := e.access.String(); !strings.Contains(log, `"error":"forward_auth: `) {
			t.Errorf("a service that %s: the access log has %s", what, log)
		}
	}
}

// Of several services the log names the one that has failed.
func TestTheServiceThatFailsIsNamed(t *testing.T) {
	t.Parallel()
	long := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat("x", 100<<10)) }
	one, two := backend(t, long), backend(t, long)
	e := startFile(t, `sites: [{hosts: [localhost], forward_auth: {to: [%q, %q], uri: /}, routes: [{respond: {body: in}}]}]`, one, two)
	for range 2 {
		if response, _ := fetch(t, e.clients(t)["h2"], "GET", "https://localhost/"); response.StatusCode != 502 {
			t.Errorf("%s", response.Status)
		}
	}
	if err := e.stop(); err != nil { // the log is written whole
		t.Error(err)
	}
	for _, service := range []string{one, two} {
		if log := e.access.String(); !strings.Contains(log, `"error":"forward_auth: target `+service) {
			t.Errorf("%s is not named: %s", service, log)
		}
	}
}

// The content stays with the client until the service has agreed, and a request that goes to several targets is asked about once.
func TestTheServiceIsAskedOnceAndFirst(t *testing.T) {
	t.Parallel()
	g := &guard{}
	got := make(chan string, 1)
	app := backend(t, func(_ http.ResponseWriter, r *http.Request) {
		content, _ := io.ReadAll(r.Body)
		got <- string(content)
	})
	e := startFile(t, `sites: [{hosts: [localhost], routes: [{forward_auth: {to: %q, uri: /}, to: ["127.0.0.1:1", "127.0.0.2:1", %q]}]}]`, backend(t, g.ServeHTTP), app)
	conn, err := tls.Dial("tcp", e.address, e.tls())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	reader := bufio.NewReader(conn)
	_, _ = io.WriteString(conn, "PUT / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	if refused, err := http.ReadResponse(reader, nil); err != nil || refused.StatusCode != 302 {
		t.Fatalf("without a session: %v %v", refused, err)
	}

	response, err := e.puts(t, "session=ada")
	if err != nil || response.StatusCode != 200 || <-got != "hello" || g.asked.Load() != 2 {
		t.Errorf("with a session: %v %v, asked %d times", response, err, g.asked.Load())
	}
}

// puts sends content that waits to be asked for.
func (e *edge) puts(t *testing.T, cookie string) (*http.Response, error) {
	t.Helper()
	request, _ := http.NewRequest("PUT", "https://localhost/", strings.NewReader("hello"))
	request.Header.Set("Cookie", cookie)
	request.Header.Set("Expect", "100-continue")
	client := &http.Client{Transport: &http.Transport{DialContext: e.dial, TLSClientConfig: e.tls(), ExpectContinueTimeout: time.Minute, DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err == nil {
		response.Body.Close()
	}
	return response, err
}

// Services behind a Unix socket, by HTTP/2 and several for one route are asked as targets are.
func TestServicesAreReachedAsTargetsAre(t *testing.T) {
	t.Parallel()
	g := &guard{}
	socket := filepath.Join(t.TempDir(), "guard.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	local := &httptest.Server{Listener: l, Config: &http.Server{Handler: g}}
	local.Start()
	t.Cleanup(local.Close)
	two := httptest.NewUnstartedServer(g)
	two.Config.Protocols = new(http.Protocols)
	two.Config.Protocols.SetUnencryptedHTTP2(true)
	two.Start()
	t.Cleanup(two.Close)

	app := backend(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Header.Get("Remote-User")) })
	for _, to := range []string{"unix:" + socket, strings.Replace(two.URL, "http:", "h2c:", 1), `["127.0.0.1:1", "unix:` + socket + `"]`} {
		e := startFile(t, `sites: [{hosts: [localhost], routes: [{forward_auth: {to: `+to+`, uri: /, copy: Remote-User}, to: %q}]}]`, app)
		client := e.everyClient(t)["h2"]
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		for range 3 {
			if _, body := fetch(t, client, "GET", "https://localhost/", "Cookie", "session=ada"); body != "ada" {
				t.Errorf("%s: %q", to, body)
			}
			if response, _ := fetch(t, client, "GET", "https://localhost/"); response.StatusCode != 302 {
				t.Errorf("%s: without a session: %s", to, response.Status)
			}
		}
	}
}

// A service that asks itself through padlock, or leads there, goes round a few times and no more.
func TestAServiceThatAsksItselfEnds(t *testing.T) {
	t.Parallel()
	var plain atomic.Pointer[string]
	self := serveTCP(t, func(c *net.TCPConn) {
		to, err := net.Dial("tcp", *plain.Load())
		if err != nil {
			return
		}
		defer to.Close()
		go func() { _, _ = io.Copy(to, c) }()
		_, _ = io.Copy(c, to)
	})
	e := startFile(t, `
sites: [{hosts: [localhost, 127.0.0.1], http: serve, forward_auth: {to: %q, uri: /}, routes: [{respond: {status: 204}}]}]`, "http://"+self)
	plain.Store(&e.plain)
	response, _ := fetch(t, e.clients(t)["h1"], "GET", "https://localhost/")
	if response.StatusCode/100 == 2 {
		t.Errorf("%s", response.Status)
	}
}

// A client that leaves while the service thinks does not keep it busy, and a reload that asks another service ends what is open.
func TestWhatTheServiceLetInIsJudgedAgain(t *testing.T) {
	t.Parallel()
	g := &guard{}
	service, other := backend(t, g.ServeHTTP), backend(t, (&guard{}).ServeHTTP)
	app := backend(t, func(w http.ResponseWriter, r *http.Request) { socketEcho(w, r) })
	file := `sites: [{hosts: [localhost], %s routes: [{to: %q}]}]`
	asks := func(service string) string { return fmt.Sprintf("forward_auth: {to: %q, uri: /},", service) }
	for _, c := range []struct {
		before, after string
		stays         bool
	}{
		{asks(service), asks(service), true}, {asks(service), "", true}, {asks(service), asks(other), false}, {"", asks(service), false},
		{asks(service), fmt.Sprintf("forward_auth: {to: [{target: %q, weight: 3}], uri: /, timeout: 3s, copy: [Remote-User], keepalive: 1s, retry: {attempts: 1}},", service), true},
		{asks(service), fmt.Sprintf("forward_auth: {to: %q, uri: /staff},", service), false},
	} {
		e := startFile(t, strings.Replace(file, "%s", c.before, 1), app)
		conn, err := tls.Dial("tcp", e.address, e.tls())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nCookie: session=ada\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
		reader := bufio.NewReader(conn)
		response, err := http.ReadResponse(reader, nil)
		if err != nil || response.StatusCode != 101 {
			t.Fatalf("%v %v", response, err)
		}
		e.reload(t, sitesOf(t, fmt.Sprintf(strings.Replace(file, "%s", c.after, 1), app)))
		patience := 20 * time.Second
		if c.stays { // nothing comes
			patience = 300 * time.Millisecond
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		_, err = reader.ReadByte()
		var timeout net.Error
		if stays := errors.As(err, &timeout) && timeout.Timeout(); stays != c.stays {
			t.Errorf("from %q to %q: %v", c.before, c.after, err)
		}
		conn.Close()
	}
}

// The service is not kept busy by clients that have left.
func TestAClientThatLeavesEndsItsQuestion(t *testing.T) {
	t.Parallel()
	asked, left := make(chan bool, 3), make(chan bool, 3)
	service := backend(t, func(_ http.ResponseWriter, r *http.Request) {
		asked <- true
		<-r.Context().Done()
		left <- true
	})
	e := startFile(t, `sites: [{hosts: [localhost], routes: [{forward_auth: {to: %q, uri: /, timeout: 1m}, to: 1}]}]`, service)
	for name, client := range e.everyClient(t) {
		ctx, cancel := context.WithCancel(t.Context())
		request, _ := http.NewRequestWithContext(ctx, "GET", "https://localhost/", nil)
		go func() {
			<-asked
			cancel()
		}()
		if response, err := client.Do(request); err == nil {
			t.Errorf("%s: %s", name, response.Status)
		}
		select {
		case <-left:
		case <-time.After(20 * time.Second):
			t.Errorf("%s: the service is still asked", name)
		}
	}
}

// What a service was asked about is what the target does: no field makes another method of it, and no proxy, however trusted, has a word on the user beside the service.
func TestTheTargetDoesWhatTheServiceWasAskedAbout(t *testing.T) {
	t.Parallel()
	g, r := &guard{}, record(t)
	e := startFile(t, `
trusted_proxies: [127.0.0.1]
sites: [{hosts: [localhost], routes: [{forward_auth: {to: %q, uri: /, copy: [Remote-Groups]}, to: %q}]}]`, backend(t, g.ServeHTTP), r.url())
	for name, client := range e.everyClient(t) {
		request, _ := http.NewRequest("POST", "https://localhost/", strings.NewReader("content"))
		request.ContentLength = -1
		request.Header.Set("Cookie", "session=ada")
		request.Trailer = http.Header{"X-Sum": {"7"}}
		for _, field := range []string{"X-HTTP-Method-Override", "X-Method-Override", "Remote-User", "X-Forwarded-User", "X-Auth-Request-User", "Remote-Groups"} {
			request.Header.Set(field, "FORGED")
			request.Trailer.Set(field, "FORGED")
			request.Header[strings.ReplaceAll(field, "-", "_")] = []string{"FORGED"}
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(name, err)
		}
		response.Body.Close()
		got := r.take()
		if response.StatusCode != 200 || strings.Contains(got, "FORGED") || !strings.Contains(got, "\r\nRemote-Groups: staff\r\n") || !strings.Contains(strings.ToLower(got), "x-sum: 7") {
			t.Errorf("%s: %s, and the target got\n%s", name, response.Status, got)
		}
		if heard := fmt.Sprint(g.last().Header); strings.Contains(heard, "FORGED") {
			t.Errorf("%s: the service heard %s", name, heard)
		}
	}
}

// A WebSocket over HTTP/2 or HTTP/3 is asked about as one of HTTP/1.1 is, once and before anything of it reaches the target; the service sees a GET that is no WebSocket.
func TestTheServiceIsAskedAboutWebSockets(t *testing.T) {
	t.Parallel()
	g := &guard{}
	var opened atomic.Int32
	app := backend(t, func(w http.ResponseWriter, r *http.Request) {
		opened.Add(1)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\nfor %s", message.WebSocketAccept(r.Header.Get("Sec-WebSocket-Key")), r.Header.Get("Remote-User"))
	})
	e := startFile(t, `sites: [{hosts: [localhost], routes: [{forward_auth: {to: %q, uri: /, copy: [Remote-User]}, to: %q}]}]`, backend(t, g.ServeHTTP), app)
	for name, ask := range e.fronts(t) {
		handshake := []string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "localhost", ":path", "/ws", "remote-user", "root"}
		if o := ask(forged{fields: handshake, data: "x"}); o.status != "302" || opened.Load() != 0 {
			t.Errorf("%s: without a session: %+v", name, o)
		}
		if o := ask(forged{fields: append(handshake, "cookie", "session=ada"), data: "x"}); o.status != "200" || o.body != "for ada" {
			t.Errorf("%s: with a session: %+v", name, o)
		}
		if r := g.last(); r.Method != "GET" || r.Header.Get("Upgrade") != "" || r.Header.Get("Connection") != "" || r.Header.Get("X-Forwarded-Method") != "GET" {
			t.Errorf("%s: the service heard %s %v", name, r.Method, r.Header)
		}
		opened.Store(0)
	}
	if n := g.asked.Load(); n != 4 {
		t.Errorf("asked %d times", n)
	}
}
