package launch

import (
	"errors"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"os"
	"path"
	"strings"
	"time"
)

// Folder serves the files below a directory on a port of this machine.
type Folder struct {
	root     *os.Root
	listener net.Listener
	server   *http.Server
}

// ServeFolder serves files with their types, in ranges and by their time of change: index.html for a directory, and a compressed file
// (.br, .gz) for clients that take it. With spa, a path of no file is answered with the index.html of the directory. Links that lead out
// of the directory are not followed.
func ServeFolder(dir string, spa bool) (*Folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		root.Close()
		return nil, err
	}
	f := &Folder{root: root, listener: l, server: &http.Server{Handler: &files{root.FS(), spa}, ReadHeaderTimeout: 10 * time.Second}}
	go func() { _ = f.server.Serve(l) }() // until Close
	return f, nil
}

// Port is the folder's.
func (f *Folder) Port() int { return f.listener.Addr().(*net.TCPAddr).Port }

// Close ends the folder.
func (f *Folder) Close() { _ = errors.Join(f.server.Close(), f.root.Close()) }

// files answers with what is in a file system.
type files struct {
	fs  fs.FS
	spa bool
}

func (f *files) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if hidden(r.URL.Path) {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Cache-Control", "no-cache") // a browser asks again, as files change
	name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
	if name == "" {
		name = "."
	}
	info, err := fs.Stat(f.fs, name)
	switch {
	case err == nil && info.Mode().IsRegular():
		if f.compressed(w, r, name) {
			return
		}
	case err != nil && !errors.Is(err, fs.ErrNotExist): // a link that leads out, or what may not be read
		http.NotFound(w, r)
		return
	case err != nil && f.spa && path.Ext(name) == "":
		http.ServeFileFS(w, sameAs(r, "/"), f.fs, "index.html")
		return
	}
	http.FileServerFS(f.fs).ServeHTTP(w, r)
}

// hidden reports whether a path has a part that begins with a dot, such as .git or .env; .well-known is for everybody (RFC 8615).
func hidden(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(part, ".") && part != ".well-known" && part != "." && part != ".." {
			return true
		}
	}
	return false
}

// compressed answers with the file's compressed form, where there is one that the client takes. It reports whether it has answered.
func (f *files) compressed(w http.ResponseWriter, r *http.Request, name string) bool {
	if strings.HasSuffix(r.URL.Path, "/index.html") { // which is redirected to its directory
		return false
	}
	w.Header().Add("Vary", "Accept-Encoding")
	for _, c := range []struct{ coding, suffix string }{{"br", ".br"}, {"gzip", ".gz"}} {
		if !accepts(r.Header.Get("Accept-Encoding"), c.coding) {
			continue
		}
		file, err := f.fs.Open(name + c.suffix)
		if err != nil {
			continue
		}
		defer file.Close()
		info, err := file.Stat()
		seeker, ok := file.(interface {
			fs.File
			Seek(offset int64, whence int) (int64, error)
		})
		if err != nil || !ok || !info.Mode().IsRegular() {
			continue
		}
		w.Header().Set("Content-Encoding", c.coding)
		if kind := mime.TypeByExtension(path.Ext(name)); kind != "" {
			w.Header().Set("Content-Type", kind)
		} else {
			w.Header().Set("Content-Type", "application/octet-stream")
		}
		http.ServeContent(w, r, name, info.ModTime(), seeker)
		return true
	}
	return false
}

// accepts reads Accept-Encoding (RFC 9110 section 12.5.3).
func accepts(field, coding string) bool {
	for part := range strings.SplitSeq(field, ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.EqualFold(strings.TrimSpace(name), coding) {
			q := strings.ReplaceAll(weight, " ", "")
			return q != "q=0" && !strings.HasPrefix(q, "q=0.000") && q != "q=0.0" && q != "q=0.00"
		}
	}
	return false
}

func sameAs(r *http.Request, path string) *http.Request {
	other := r.Clone(r.Context())
	other.URL.Path, other.URL.RawPath = path, ""
	return other
}
