package launch

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

func TestAFolderServesItsFilesAndNothingElse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dist")
	write(t, dir, map[string]string{
		"index.html": "home", "a.js": "let a = 1", "a.js.br": "brotli", "a.js.gz": "gzip", "docs/index.html": "docs", ".env": "secret", ".git/config": "secret",
		".well-known/x": "well-known", "../outside": "secret",
	})
	if err := os.Symlink("../outside", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a.js", filepath.Join(dir, "within.js")); err != nil {
		t.Fatal(err)
	}
	for _, spa := range []bool{false, true} {
		f, err := ServeFolder(dir, spa)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		missing, route := 404, 404
		if spa {
			route = 200
		}
		for _, c := range []struct {
			path, accept, ranges string
			status               int
			body                 string
		}{
			{path: "/", status: 200, body: "home"}, {path: "/docs/", status: 200, body: "docs"}, {path: "/docs", status: 301},
			{path: "/a.js", status: 200, body: "let a = 1"}, {path: "/a.js", ranges: "bytes=4-4", status: 206, body: "a"},
			{path: "/a.js", accept: "gzip, br", status: 200, body: "brotli"}, {path: "/a.js", accept: "gzip", status: 200, body: "gzip"},
			{path: "/a.js", accept: "br;q=0, gzip;q=0.5", status: 200, body: "gzip"},
			{path: "/within.js", status: 200, body: "let a = 1"}, {path: "/.well-known/x", status: 200, body: "well-known"},
			{path: "/link", status: 404}, {path: "/.env", status: 404}, {path: "/.git/config", status: 404}, {path: "/x/../.env", status: 404},
			{path: "/../outside", status: missing}, {path: "/%2e%2e/outside", status: missing}, {path: "/..%2foutside", status: missing},
			{path: "/missing.js", status: missing}, {path: "/orders/7", status: route},
		} {
			request, err := http.NewRequest("GET", fmt.Sprintf("http://127.0.0.1:%d", f.Port()), nil)
			if err != nil {
				t.Fatal(err)
			}
			request.URL.Opaque = c.path
			request.Header.Set("Accept-Encoding", c.accept)
			if c.ranges != "" {
				request.Header.Set("Range", c.ranges)
			}
			response, err := http.DefaultTransport.RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(response.Body)
			response.Body.Close()
			status := c.status
			if spa && status == 404 && (c.path == "/../outside" || c.path == "/%2e%2e/outside" || c.path == "/..%2foutside") {
				status = 200 // the page, as for any path without a file
			}
			if response.StatusCode != status || c.body != "" && string(body) != c.body || string(body) == "secret" {
				t.Errorf("spa %v, %s (%s): %s %q", spa, c.path, c.accept, response.Status, body)
			}
		}
	}
}
