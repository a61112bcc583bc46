package proxy_test

import (
	"bytes"
	"crypto/sha256"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Over every protocol, below a prefix and beside a target: what is routed to the files gets the files, with the rules of the site.
func TestARouteServesFiles(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	dir := folder(t, map[string]string{"index.html": "home", "app/index.html": "app", "app/a b.js": "let a", "large": large, "app/a b.js.gz": "gzip"})
	target := backend(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "target") })
	e := startFile(t, `
sites:
  - hosts: [localhost]
    headers: {response: {set: {X-Rule: yes}}}
    routes:
      - {path: /static, strip_prefix: true, files: {root: %q, cache_control: max-age=60, listing: true}}
      - {path: /app, files: {root: %[1]q, spa: true, precompressed: []}}
      - {path: /api, to: %q}
`, dir, target)
	for name, client := range e.everyClient(t) {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		for _, c := range []struct {
			method, path string
			fields       []string
			status       int
			body         string
		}{
			{"GET", "/static/", nil, 200, "home"}, {"GET", "/static", nil, 301, ""}, {"GET", "/static/app/", nil, 200, "app"}, {"GET", "/static/app", nil, 301, ""},
			{"GET", "/static/app/a%20b.js?v=1", nil, 200, "let a"}, {"HEAD", "/static/large", nil, 200, ""}, {"GET", "/static/large", nil, 200, large},
			{"GET", "/static/large", []string{"Range", "bytes=16-31"}, 206, "0123456789abcdef"}, {"POST", "/static/large", nil, 405, ""}, {"OPTIONS", "/static/", nil, 405, ""},
			{"GET", "/static/app/a%20b.js", []string{"Accept-Encoding", "gzip"}, 200, "gzip"}, {"GET", "/static/nothing", nil, 404, ""},
			{"GET", "/app/", nil, 200, "app"}, {"GET", "/app/deep/link", nil, 200, "home"}, {"GET", "/app/missing.js", nil, 404, ""},
			{"GET", "/app/a%20b.js", []string{"Accept-Encoding", "gzip"}, 200, "let a"}, {"GET", "/api", nil, 200, "target"}, {"GET", "/other", nil, 404, ""},
		} {
			fields := c.fields
			if len(fields) == 0 {
				fields = []string{"Accept-Encoding", "identity"}
			}
			response, body := fetch(t, client, c.method, "https://localhost"+c.path, fields...)
			if response.StatusCode != c.status || c.body != "" && sha256.Sum256([]byte(body)) != sha256.Sum256([]byte(c.body)) {
				t.Errorf("%s: %s %s %v: %s, %d bytes: %.60q", name, c.method, c.path, c.fields, response.Status, len(body), body)
			}
			if c.status < 300 && response.Header.Get("X-Rule") != "yes" {
				t.Errorf("%s: %s: the site's rules do not hold: %v", name, c.path, response.Header)
			}
		}
		// With a slash at the end, relative links of a page lead to what is beside it.
		for path, want := range map[string]string{"/static/app?x=1": "./app/?x=1", "/static?x=1": "./static/?x=1", "/static": "./static/", "/%73tatic": "./static/"} {
			response, _ := fetch(t, client, "GET", "https://localhost"+path)
			if location := response.Header.Get("Location"); location != want {
				t.Errorf("%s: %s leads to %s", name, path, location)
			}
		}
	}
}

// A link leads where the rules of its own path hold, and nowhere else: not from an open part into one with a password,
// whether it is a file, a directory, an index or a form of a file in a coding, nor from a prefix that is taken off.
func TestALinkAmongFilesLeadsAroundNoRule(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{
		"private/a.txt": "secret", "private/index.html": "secret", "private/b.txt.gz": "secret", "open/b.txt": "b", "open/real.txt": "real",
		"..2026/config.txt": "config", "open/deep/c.txt": "c",
	})
	for link, to := range map[string]string{
		"open/a.txt": "../private/a.txt", "open/dir": "../private", "open/index.html": "../private/index.html", "open/b.txt.gz": "../private/b.txt.gz",
		"open/again": "a.txt", "open/inner": "deep", "open/one.txt": "real.txt", "..data": "..2026", "config.txt": "..data/config.txt",
		"private/out.txt": "../open/real.txt",
	} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	hash, err := bcrypt.GenerateFromPassword([]byte("pw"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	e := startFile(t, `
sites:
  - hosts: [localhost]
    routes:
      - {path: /private, basic_auth: {users: {ann: %q}}, files: {root: %q, listing: true}}
      - {path: /, files: {root: %[2]q, listing: true}}
      - {path: /x/private, deny: [127.0.0.1, "::1"], respond: {body: never}}
      - {path: /x, strip_prefix: true, files: {root: %[2]q, listing: true}}
`, string(hash), dir)

	for name, client := range e.everyClient(t) {
		for path, want := range map[string]string{
			"/open/a.txt": "", "/open/dir/a.txt": "", "/open/dir/": "", "/open/again": "", "/x/open/a.txt": "", "/x/open/dir/a.txt": "", "/x/private/a.txt": "",
			"/open/inner/c.txt": "c", "/open/one.txt": "real", "/config.txt": "config", "/open/b.txt": "b", "/x/open/one.txt": "real", "/x/config.txt": "config",
		} {
			response, body := fetch(t, client, "GET", "https://localhost"+path, "Accept-Encoding", "gzip")
			if strings.Contains(body, "secret") || want == "" && response.StatusCode < 400 || want != "" && body != want {
				t.Errorf("%s: %s: %s: %.80q", name, path, response.Status, body)
			}
		}

		_, body := fetch(t, client, "GET", "https://localhost/open/")
		if strings.Contains(body, "secret") || strings.Contains(body, "dir/") {
			t.Errorf("%s: what may not be followed is listed: %s", name, body)
		}
	}
}

// What has led out of the directory, or around a rule, in Apache (CVE-2021-41773, CVE-2021-42013), in nginx's alias without a slash, in
// Caddy and on Windows, leads nowhere, in every way that paths are treated.
func TestNoPathLeadsOutOfTheFiles(t *testing.T) {
	t.Parallel()
	base := folder(t, map[string]string{
		"site/files/index.html": "home", "site/files/private/x": "secret", "site/files-backup/x": "secret", "site/outside": "secret", "outside": "secret", "site/files/.git/config": "secret",
	})
	if err := os.Symlink("../../outside", filepath.Join(base, "site", "files", "link")); err != nil {
		t.Fatal(err)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte("password"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"raw", "normalize", "strict"} {
		for _, strip := range []string{"true", "false"} {
			e := startFile(t, `
sites:
  - hosts: [localhost]
    paths: %s
    ignore_case: true
    routes:
      - {path: /files, strip_prefix: %s, files: {root: %q, listing: true}}
      - {path: /files/private, strip_prefix: %[2]s, basic_auth: {users: {ada: %[4]q}}, files: {root: %[3]q}}
`, mode, strip, filepath.Join(base, "site", map[string]string{"true": "files"}[strip]), hash)
			for _, path := range []string{
				"/files/../outside", "/files/%2e%2e/outside", "/files/.%2e/%2e%2e/outside", "/files/.%%32%65/.%%32%65/outside", "/files../outside", "/files..%2foutside",
				"/files/..%2foutside", "/files/..%5coutside", `/files/..\outside`, "/files/%252e%252e/outside", "/files//../outside", "/files/%c0%ae%c0%ae/outside",
				"/files/..;/outside", "/files/link", "/files-backup/x", "/files/../files-backup/x", "/files/%2e%2e/files-backup/x", "/files/.git/config", "/files/%2egit/config",
				"/files/index.html%00.js", "/files/x/../private/x", "/files/%70rivate/x", "/files//private/x", "/FILES/PRIVATE/x", "/files/private%2fx", "/files/./private/./x",
				"/files/private/../private/x", "//files/private/x", "/files/%2e/private/x", "/files/" + strings.Repeat("a/../", 500) + "private/x",
			} {
				body, err := io.ReadAll(e.one(t, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
				if err != nil || !bytes.HasPrefix(body, []byte("HTTP/1.1 ")) || bytes.Contains(body, []byte("secret")) {
					t.Errorf("%s, strip_prefix %s: %.60s: %s", mode, strip, path, body)
				}
			}
		}
	}
}
