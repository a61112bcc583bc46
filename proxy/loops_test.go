package proxy_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// A target that sends requests back to padlock under the same name does not use up the machine: the client soon gets
// 508. A target that forwards to another site of the same padlock is none, nor is a client that names other proxies.
func TestARequestThatGoesInACircleIsEnded(t *testing.T) {
	t.Parallel()
	var to atomic.Pointer[httputil.ReverseProxy]
	var asked atomic.Int32
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if strings.HasPrefix(r.URL.Path, "/sibling") {
			r.Host = "other.localhost"
		}
		to.Load().ServeHTTP(w, r)
	}))
	defer app.Close()
	end := echoFields(t)
	e := startFile(t, `
sites:
  - hosts: [localhost]
    routes: [{to: %q}]
  - hosts: [other.localhost]
    routes: [{to: %q}]
`, app.URL, end)

	for name, client := range e.everyClient(t) {
		back := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "https", Host: "localhost"})
		back.Transport = client.Transport
		to.Store(back)

		asked.Store(0)
		response, err := client.Get("https://localhost/")
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if n := asked.Load(); response.StatusCode != 508 || n > 10 || !strings.Contains(string(text), "changeOrigin") || !strings.Contains(string(text), "localhost") {
			t.Errorf("%s: %s after %d\n%s", name, response.Status, n, text)
		}

		got := gets(t, client, "localhost", "/sibling", "CDN-Loop", "cloudflare; loops=1", "CDN-Loop", strings.Repeat("padlock-0123456789abcdef, ", 20)+"x")
		if !strings.Contains(got, "Cdn-Loop: cloudflare; loops=1\r\n") || strings.Count(got, "padlock-") != 22 {
			t.Errorf("%s: %s", name, got)
		}
	}
}
