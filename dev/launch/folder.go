package launch

import (
	"net"
	"net/http"
	"time"

	"padlock/internal/coding"
	"padlock/internal/files"
)

// Folder serves the files below a directory on a port of this machine.
type Folder struct {
	listener net.Listener
	server   *http.Server
}

// ServeFolder serves files as package files does. With spa, the directory's index.html answers for paths without a
// file.
func ServeFolder(dir string, spa bool) (*Folder, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	served := &files.Files{Root: dir, Index: "index.html", SPA: spa, Listing: true, Precompressed: coding.All(), CacheControl: "no-cache"}
	f := &Folder{listener: l, server: &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !served.Serve(w, r) {
			http.NotFound(w, r)
		}
	})}}
	go func() { _ = f.server.Serve(l) }() // until Close
	return f, nil
}

// Port is the folder's.
func (f *Folder) Port() int { return f.listener.Addr().(*net.TCPAddr).Port }

// Close ends the folder.
func (f *Folder) Close() { _ = f.server.Close() }
