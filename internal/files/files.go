// Package files answers requests with the files below a directory.
//
//	f := &files.Files{Root: "public", Index: "index.html"}
//	if !f.Serve(w, r) { … } // there is no such file, and nothing has been written
//
// No link leads out of the directory (os.Root), and what is hidden is not there: names that begin with a dot, except
// .well-known (RFC 8615).
package files

import (
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"padlock/internal/coding"
)

// Files says which files are served, and how. It is safe for use from many goroutines.
type Files struct {
	Root          string   // directory; it is looked up for each request, so that another may take its place
	Index         string   // file that is served for a directory; "": none
	SPA           bool     // the index of the root answers for paths without a file, unless they have an extension
	Listing       bool     // a directory without an index is listed
	Precompressed []string // codings whose files may stand beside a file, in the order of preference: zstd, br, gzip
	Hide          []string // patterns of names that are not served, as path.Match reads them
	CacheControl  string   // field of responses with a file; "": none

	// SameRules reports whether two paths below the root are under the same rules; nil: all are. A link between two
	// that are not would lead around the rules of one of them, so it is not followed.
	SameRules func(asked, real string) bool
}

// suffixes of files that hold another in a coding (RFC 9110 section 8.4.1, RFC 7932, RFC 8878).
var suffixes = map[string]string{"zstd": ".zst", "br": ".br", "gzip": ".gz"}

// Serve answers a GET or HEAD whose decoded path names a file, with conditions and ranges (RFC 9110 sections 13 and
// 14). It reports false, and has written nothing, where there is none.
func (f *Files) Serve(w http.ResponseWriter, r *http.Request) bool {
	// With the separator at the end, a FIFO in the place of the directory fails at once. To open it would block.
	root, err := os.OpenRoot(f.Root + string(filepath.Separator))
	if err != nil {
		http.Error(w, "The directory with the files cannot be read", http.StatusInternalServerError)
		return true
	}
	defer root.Close()

	asked := path.Clean("/" + r.URL.Path)
	if f.hidden(asked) {
		return false
	}
	name := strings.TrimPrefix(asked, "/")
	if name == "" {
		name = "."
	}

	a := &answer{Files: f, root: root, w: w, r: r}
	directory := strings.HasSuffix(r.URL.Path, "/")
	info, err := a.stat(name)
	switch {
	// Without the slash at the end, relative links in the index would lead elsewhere.
	case err == nil && info.IsDir() && !directory && name != ".":
		return a.redirect(path.Base(name) + "/")
	case err == nil && info.IsDir():
		return a.index(name)
	case err == nil && info.Mode().IsRegular() && !directory:
		return a.file(name)
	// A missing script or picture stays missing: HTML in its place would hide the mistake.
	case errors.Is(err, fs.ErrNotExist) && f.SPA && path.Ext(name) == "":
		return a.index(".")
	}

	// A FIFO, a device, a link that leads out of the folder, or nothing.
	return false
}

// hidden reports whether any part of a path is not served.
func (f *Files) hidden(asked string) bool {
	for part := range strings.SplitSeq(asked, "/") {
		// Files such as .git and .env are not meant for visitors.
		if strings.HasPrefix(part, ".") && part != ".well-known" {
			return true
		}
		if slices.ContainsFunc(f.Hide, func(pattern string) bool { match, _ := path.Match(pattern, part); return match }) {
			return true
		}
	}
	return false
}

// answer is one request's.
type answer struct {
	*Files
	root *os.Root
	w    http.ResponseWriter
	r    *http.Request
}

// redirect leads to the name of a directory with its slash. It is relative, so that a prefix that was taken off does
// not matter.
func (a *answer) redirect(to string) bool {
	location := "./" + (&url.URL{Path: to}).EscapedPath()
	if a.r.URL.RawQuery != "" {
		location += "?" + a.r.URL.RawQuery
	}
	a.w.Header().Set("Location", location)
	a.w.WriteHeader(http.StatusMovedPermanently)
	return true
}

func (a *answer) index(directory string) bool {
	if a.Index != "" {
		name := path.Join(directory, a.Index)
		if a.file(name) {
			return true
		}
	}
	return a.Listing && a.list(directory)
}

// file sends a file, or the form of it in a coding that the client takes.
func (a *answer) file(name string) bool {
	plain, info := a.open(name)
	if plain == nil {
		return false
	}
	defer plain.Close()

	if len(a.Precompressed) > 0 {
		a.w.Header().Add(varies[0], varies[1])
	}

	accepted, _ := coding.Acceptable(a.r.Header.Values("Accept-Encoding"), a.Precompressed)
	for _, coding := range accepted {
		if encoded, about := a.open(name + suffixes[coding]); encoded != nil {
			defer encoded.Close()
			a.send(name, coding, encoded, about)
			return true
		}
	}
	a.send(name, "", plain, info)
	return true
}

// open opens a regular file; nil: there is none of that name. It is looked at when it is open, as another may stand in
// its place at any moment, such as a FIFO, whose opening would wait for somebody to write.
func (a *answer) open(name string) (*os.File, fs.FileInfo) {
	file, err := a.openAny(name)
	if err != nil {
		return nil, nil
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		file.Close()
		return nil, nil
	}
	return file, info
}

func (a *answer) send(name, coding string, file *os.File, info fs.FileInfo) {
	for _, field := range a.about(name, coding, info.ModTime(), info.Size()) {
		a.w.Header().Set(field[0], field[1])
	}
	http.ServeContent(sized{a.w, coding, info.Size()}, a.r, name, info.ModTime(), file)
}

// sized tells how long a file in a coding is where all of it is sent, which http.ServeContent leaves out.
type sized struct {
	http.ResponseWriter
	coding string
	size   int64
}

// WriteHeader implements http.ResponseWriter.
func (w sized) WriteHeader(status int) {
	if w.coding != "" && status == http.StatusOK {
		w.Header().Set("Content-Length", strconv.FormatInt(w.size, 10))
	}
	w.ResponseWriter.WriteHeader(status)
}

// listing is parsed for the first who sees it.
var listing = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("listing").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{.Path}}</title>
<style>body { font: 16px/1.6 system-ui, sans-serif; margin: 2rem; overflow-wrap: anywhere } td { padding-right: 2rem }</style>
<h1>{{.Path}}</h1>
<table>
{{if ne .Path "/"}}<tr><td><a href="../">../</a></td><td></td><td></td></tr>
{{end}}{{range .Entries}}<tr><td><a href="./{{.Link}}">{{.Name}}</a></td><td>{{.Size}}</td><td>{{.Time}}</td></tr>
{{end}}</table>
</html>
`))
})

// maxListed bounds a listing.
const maxListed = 10_000

func (a *answer) list(directory string) bool {
	opened, err := a.openAny(directory)
	if err != nil {
		return false
	}
	defer opened.Close()
	found, err := opened.ReadDir(maxListed)
	if err != nil && !errors.Is(err, io.EOF) { // io.EOF: it is empty
		return false
	}
	slices.SortFunc(found, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })

	type entry struct{ Name, Link, Size, Time string }
	var entries []entry
	for _, e := range found {
		// A link counts as what it leads to, and is left out if that lies outside of the root, or under other rules.
		info, err := a.stat(path.Join(directory, e.Name()))
		if err != nil || a.hidden(e.Name()) || !info.IsDir() && !info.Mode().IsRegular() {
			continue
		}
		one := entry{Name: e.Name(), Size: fmt.Sprint(info.Size()), Time: info.ModTime().UTC().Format("2006-01-02 15:04")}
		if info.IsDir() {
			one.Name, one.Size = one.Name+"/", ""
		}
		// The page puts ./ in front: a name with a colon would begin with a scheme otherwise (RFC 3986 section 4.2).
		one.Link = (&url.URL{Path: one.Name}).EscapedPath()
		entries = append(entries, one)
	}

	a.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	a.w.Header().Set("Cache-Control", "no-cache")
	_ = listing().Execute(a.w, map[string]any{"Path": a.r.URL.Path, "Entries": entries})
	return true
}
