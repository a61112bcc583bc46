//go:build unix

package files

import (
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"padlock/internal/coding"
)

// body reads a file to its end in pieces of a size.
func (w *Whole) body(piece int) (string, error) {
	defer w.Close()
	var text strings.Builder
	_, err := io.CopyBuffer(&text, struct{ io.Reader }{w}, make([]byte, piece))
	return text.String(), err
}

// unavailable ends a test of what only Linux has.
func unavailable(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "linux" {
		t.Fatal("the kernel, or the container's filter, has no openat2")
	}
	t.Skip("the system has no call for it")
}

// What is sent without Serve is what Serve would send; what it cannot answer by itself, it leaves to Serve.
func TestWholeIsWhatServeSends(t *testing.T) {
	dir := tree(t)
	linked := filepath.Join(t.TempDir(), "current")
	if err := os.Symlink(dir, linked); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "empty"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(dir, "b.css"), time.Unix(0, 0), time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("b.css", filepath.Join(dir, "b.css.br")); err != nil {
		t.Fatal(err)
	}

	for _, root := range []string{dir, dir + "/", linked} {
		for _, f := range []*Files{
			{Root: root, Index: "index.html", Precompressed: coding.All(), Hide: []string{"drafts", "*.bak"}, CacheControl: "max-age=60"},
			{Root: root, SPA: true, Listing: true},
		} {
			index := f.Index != ""
			for _, c := range []struct {
				path, accept string
				whole        bool
			}{
				{"/", "", index}, {"/docs/", "gzip", index}, {"/index.html", "", true}, {"/a.js", "", true}, {"/a.js", "gzip, br;q=0.5", true}, {"/a.js", "zstd", true},
				{"/b.css", "", true}, {"/b.css", "zstd", true}, {"/noext", "br", true}, {"/empty", "", true}, {"/list/x y.txt", "", true}, {"/a\\..\\b", "", true},
				{"/.well-known/security.txt", "", true}, {"/docs/../a.js", "", true}, {"/../a.js", "", true},
				{"/b.css", "br", !index}, // where forms in codings are looked for, a link is one
				{"/within.js", "", false}, {"/out", "", false}, {"/absolute", "", false}, {"/up/outside", "", false}, {"/loop", "", false}, {"/fifo", "", false},
				{"/docs", "", false}, {"/a.js/", "", false}, {"/list/", "", false}, {"/missing", "", false}, {"/.env", "", false}, {"/list/.hidden", "", false},
				{"/../outside", "", false}, {"/..", "", false}, {"", "", false}, {"/index.html\x00.js", "", false}, {"/" + strings.Repeat("a", 5000), "", false},
				{"/drafts/x", "", !index}, {"/old.bak", "", !index},
			} {
				w := f.Whole(c.path, []string{c.accept})
				if runtime.GOOS != "linux" {
					c.whole = false
				}
				if (w != nil) != c.whole {
					t.Errorf("%s%s (%s): %v", root, c.path, c.accept, w)
				}
				if w == nil {
					continue
				}

				fields := map[string][]string{}
				for _, field := range w.Fields {
					fields[field[0]] = append(fields[field[0]], field[1])
				}
				size := w.Size
				text, err := w.body(3)
				response, body := f.get(t, c.path, "Accept-Encoding", c.accept)
				response.Header.Del("Content-Length")
				if response.StatusCode != 200 || err != nil || text != body || size != int64(len(body)) || !maps.EqualFunc(fields, response.Header, slices.Equal) {
					t.Errorf("%s (%s): %q, %v, %v instead of %s, %q, %v", c.path, c.accept, text, err, fields, response.Status, body, response.Header)
				}
				if !slices.IsSortedFunc(w.Fields, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) }) {
					t.Error(w.Fields)
				}
			}
		}
	}
}

// One goroutine reads while another closes: the number of the file that was closed is another file's by then, whose
// content is nobody else's.
func TestAFileThatIsClosedIsReadNoMore(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"one", "two"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Repeat(name[:1], 64<<10)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f := &Files{Root: dir}
	for range 300 {
		one := f.Whole("/one", nil)
		if one == nil {
			unavailable(t)
		}
		var reading sync.WaitGroup
		reading.Go(func() {
			p := make([]byte, 100)
			for {
				n, err := one.Read(p)
				if strings.Trim(string(p[:n]), "o") != "" {
					t.Errorf("%q of another file", p[:n])
				}
				if err != nil {
					return
				}
			}
		})
		runtime.Gosched()
		one.Close()
		two := f.Whole("/two", nil)
		reading.Wait()
		one.Close()
		if text, err := two.body(4096); err != nil || strings.Trim(text, "t") != "" || len(text) != 64<<10 {
			t.Fatalf("%d bytes, %v", len(text), err)
		}
	}
}

// A file that is cut short while it is sent ends with an error, so that what was sent does not look whole.
func TestAFileThatBecomesShorterIsNotWhole(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x.css") // whose type is not guessed from what it holds
	if err := os.WriteFile(name, make([]byte, 10_000), 0o644); err != nil {
		t.Fatal(err)
	}
	w := (&Files{Root: filepath.Dir(name)}).Whole("/x.css", nil)
	if w == nil {
		unavailable(t)
	}
	if err := os.Truncate(name, 1000); err != nil {
		t.Fatal(err)
	}
	if text, err := w.body(100); len(text) != 1000 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}
