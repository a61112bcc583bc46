package proxy_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A site's own pages stand for padlock's errors, for clients that look at pages, over every protocol; what a target answers stays as it is, and a
// page that changes is served as it is now.
func TestASiteHasErrorPagesOfItsOwn(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{"missing.html": "<h1>own missing</h1>", "failed.html": "<h1>own failed</h1>"})
	target := backend(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "the target's", 404) })
	e := startFile(t, `
sites:
  - hosts: [localhost]
    errors: {404: %q, 5xx: %q}
    routes:
      - {path: /app, to: %q}
      - {path: /down, to: "http://127.0.0.1:1"}
      - {path: /limited, respond: {status: 200}, rate_limit: {requests: 1, per: 1h}}
      - {path: /files, files: {root: %q}}
`, filepath.Join(dir, "missing.html"), filepath.Join(dir, "failed.html"), target, dir)
	for name, client := range e.everyClient(t) {
		fetch(t, client, "GET", "https://localhost/limited")
		for _, c := range []struct {
			path, accept string
			status       int
			body         string
		}{
			{"/nothing", "text/html", 404, "own missing"}, {"/files/nothing", "", 404, "own missing"}, {"/down", "text/html,*/*", 502, "own failed"},
			{"/app", "text/html", 404, "the target's"}, {"/nothing", "application/json", 404, `"status":404`}, {"/nothing", "text/plain", 404, "404 Not Found"},
			{"/limited", "text/html", 429, "Too Many Requests"},
		} {
			response, body := fetch(t, client, "GET", "https://localhost"+c.path, "Accept", c.accept)
			if response.StatusCode != c.status || !strings.Contains(body, c.body) {
				t.Errorf("%s: %s (%s): %s %.200s", name, c.path, c.accept, response.Status, body)
			}
		}
		if response, body := fetch(t, client, "HEAD", "https://localhost/nothing"); response.StatusCode != 404 || body != "" || response.ContentLength != int64(len("<h1>own missing</h1>")) {
			t.Errorf("%s: HEAD: %s, %d, %q", name, response.Status, response.ContentLength, body)
		}
	}

	var client *http.Client
	for _, client = range e.everyClient(t) {
		break
	}
	if err := os.WriteFile(filepath.Join(dir, "missing.html"), []byte("another"), 0o644); err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if _, body := fetch(t, client, "GET", "https://localhost/nothing"); body == "another" {
			return
		} else if time.Now().After(limit) {
			t.Fatal(body)
		}
	}
}
