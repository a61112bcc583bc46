package proxy_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// faulty answers with the status of its path.
func faulty(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Target", "secret")
	w.Header().Set("Access-Control-Allow-Origin", "https://other.test")
	w.Header().Set("Retry-After", "17")
	switch r.URL.Path {
	case "/404":
		http.Error(w, "the target's 404", 404)
	case "/500":
		http.Error(w, "the target's 500: a stack trace", 500)
	case "/503":
		w.WriteHeader(503)
		_, _ = io.WriteString(w, strings.Repeat("long ", 1<<20))
	case "/endless":
		w.WriteHeader(502)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	case "/ntlm":
		w.Header().Set("WWW-Authenticate", "NTLM")
		w.WriteHeader(401)
	case "/401":
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(401)
	default:
		_, _ = io.WriteString(w, "fine")
	}
}

// Pages of a site stand for the error responses that intercept names, over every protocol; whoever reads a response
// otherwise than as a page gets the target's.
func TestInterceptReplacesResponsesOfTargets(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{"failed.html": "<h1>own failed</h1>", "login.html": "<h1>own login</h1>"})
	target := backend(t, faulty)
	e := startFile(t, `
sites:
  - hosts: [localhost]
    errors: {5xx: %q, 401: %q}
    intercept: [5xx, 401]
    routes:
      - {to: %q}
      - {path: /buffered, strip_prefix: true, buffer: {response: 1MiB}, compress: true, to: %[3]q}
`, filepath.Join(dir, "failed.html"), filepath.Join(dir, "login.html"), target)

	for name, client := range e.everyClient(t) {
		for _, c := range []struct {
			method, path string
			fields       []string
			status       int
			want         string
		}{
			{"GET", "/500", nil, 500, "own failed"}, {"GET", "/503", nil, 503, "own failed"}, {"GET", "/endless", nil, 502, "own failed"},
			{"GET", "/buffered/500", nil, 500, "own failed"}, {"POST", "/500", nil, 500, "own failed"}, {"GET", "/401", nil, 401, "own login"},
			{"GET", "/404", nil, 404, "the target's 404"}, {"GET", "/", nil, 200, "fine"},
			{"GET", "/500", []string{"Accept", "application/json"}, 500, `"status":500`},
			{"GET", "/500", []string{"Range", "bytes=0-3"}, 500, "the target's 500"},
			{"POST", "/500", []string{"Content-Type", "application/grpc"}, 500, "the target's 500"},
		} {
			response, body := fetch(t, client, c.method, "https://localhost"+c.path, c.fields...)
			if response.StatusCode != c.status || !strings.Contains(body, c.want) {
				t.Errorf("%s: %s %s %v: %s %.80q", name, c.method, c.path, c.fields, response.Status, body)
			}
			if strings.Contains(body, "own") && (response.Header.Get("X-Target") != "" || response.Header.Get("Access-Control-Allow-Origin") == "" || response.Header.Get("Retry-After") != "17") {
				t.Errorf("%s: %s: %v", name, c.path, response.Header)
			}
		}

		response, _ := fetch(t, client, "HEAD", "https://localhost/500")
		if response.StatusCode != 500 || response.ContentLength != int64(len("<h1>own failed</h1>")) {
			t.Errorf("%s: HEAD: %s, %d", name, response.Status, response.ContentLength)
		}
		if response, _ := fetch(t, client, "GET", "https://localhost/401"); response.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: a client cannot know how to sign in", name)
		}
	}
}

// A page that a target has is fetched once for many, whether the error is padlock's or another target's, is the last one
// while it cannot be had, and padlock's own where it never could. Nothing of the client's request is in the request for it.
func TestErrorPagesOfATarget(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	var seen atomic.Pointer[http.Request]
	pages := backend(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		seen.Store(r.Clone(t.Context()))
		switch r.URL.Path {
		case "/pages/404.html":
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<h1>fetched "+r.URL.Query().Get("s")+"</h1>")
		case "/pages/429.html":
			_, _ = io.WriteString(w, strings.Repeat("x", 2<<20))
		default:
			http.NotFound(w, r)
		}
	})
	e := startFile(t, `
sites:
  - hosts: [localhost]
    errors: {4xx: "%[1]s/pages/{status}.html?s={status}", 502: "http://127.0.0.1:1/{status}.html"}
    routes:
      - {path: /down, to: "http://127.0.0.1:1"}
      - {path: /denied, deny: [127.0.0.1, "::1"], to: "http://127.0.0.1:1"}
      - {path: /limited, respond: {status: 200}, rate_limit: {requests: 1, per: 1h}}
  - hosts: [failing.test]
    errors: {5xx: "%[1]s/pages/404.html?s={status}"}
    intercept: [5xx]
    routes:
      - {to: "http://127.0.0.1:1"}
      - {path: /500, to: %[2]q}
`, pages, backend(t, faulty))

	for name, client := range e.everyClient(t) {
		fetch(t, client, "GET", "https://localhost/limited")
		for range 3 {
			response, body := fetch(t, client, "GET", "https://localhost/nothing", "Cookie", "session=secret", "Authorization", "Bearer secret")
			if response.StatusCode != 404 || body != "<h1>fetched 404</h1>" || response.Header.Get("Content-Type") != "text/html" {
				t.Errorf("%s: %s %q", name, response.Status, body)
			}
		}
		// Those that are too large, are not there, or cannot be reached.
		for path, want := range map[string]string{"/limited": "429 Too Many Requests", "/denied": "403 Forbidden", "/down": "502 Bad Gateway"} {
			if _, body := fetch(t, client, "GET", "https://localhost"+path); !strings.Contains(body, want) {
				t.Errorf("%s: %s: %.200q", name, path, body)
			}
		}
		for path, want := range map[string]string{"/": "<h1>fetched 502</h1>", "/500": "<h1>fetched 500</h1>"} {
			if response, body := fetch(t, client, "GET", "https://failing.test"+path); body != want {
				t.Errorf("%s: %s: %s %.200q", name, path, response.Status, body)
			}
		}
	}

	if n := asked.Load(); n > 20 {
		t.Errorf("the pages' target was asked %d times", n)
	}
	if r := seen.Load(); r.Header.Get("Cookie")+r.Header.Get("Authorization") != "" || strings.Contains(r.URL.String(), "nothing") {
		t.Errorf("%v", r.Header)
	}
}

// Pages that padlock itself is to answer, by whatever way, do not go in a circle: whether or not the request was on its
// way to a target, nobody waits for a page of the page's own error.
func TestErrorPagesDoNotGoInACircle(t *testing.T) {
	t.Parallel()
	var plain atomic.Pointer[string]
	back := backend(t, func(w http.ResponseWriter, r *http.Request) {
		request, _ := http.NewRequestWithContext(r.Context(), "GET", "http://"+*plain.Load()+r.URL.Path, nil)
		request.Header.Set("CDN-Loop", r.Header.Get("CDN-Loop"))
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			w.WriteHeader(418)
			return
		}
		response.Body.Close()
		w.WriteHeader(response.StatusCode)
	})
	e := startFile(t, `
listen: {http: ["127.0.0.1:0"]}
sites:
  - hosts: ["*"]
    http: serve
    errors: {4xx: "%[1]s/missing", 5xx: "%[1]s/down"}
    routes: [{path: /down, to: "http://127.0.0.1:1"}]
`, back)
	plain.Store(&e.plain)
	for name, client := range e.everyClient(t) {
		for path, want := range map[string]string{"/missing": "404 Not Found", "/down": "502 Bad Gateway"} {
			if _, body := fetch(t, client, "GET", "https://localhost"+path, "CDN-Loop", "another"); !strings.Contains(body, want) {
				t.Errorf("%s: %s: %.100q", name, path, body)
			}
		}
	}
	for _, status := range []string{"404", "502"} {
		if want := "the target answers with status " + status; !strings.Contains(e.log.String(), want) {
			t.Errorf("the log does not say %q: %s", want, &e.log)
		}
	}
}

// While a site is in maintenance its visitors get 503 over every protocol, but for the addresses and paths that are
// served all the same, for which all other rules hold.
func TestMaintenanceAnswersForTheSite(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{"failed.html": "own failed", "closed.html": "own closed"})
	target := backend(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "served") })
	e := startFile(t, `
trusted_proxies: [127.0.0.0/8]
sites:
  - hosts: [localhost]
    maintenance: {on: true, page: %q, allow: [192.0.2.0/24], paths: [/up, /denied], until: "2999-01-01T00:00:00Z"}
    routes:
      - {to: %q}
      - {path: /denied, deny: [198.51.100.1], to: %[2]q}
  - hosts: [message.test]
    maintenance: {on: true, message: "Back at six."}
    errors: {503: %[3]q}
    routes: [{to: %[2]q}]
  - hosts: [site.test]
    maintenance: true
    errors: {503: %[3]q}
    routes: [{to: %[2]q}]
  - hosts: [over.test]
    maintenance: {on: true, until: "2020-01-01T00:00:00Z"}
    routes: [{to: %[2]q}]
  - hosts: [off.test]
    maintenance: {paths: [/up]}
    routes: [{to: %[2]q}]
`, filepath.Join(dir, "closed.html"), target, filepath.Join(dir, "failed.html"))

	for name, client := range e.everyClient(t) {
		for _, c := range []struct {
			url, from string
			status    int
			want      string
		}{
			{"https://localhost/", "198.51.100.1", 503, "own closed"}, {"https://localhost/nothing", "198.51.100.1", 503, "own closed"},
			{"https://localhost/", "192.0.2.7", 200, "served"}, {"https://localhost/up", "198.51.100.1", 200, "served"}, {"https://localhost/up/x", "198.51.100.1", 503, "own closed"},
			{"https://localhost/denied", "198.51.100.1", 403, ""}, {"https://message.test/", "198.51.100.1", 503, "Back at six.<"},
			{"https://site.test/", "198.51.100.1", 503, "own failed"}, {"https://over.test/", "198.51.100.1", 200, "served"}, {"https://off.test/", "198.51.100.1", 200, "served"},
		} {
			response, body := fetch(t, client, "GET", c.url, "X-Forwarded-For", c.from)
			if response.StatusCode != c.status || !strings.Contains(body, c.want) || (response.StatusCode == 503) != (response.Header.Get("Retry-After") != "") {
				t.Errorf("%s: %s from %s: %s %.300q %v", name, c.url, c.from, response.Status, body, response.Header)
			}
		}
	}
}

// The answer to HEAD is that to GET without its content, whatever stands between; the target's connection is used again,
// although its response has a length and no content.
func TestInterceptWithHEAD(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{"failed.html": "<h1>own failed</h1>"})
	var connections atomic.Int64
	target := httptest.NewUnstartedServer(http.HandlerFunc(faulty))
	target.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	target.Start()
	t.Cleanup(target.Close)
	pages := backend(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "<h1>fetched</h1>") })
	e := startFile(t, `
sites:
  - hosts: [localhost]
    errors: {500: %q, 404: %q}
    intercept: [500, 404]
    routes:
      - {to: %q}
      - {path: /buffered, strip_prefix: true, buffer: {response: 1MiB}, compress: {min: 1}, to: %[3]q}
      - {path: /h2, strip_prefix: true, to: %[4]q}
`, filepath.Join(dir, "failed.html"), pages, target.URL, h2cBackend(t, faulty))

	for name, client := range e.everyClient(t) {
		for _, prefix := range []string{"", "/buffered", "/h2"} {
			for path, status := range map[string]int{"/500": 500, "/404": 404} {
				whole, content := fetch(t, client, "GET", "https://localhost"+prefix+path)
				for range 5 {
					response, body := fetch(t, client, "HEAD", "https://localhost"+prefix+path)
					if response.StatusCode != status || body != "" || response.ContentLength != int64(len(content)) || response.Header.Get("Content-Type") != whole.Header.Get("Content-Type") || response.Header.Get("X-Target") != "" {
						t.Errorf("%s: HEAD %s%s: %s, %d, %v; GET: %d, %v", name, prefix, path, response.Status, response.ContentLength, response.Header, len(content), whole.Header)
					}
				}
			}
		}
	}
	if n := connections.Load(); n > 8 {
		t.Errorf("%d connections to the target", n)
	}
}
