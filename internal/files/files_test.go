//go:build unix

package files

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"padlock/internal/coding"
)

func tree(t *testing.T) string {
	t.Helper()
	base := t.TempDir()
	for name, text := range map[string]string{
		"public/index.html": "home", "public/a.js": "let a = 1", "public/a.js.br": "brotli", "public/a.js.gz": "gzip", "public/b.css": "b{}", "public/b.css.zst": "zstd",
		"public/docs/index.html": "docs", "public/list/x y.txt": "x", "public/list/.hidden": "secret", "public/.env": "secret", "public/.git/config": "secret",
		"public/.well-known/security.txt": "contact", "public/drafts/x": "secret", "public/old.bak": "secret", "public/noext": "<b>text</b>",
		"public/a\\..\\b": "odd", "outside": "secret", "public-other/x": "secret",
	} {
		file := filepath.Join(base, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"out": "../outside", "absolute": filepath.Join(base, "outside"), "up": "..", "within.js": "a.js", "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(base, "public", link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(base, "public", "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(base, "public")
}

// Whoever may write to one part of a directory swaps a file for a link to another part, over and over: no request gets
// what is there.
func TestNoSwapLeadsToOtherRules(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"open/file": "open", "private/file": "secret", "other/file": "open"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f := &Files{Root: dir, SameRules: func(asked, real string) bool {
		return strings.HasPrefix(asked, "private") == strings.HasPrefix(real, "private")
	}}

	stop := make(chan struct{})
	var swapping sync.WaitGroup
	swapping.Go(func() {
		at, next := filepath.Join(dir, "open"), filepath.Join(dir, "next")
		for {
			for _, to := range []string{"private", "other"} {
				select {
				case <-stop:
					return
				default:
				}
				_ = os.Symlink(to, next)
				_ = os.RemoveAll(at)
				_ = os.Rename(next, at)
			}
		}
	})

	seen := 0
	for range 3000 {
		if w := f.Whole("/open/file", nil); w != nil {
			if text, _ := w.body(100); text == "secret" {
				t.Error("a link was followed")
			}
		}
		r := httptest.NewRequest("GET", "/open/file", nil)
		w := httptest.NewRecorder()
		if !f.Serve(w, r) {
			continue
		}
		switch body := w.Body.String(); body {
		case "open":
			seen++
		case "secret":
			t.Error("a link was followed")
		}
	}
	close(stop)
	swapping.Wait()
	if seen == 0 {
		t.Error("no request met the link that may be followed")
	}
}

// Where the kernel has no call for it, links are found by looking at each part.
func TestLinksAreFoundByLooking(t *testing.T) {
	root, err := os.OpenRoot(tree(t))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for name, open := range map[string]bool{"a.js": true, "docs/index.html": true, ".": true, "within.js": false, "out": false, "up/outside": false, "nothing": false} {
		for how, do := range map[string]func(*os.Root, string) (*os.File, error){"compared": openAndCompare, "by the kernel": openWithoutLinks} {
			file, err := do(root, name)
			if (err == nil) != open {
				t.Errorf("%s %s: %v", name, how, err)
			}
			if err == nil {
				file.Close()
			}
		}
	}
}

func (f *Files) get(t *testing.T, path string, fields ...string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequest("GET", "/", nil)
	path, r.URL.RawQuery, _ = strings.Cut(path, "?")
	r.URL.Path = path
	for i := 0; i < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	w := httptest.NewRecorder()
	if !f.Serve(w, r) {
		if len(w.Body.Bytes()) > 0 {
			t.Errorf("%s: something was written, and declined", path)
		}
		w.WriteHeader(404)
	}
	response := w.Result()
	body, _ := io.ReadAll(response.Body)
	return response, string(body)
}

func TestFilesAreServedAndNothingElse(t *testing.T) {
	f := &Files{Root: tree(t), Index: "index.html", Precompressed: coding.All(), Hide: []string{"drafts", "*.bak"}}
	for _, c := range []struct {
		path, accept string
		status       int
		body         string
	}{
		{"/", "", 200, "home"}, {"/index.html", "", 200, "home"}, {"/docs/", "", 200, "docs"}, {"/docs", "", 301, ""}, {"/docs?a=b", "", 301, ""},
		{"/a.js", "", 200, "let a = 1"}, {"/within.js", "", 200, "let a = 1"}, {"/a.js/", "", 404, ""}, {"/list/", "", 404, ""}, {"/noext", "", 200, "<b>text</b>"},
		{"/a.js", "gzip, br", 200, "brotli"}, {"/a.js", "br;q=0, gzip", 200, "gzip"}, {"/a.js", "*", 200, "brotli"}, {"/a.js", "*;q=0", 200, "let a = 1"},
		{"/a.js", "GZIP;Q=0.001", 200, "gzip"}, {"/a.js", "br; q=0.000, *;q=0", 200, "let a = 1"}, {"/a.js", "gzipped", 200, "let a = 1"}, {"/b.css", "zstd", 200, "zstd"},
		{"/.well-known/security.txt", "", 200, "contact"}, {"/missing", "", 404, ""}, {"/docs/missing", "", 404, ""},
		{"/.env", "", 404, ""}, {"/.git/config", "", 404, ""}, {"/list/.hidden", "", 404, ""}, {"/drafts/x", "", 404, ""}, {"/old.bak", "", 404, ""}, {"/a.js.br", "", 200, "brotli"},
		{"/out", "", 404, ""}, {"/absolute", "", 404, ""}, {"/up/outside", "", 404, ""}, {"/loop", "", 404, ""}, {"/fifo", "", 404, ""},
		{"/../outside", "", 404, ""}, {"/docs/../../outside", "", 404, ""}, {"//outside", "", 404, ""}, {"/..\\outside", "", 404, ""}, {"/a\\..\\b", "", 200, "odd"},
		{"/../public-other/x", "", 404, ""}, {"/index.html\x00.js", "", 404, ""}, {"/...", "", 404, ""}, {"/. /", "", 404, ""}, {"/C:/x", "", 404, ""},
		{"/" + strings.Repeat("a", 5000), "", 404, ""}, {"/" + strings.Repeat("a/", 5000), "", 404, ""},
	} {
		response, body := f.get(t, c.path, "Accept-Encoding", c.accept)
		if response.StatusCode != c.status || c.body != "" && body != c.body || strings.Contains(body, "secret") {
			t.Errorf("%.60q (%s): %d %q", c.path, c.accept, response.StatusCode, body)
		}
	}
	if response, _ := f.get(t, "/docs?a=b"); response.Header.Get("Location") != "./docs/?a=b" {
		t.Error(response.Header)
	}
	response, _ := f.get(t, "/a.js", "Accept-Encoding", "br")
	if h := response.Header; h.Get("Content-Encoding") != "br" || h.Get("Content-Length") != "6" || !strings.HasPrefix(h.Get("Content-Type"), "text/javascript") || h.Get("Vary") != "Accept-Encoding" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Error(h)
	}
}

func TestConditionsAndRanges(t *testing.T) {
	f := &Files{Root: tree(t), Precompressed: coding.All(), CacheControl: "max-age=60"}
	response, _ := f.get(t, "/a.js")
	tag, changed := response.Header.Get("Etag"), response.Header.Get("Last-Modified")
	if tag == "" || changed == "" || response.Header.Get("Cache-Control") != "max-age=60" {
		t.Fatal(response.Header)
	}
	encoded, _ := f.get(t, "/a.js", "Accept-Encoding", "br")
	if other := encoded.Header.Get("Etag"); other == tag || other == "" {
		t.Errorf("both forms have the tag %s", other)
	}
	for _, c := range []struct {
		fields []string
		status int
		body   string
	}{
		{[]string{"If-None-Match", tag}, 304, ""}, {[]string{"If-None-Match", `"other"`}, 200, "let a = 1"}, {[]string{"If-Modified-Since", changed}, 304, ""},
		{[]string{"If-Match", `"other"`}, 412, ""}, {[]string{"Range", "bytes=0-2"}, 206, "let"}, {[]string{"Range", "bytes=-1"}, 206, "1"},
		{[]string{"Range", "bytes=0-0", "If-Range", tag}, 206, "l"}, {[]string{"Range", "bytes=0-0", "If-Range", `"other"`}, 200, "let a = 1"},
		{[]string{"Range", "bytes=100-"}, 416, ""}, {[]string{"Range", "bytes=0-2", "Accept-Encoding", "br"}, 206, "bro"},
	} {
		if response, body := f.get(t, "/a.js", c.fields...); response.StatusCode != c.status || c.body != "" && body != c.body {
			t.Errorf("%v: %d %q", c.fields, response.StatusCode, body)
		}
	}
	if response, body := f.get(t, "/a.js", "Range", "bytes=0-0,4-4"); response.StatusCode != 206 || strings.Count(body, "Content-Range") != 2 {
		t.Errorf("two ranges: %d %q", response.StatusCode, body)
	}
}

func TestAnAppWithRoutesInTheBrowser(t *testing.T) {
	f := &Files{Root: tree(t), Index: "index.html", SPA: true}
	for path, want := range map[string]int{"/orders/7": 200, "/list/": 404, "/missing.js": 404, "/.env": 404, "/docs/": 200} {
		if response, body := f.get(t, path); response.StatusCode != want || path == "/orders/7" && body != "home" {
			t.Errorf("%s: %d %q", path, response.StatusCode, body)
		}
	}
}

func TestAListingNamesWhatIsServed(t *testing.T) {
	f := &Files{Root: tree(t), Index: "index.html", Listing: true, Hide: []string{"x*"}}
	if _, body := f.get(t, "/docs/"); body != "docs" {
		t.Error(body)
	}
	if _, body := f.get(t, "/list/"); strings.Contains(body, "hidden") || strings.Contains(body, "x y") {
		t.Error(body)
	}
	f.Hide = nil
	if _, body := f.get(t, "/list/"); !strings.Contains(body, `<a href="./x%20y.txt">x y.txt</a>`) {
		t.Error(body)
	}
	if err := os.WriteFile(filepath.Join(f.Root, "list", `"><script>alert(1)`), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, body := f.get(t, "/list/"); strings.Contains(body, "<script>") {
		t.Error(body)
	}
}

// The directory may be exchanged while it is served, as deployments by a link do it, and may be away.
func TestTheDirectoryMayChange(t *testing.T) {
	base := t.TempDir()
	f := &Files{Root: filepath.Join(base, "current"), Index: "index.html"}
	if response, _ := f.get(t, "/"); response.StatusCode != 500 {
		t.Error(response.StatusCode)
	}
	for _, release := range []string{"one", "two"} {
		dir := filepath.Join(base, release)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte(release), 0o644); err != nil {
			t.Fatal(err)
		}
		next := filepath.Join(base, "next")
		if err := os.Symlink(dir, next); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, f.Root); err != nil {
			t.Fatal(err)
		}
		if _, body := f.get(t, "/"); body != release {
			t.Errorf("%q instead of %q", body, release)
		}
	}
}

// Whatever takes a file's place while it is asked for: no pipe is waited for, and what is told of a file is told of the one that is sent.
func TestAFileMayChangeWhileItIsAskedFor(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	asked, pipe, other := filepath.Join(root, "x"), filepath.Join(root, "pipe"), filepath.Join(root, "other")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Error(err)
		}
	}
	write(asked, "short")

	end := make(chan struct{})
	var swapping sync.WaitGroup
	swapping.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-end:
				return
			default:
			}
			if err := errors.Join(syscall.Mkfifo(pipe, 0o644), os.Rename(pipe, asked)); err != nil {
				t.Error(err)
			}
			write(other, strings.Repeat("long", n%50+1))
			if err := os.Rename(other, asked); err != nil {
				t.Error(err)
			}
		}
	})

	asking := make(chan struct{})
	go func() {
		defer close(asking)
		f := &Files{Root: root, Listing: true}
		for range 50_000 {
			if w := f.Whole("/x", nil); w != nil {
				if text, err := w.body(1000); err != nil || w.Size != int64(len(text)) {
					t.Errorf("%d bytes of %d: %v", len(text), w.Size, err)
					return
				}
			}
			response, body := f.get(t, "/x")
			if tag := response.Header.Get("Etag"); response.StatusCode == 200 && !strings.HasSuffix(tag, fmt.Sprintf("-%x\"", len(body))) {
				t.Errorf("%d bytes with the ETag %s", len(body), tag)
				return
			}
		}
	}()

	select {
	case <-asking:
	case <-time.After(30 * time.Second):
		t.Error("it waits for whoever writes into a pipe")
		close(end)
		swapping.Wait()
		_ = os.Remove(asked)
		return
	}
	close(end)
	swapping.Wait()
}
