package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"padlock/config"
)

// startFile runs a configuration as a file gives it; %s are addresses.
func startFile(t *testing.T, file string, args ...any) *edge {
	t.Helper()
	return start(t, "http://127.0.0.1:1", func(c *config.Config) {
		parsed, err := config.Parse("padlock.yaml", fmt.Appendf(nil, file, args...))
		if err != nil {
			t.Fatal(err)
		}
		c.Sites, c.Trusted, c.Timeouts, c.Limits, c.Listen = parsed.Sites, parsed.Trusted, parsed.Timeouts, parsed.Limits, parsed.Listen
		c.UnderscoresInHeaders, c.Tracing, c.Handshakes, c.AccessLog = parsed.UnderscoresInHeaders, parsed.Tracing, parsed.Handshakes, parsed.AccessLog
	})
}

func fetch(t *testing.T, client *http.Client, method, url string, fields ...string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		request.Header.Set(fields[i], fields[i+1])
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return response, string(body)
}

// named answers with its name, and what it was asked for.
func named(t *testing.T, name string) string {
	return backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Seen-Host", r.Host)
		w.Header().Set("X-Seen-Added", r.Header.Get("X-Added"))
		w.Header().Set("Server", "secret")
		fmt.Fprintf(w, "%s %s %s", name, r.Method, r.RequestURI)
	})
}

func TestTheMostSpecificRouteAnswers(t *testing.T) {
	e := startFile(t, `
sites:
  - hosts: [localhost]
    hsts: {max_age: 1h, include_subdomains: true}
    headers: {response: {remove: [server], set: {X-Site: "{host}"}}}
    routes:
      - {to: %[1]q}
      - {path: /api, to: %[2]q, strip_prefix: true, host: upstream, headers: {request: {set: {X-Added: "{client_ip} {method} {path}"}}}}
      - {path: /api/v1/, to: %[2]q, replace_prefix: /v2, host: app.internal}
      - {exact: /api/exact, respond: {status: 418, body: "I am exact\n"}}
      - {path: /write, methods: [POST, PUT], to: %[1]q}
      - {path: /old, redirect: {to: "https://new.example{uri}", status: 301}}
      - {path: /admin, deny: [127.0.0.1], to: %[1]q}
`, named(t, "root"), named(t, "api"))
	for name, client := range e.clients(t) {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		for _, c := range []struct {
			method, path string
			status       int
			body         string
		}{
			{"GET", "/", 200, "root GET /"},
			{"GET", "/x?y=/api", 200, "root GET /x?y=/api"},
			{"GET", "/api", 200, "api GET /"},
			{"GET", "/api/x%20y?z=%2F", 200, "api GET /x%20y?z=%2F"},
			{"GET", "/api/x%2Fy?z", 400, "400"},
			{"GET", "/apix", 200, "root GET /apix"},
			{"GET", "/api/v1/a/", 200, "api GET /v2/a/"},
			{"GET", "/api/exact", 418, "I am exact\n"},
			{"GET", "/api/exact/", 200, "api GET /exact/"},
			{"POST", "/write", 200, "root POST /write"},
			{"DELETE", "/write/x", 200, "root DELETE /write/x"},
			{"GET", "/old/page?q=1", 301, ""},
			{"GET", "/admin", 403, "403"},
			{"GET", "/%61dmin", 403, "403"},
			{"GET", "//admin/", 400, "400"},
			{"GET", "/x/..%2fadmin", 400, "400"},
			{"GET", "/x/../admin/y", 400, "400"},
			{"GET", "/administrator", 200, "root GET /administrator"},
		} {
			request, _ := http.NewRequest(c.method, "https://localhost/", nil)
			request.URL.Opaque = "//localhost" + c.path
			request.Header.Set("Accept", "text/plain")
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(response.Body)
			response.Body.Close()
			if response.StatusCode != c.status || !strings.HasPrefix(string(body), c.body) {
				t.Errorf("%s: %s %s gave %d %q, not %d %q", name, c.method, c.path, response.StatusCode, body, c.status, c.body)
			}
			if got := response.Header; got.Get("Strict-Transport-Security") != "max-age=3600; includeSubDomains" || got.Get("X-Site") != "localhost" || got.Get("Server") != "" {
				t.Errorf("%s: %s: %v", name, c.path, got)
			}
			switch c.path {
			case "/old/page?q=1":
				if got := response.Header.Get("Location"); got != "https://new.example/old/page?q=1" {
					t.Errorf("%s: %s", name, got)
				}
			case "/api":
				if got := response.Header.Get("X-Seen-Host"); !strings.HasPrefix(got, "127.0.0.1:") {
					t.Errorf("%s: %s", name, got)
				}
				if got := response.Header.Get("X-Seen-Added"); got != "127.0.0.1 GET /api" {
					t.Errorf("%s: %s", name, got)
				}
			case "/api/v1/a/":
				if got := response.Header.Get("X-Seen-Host"); got != "app.internal" {
					t.Errorf("%s: %s", name, got)
				}
			}
		}
	}
}

func TestAMethodWithoutARouteIs405AndAPathWithoutOneIs404(t *testing.T) {
	e := startFile(t, "sites: [{hosts: [localhost], routes: [{path: /write, methods: [POST, PUT], to: %q}]}]", named(t, "x"))
	for name, client := range e.clients(t) {
		if response, _ := fetch(t, client, "GET", "https://localhost/write"); response.StatusCode != 405 || response.Header.Get("Allow") != "POST, PUT" {
			t.Errorf("%s: %v", name, response)
		}
		response, body := fetch(t, client, "GET", "https://localhost/", "Accept", "application/json")
		if response.StatusCode != 404 || !strings.Contains(body, `"status":404`) || !strings.Contains(body, `"request_id":"`) || response.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %v %s", name, response, body)
		}
	}
}

func TestNamesAndPasswordsAreAskedFor(t *testing.T) {
	seen := make(chan http.Header, 10)
	to := backend(t, func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header })
	e := startFile(t, `
sites:
  - hosts: [localhost]
    basic_auth: {realm: staff, users: {ada: "$2a$04$KYup3lVXzUDlOk1i9ZPHY.fld31xOWi/8HPaekpAGH0qKgqCyI.ea"}}
    routes: [{to: %q}]
`, to)
	client := e.clients(t)["h1"]
	for range 2 { // the second time from memory
		request, _ := http.NewRequest("GET", "https://localhost/", nil)
		request.SetBasicAuth("ada", "lovelace")
		request.Header.Set("X-Forwarded-User", "root")
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != 200 {
			t.Fatal(response.Status)
		}
		if h := <-seen; h.Get("X-Forwarded-User") != "ada" || len(h["X-Forwarded-User"]) != 1 || h.Get("Authorization") != "" {
			t.Error(h)
		}
	}
	for _, c := range []struct{ user, password string }{{"ada", "wrong"}, {"bob", "lovelace"}, {"", ""}} {
		request, _ := http.NewRequest("GET", "https://localhost/", nil)
		request.SetBasicAuth(c.user, c.password)
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != 401 || response.Header.Get("WWW-Authenticate") != `Basic realm="staff", charset="UTF-8"` {
			t.Errorf("%v: %v", c, response)
		}
	}
}

func TestContentBeyondTheLimitIs413(t *testing.T) {
	to := backend(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	e := startFile(t, "sites: [{hosts: [localhost], routes: [{body_limit: 1KiB, to: %q}]}]", to)
	for name, client := range e.clients(t) {
		for _, known := range []bool{true, false} {
			for size, want := range map[int]int{1024: 200, 1025: 413, 100_000: 413} {
				var body io.Reader = strings.NewReader(strings.Repeat("x", size))
				if !known {
					body = io.MultiReader(body)
				}
				response, err := client.Post("https://localhost/", "text/plain", body)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					continue
				}
				response.Body.Close()
				if response.StatusCode != want {
					t.Errorf("%s: %d bytes, known %v: %d", name, size, known, response.StatusCode)
				}
			}
		}
	}
}

func TestOneDeadTargetOfThreeIsNoticedByNobody(t *testing.T) {
	const dead = "127.0.0.1:1" // where nothing listens
	for _, balance := range []string{"round_robin", "least_conn", "random", "hash"} {
		e := startFile(t, "sites: [{hosts: [localhost], routes: [{to: [%q, %q, %q], balance: %s}]}]", named(t, "a"), dead, named(t, "b"), balance)
		client := e.clients(t)["h1"]
		seen := map[string]int{}
		for i := range 60 {
			response, body := fetch(t, client, []string{"GET", "POST"}[i%2], "https://localhost/")
			if response.StatusCode != 200 {
				t.Fatalf("%s: %d", balance, response.StatusCode)
			}
			seen[body[:1]]++
		}
		if balance == "hash" && len(seen) != 1 || balance != "hash" && (seen["a"] < 10 || seen["b"] < 10) {
			t.Errorf("%s: %v", balance, seen)
		}
	}
}

func TestACookieKeepsAClientAtItsTarget(t *testing.T) {
	e := startFile(t, "sites: [{hosts: [localhost], routes: [{to: [%q, %q, %q], sticky: at}]}]", named(t, "a"), named(t, "b"), named(t, "c"))
	client := e.clients(t)["h2"]
	response, first := fetch(t, client, "GET", "https://localhost/")
	cookie := response.Header.Get("Set-Cookie")
	if !strings.HasPrefix(cookie, "at=") || strings.Contains(cookie, "127.") {
		t.Fatal(cookie)
	}
	for range 20 {
		response, body := fetch(t, client, "GET", "https://localhost/", "Cookie", "x=y; "+strings.SplitN(cookie, ";", 2)[0])
		if body[:1] != first[:1] || response.Header.Get("Set-Cookie") != "" {
			t.Errorf("%s instead of %s, %v", body, first, response.Header)
		}
	}
}

// With a buffer, a target is asked when the content is there, and is free when it has answered; larger content passes all the same.
func TestContentIsBuffered(t *testing.T) {
	t.Parallel()
	began := make(chan time.Time, 16)
	freed := make(chan time.Time, 16)
	app := backend(t, func(w http.ResponseWriter, r *http.Request) {
		began <- time.Now()
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Trailer", "X-Sum")
		n, _ := io.Copy(w, r.Body)
		w.Header().Set("X-Sum", fmt.Sprint(n))
		freed <- time.Now()
	})
	e := startFile(t, `
sites: [{hosts: [localhost], routes: [{to: %q, buffer: {request: 100KiB, response: 100KiB}}]}]
`, app)
	for name, client := range e.clients(t) {
		for _, size := range []int{0, 5, 50 << 10, 100 << 10, 300 << 10} {
			reader, writer := io.Pipe()
			sent := strings.Repeat("x", size)
			var last time.Time
			go func() {
				_, _ = io.WriteString(writer, sent[:size/2])
				time.Sleep(200 * time.Millisecond)
				last = time.Now()
				_, _ = io.WriteString(writer, sent[size/2:])
				writer.Close()
			}()
			response, err := client.Post("https://localhost/", "text/plain", reader)
			if err != nil {
				t.Fatalf("%s, %d bytes: %v", name, size, err)
			}
			got, err := io.ReadAll(response.Body)
			response.Body.Close()
			if err != nil || string(got) != sent || response.Trailer.Get("X-Sum") != fmt.Sprint(size) {
				t.Errorf("%s: %d bytes of %d came back, trailers %v, %v", name, len(got), size, response.Trailer, err)
			}
			if asked := <-began; size < 100<<10 && asked.Before(last) {
				t.Errorf("%s, %d bytes: the target was asked before the content was there", name, size)
			}
			<-freed
		}
	}
}

// An answer that comes before the request's content does not wait for it where answers are buffered: its client may wait for the answer.
func TestAnEarlyAnswerIsNotBufferedUntilTheContentHasCome(t *testing.T) {
	t.Parallel()
	ended := make(chan time.Time, 1)
	target := serveTCP(t, func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = io.WriteString(c, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
		_, _ = io.Copy(io.Discard, c)
		ended <- time.Now()
	})
	e := startFile(t, "sites: [{hosts: [localhost], routes: [{to: %q, buffer: {response: 100KiB}}]}]", target)
	for _, framing := range []string{"Content-Length: 100000\r\n\r\nthe beginning", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"} {
		conn := e.raw(t)
		_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: localhost\r\n"+framing)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(response.Body)
		answered := time.Now()
		if response.StatusCode != 401 || string(content) != "no" || err != nil {
			t.Errorf("%s %q %v", response.Status, content, err)
		}
		if end := <-ended; end.Before(answered) {
			t.Errorf("%q: the answer came %s after the target was given up", framing, answered.Sub(end))
		}
	}
}
