package certs

import (
	"context"
	"crypto/tls"
	"log/slog"
	"maps"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"

	"padlock/config"
)

// Files are the certificates of listed files. They are read again when a file changes; one that cannot be used then leaves the
// certificate that was there before. A Files is safe for use from many goroutines.
type Files struct {
	log     *slog.Logger
	entries []*entry // used by one goroutine: New's, then Watch's
	index   atomic.Pointer[fileIndex]
}

// entry is one of the configuration's, or what has been imported into the storage.
type entry struct {
	name  string
	read  func(*slog.Logger) (*material, error)
	pairs []*tls.Certificate
	seen  *material
	wrong string // what was last said of a change that could not be used
}

// fileIndex is published whole.
type fileIndex struct {
	byName   map[string][]*tls.Certificate // names and wildcards; several key types each
	fallback []*tls.Certificate            // for clients that send no name: the first one, and others of its name
}

// NewFiles reads the files. What cannot be used is an error.
func NewFiles(files []config.CertificateFile, log *slog.Logger) (*Files, error) {
	f := &Files{log: log}
	for _, file := range files {
		e := &entry{
			name: file.Cert + file.PKCS12 + file.Directory, // one of them
			read: func(log *slog.Logger) (*material, error) { return read(file, log) },
		}
		var err error
		if e.pairs, e.seen, err = load(e, log); err != nil {
			return nil, err
		}
		f.entries = append(f.entries, e)
	}
	f.publish()
	return f, nil
}

func (f *Files) publish() {
	x := &fileIndex{byName: map[string][]*tls.Certificate{}}
	for _, e := range f.entries {
		for _, pair := range e.pairs {
			for _, name := range namesOf(pair) {
				x.byName[name] = append(x.byName[name], pair)
			}
		}
	}
	if pairs := f.Pairs(); len(pairs) > 0 {
		x.fallback = pairs[:1]
		if names := namesOf(pairs[0]); len(names) > 0 {
			x.fallback = x.byName[names[0]]
		}
	}
	f.index.Store(x)
}

func namesOf(pair *tls.Certificate) (names []string) {
	for _, name := range pair.Leaf.DNSNames {
		names = append(names, strings.ToLower(name))
	}
	for _, ip := range pair.Leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// Pairs are all that the files hold now.
func (f *Files) Pairs() (all []*tls.Certificate) {
	for _, e := range f.entries {
		all = append(all, e.pairs...)
	}
	return all
}

const (
	settle = 100 * time.Millisecond // after a change, as programs write several files
	poll   = 15 * time.Second       // where the kernel tells nothing, as on network file systems
)

// Watch reads files again when they change, until ctx ends. It watches folders, not files, so that renames and the links that
// Kubernetes exchanges are seen, and looks by itself besides.
func (f *Files) Watch(ctx context.Context) {
	if len(f.entries) == 0 {
		return
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		f.log.Warn("files are not watched, but looked at from time to time", "every", poll, "error", err)
		watcher = &fsnotify.Watcher{Events: make(chan fsnotify.Event), Errors: make(chan error)}
	} else {
		defer watcher.Close()
	}
	watched := map[string]bool{}
	f.follow(watcher, err == nil, watched)
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-watcher.Events:
			f.calm(ctx, watcher.Events)
		case <-watcher.Errors:
		case <-ticker.C:
		}
		f.reread()
		f.follow(watcher, err == nil, watched)
	}
}

// calm waits until nothing has happened for a moment, or for a second.
func (f *Files) calm(ctx context.Context, events <-chan fsnotify.Event) {
	limit := time.After(time.Second)
	for {
		select {
		case <-events:
		case <-time.After(settle):
			return
		case <-limit:
			return
		case <-ctx.Done():
			return
		}
	}
}

// follow watches the folders that entries lie in now.
func (f *Files) follow(watcher *fsnotify.Watcher, works bool, watched map[string]bool) {
	if !works {
		return
	}
	for _, e := range f.entries {
		for _, folder := range e.seen.folders {
			if !watched[folder] && watcher.Add(folder) == nil {
				watched[folder] = true
			}
		}
	}
}

func (f *Files) reread() {
	changed := false
	for _, e := range f.entries {
		quiet := slog.New(slog.DiscardHandler)
		if now, err := e.read(quiet); err == nil && maps.Equal(now.files, e.seen.files) {
			e.wrong = ""
			continue
		}
		pairs, seen, err := load(e, f.log)
		if err == nil && len(pairs) == 0 && len(e.pairs) > 0 && len(seen.folders) > 0 {
			err = errNothingLeft
		}
		if err != nil {
			if e.wrong != err.Error() {
				e.wrong = err.Error()
				f.log.Error("a changed certificate cannot be used; the one before is served on", "file", e.name, "error", err)
			}
			continue
		}
		e.pairs, e.seen, e.wrong, changed = pairs, seen, "", true
		for _, pair := range pairs {
			f.log.Info("certificate loaded", "file", e.name, "names", pair.Leaf.DNSNames, "not_after", pair.Leaf.NotAfter)
		}
	}
	if changed {
		f.publish()
	}
}

// named is what the files hold for a name: under the name itself, else under the wildcard above it.
func (x *fileIndex) named(name string) []*tls.Certificate {
	pairs := x.byName[name]
	if _, parent, ok := strings.Cut(name, "."); ok && len(pairs) == 0 {
		pairs = x.byName["*."+parent]
	}
	return pairs
}

// listed prefers the exact name to a wildcard.
func (x *fileIndex) listed(name string, hello *tls.ClientHelloInfo) *tls.Certificate {
	return usable(x.named(name), hello)
}

// usable prefers a key type that the client can use to one that it cannot.
func usable(pairs []*tls.Certificate, hello *tls.ClientHelloInfo) *tls.Certificate {
	for _, pair := range pairs {
		if hello.SupportsCertificate(pair) == nil {
			return pair
		}
	}
	if len(pairs) > 0 {
		return pairs[0]
	}
	return nil
}
