package certs

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"

	"padlock/config"
	"padlock/internal/netname"
)

// Files are the certificates of listed files. They are read again when a file changes; one that cannot be used then
// leaves the certificate that was there before. A Files is safe for use from many goroutines.
type Files struct {
	log     *slog.Logger
	entries []*entry // used by one goroutine: New's, then Watch's
	index   atomic.Pointer[fileIndex]
	logged  map[string]time.Time // when it was last said that a file cannot be used
	staples staples

	imported atomic.Pointer[importedPairs] // nil: none were read
}

// entry is one of the configuration's, or what has been imported into the storage.
type entry struct {
	name  string
	file  config.CertificateFile // none for what has been imported
	read  func(*slog.Logger) (*material, error)
	pairs []pair
	seen  *material
	wrong error  // why a change could not be used
	taken func() // is called when what was read is what pairs holds; nil: nobody asks

	imported bool
}

// fileIndex is published whole.
type fileIndex struct {
	byName   map[string][]*tls.Certificate // names and wildcards; several for a name
	fallback candidates                    // for clients that send no name: the first certificate, and others for its name
	unusable []Unusable
	from     map[*tls.Certificate]Place

	directories map[config.CertificateFile]contents // for the Files after these
}

// contents are what a directory had when it was read last. They never change.
type contents struct {
	pairs []pair
	seen  *material
}

// NewFiles reads the files. What cannot be used is an error; of a directory, it is left out.
func NewFiles(files []config.CertificateFile, log *slog.Logger) (*Files, error) {
	return NewFilesAfter(nil, files, log)
}

// NewFilesAfter is NewFiles for another configuration than that of the Files before, which may be nil: what cannot be
// used of a directory that both have stays as it was there.
func NewFilesAfter(before *Files, files []config.CertificateFile, log *slog.Logger) (*Files, error) {
	f := &Files{log: log}
	var wrong config.Errors
	for i, file := range files {
		e := newEntry(file)
		if before != nil && file.Directory != "" {
			last := before.index.Load().directories[file]
			// A file that is damaged at a reload keeps what it held, as it would without the reload.
			e.pairs, e.seen = last.pairs, last.seen
		}

		var err error
		if e.pairs, e.seen, err = load(e, log); err != nil {
			wrong = append(wrong, config.Error{Path: fmt.Sprintf("certificates.files[%d]", i), Message: err.Error()})
		}
		f.entries = append(f.entries, e)
	}

	if len(wrong) > 0 {
		return nil, wrong
	}

	f.publish()
	f.warnInvalid(f.entries)
	f.warnMustStaple(f.entries)
	f.remind(time.Now())
	return f, nil
}

func newEntry(file config.CertificateFile) *entry {
	e := &entry{name: file.Cert + file.PKCS12 + file.Directory, file: file} // one of them
	e.read = func(log *slog.Logger) (*material, error) { return read(file, e.seen, log) }
	return e
}

func (f *Files) publish() {
	x := &fileIndex{byName: map[string][]*tls.Certificate{}, from: map[*tls.Certificate]Place{}, directories: map[config.CertificateFile]contents{}}
	var first *tls.Certificate
	for i, e := range f.entries {
		for _, pair := range e.pairs {
			shown := f.stapled(pair.Certificate, time.Now())
			first = cmp.Or(first, shown)
			x.from[shown] = e.place(pair, i)
			for _, name := range namesOf(shown) {
				x.byName[name] = append(x.byName[name], shown)
			}
		}

		if e.file.Directory != "" {
			x.directories[e.file] = contents{e.pairs, e.seen}
		}
		if e.seen != nil {
			x.unusable = append(append(x.unusable, e.seen.unusable...), e.seen.orphans...)
		}

		if e.wrong != nil {
			x.unusable = append(x.unusable, Unusable{e.name, e.wrong})
		}
	}

	// A client without a server name gets the first certificate, or a better one of the same name.
	if first != nil {
		x.fallback.exact = []*tls.Certificate{first}
		if names := namesOf(first); len(names) > 0 {
			x.fallback = x.named(names[0])
		}
	}

	f.index.Store(x)
}

// place is where a pair stands, in the entry of this index.
func (e *entry) place(p pair, index int) Place {
	rooted := p.issuer != nil && bytes.Equal(p.issuer.RawSubject, p.issuer.RawIssuer)
	if e.imported {
		return Place{Kind: FromImported, Rooted: rooted}
	}
	return Place{Kind: FromFile, File: cmp.Or(p.file, e.name), Index: index, Rooted: rooted}
}

// warnInvalid warns of certificates that clients refuse, and that have no better one beside them.
func (f *Files) warnInvalid(entries []*entry) {
	x, now := f.index.Load(), time.Now()
	better := func(name string) bool {
		c := x.named(name)
		return slices.ContainsFunc(slices.Concat(c.exact, c.wildcard), func(pair *tls.Certificate) bool { return validAt(pair.Leaf, now) })
	}

	for _, e := range entries {
		for _, pair := range e.pairs {
			leaf, names := pair.Leaf, namesOf(pair.Certificate)
			// During a renewal the old certificate stands beside the new one, and nobody has to be warned.
			if validAt(leaf, now) || len(names) > 0 && !slices.ContainsFunc(names, func(name string) bool { return !better(name) }) {
				continue
			}

			if now.After(leaf.NotAfter) {
				f.log.Warn("certificate has expired", "file", cmp.Or(pair.file, e.name), "not_after", leaf.NotAfter, "remedy", "put a new one in its place: it is taken at once")
			} else {
				f.log.Warn("certificate is not valid yet", "file", cmp.Or(pair.file, e.name), "not_before", leaf.NotBefore, "remedy", "check this machine's clock")
			}
		}
	}
}

// remindEvery is the time between two lines of the log about the same file.
const remindEvery = time.Hour

// remind logs files that cannot be used: at once, again as long as they cannot, and when they can be used again.
func (f *Files) remind(now time.Time) {
	still := map[string]time.Time{}
	for _, u := range f.index.Load().unusable {
		reason := u.Reason.Error()
		logged, known := f.logged[u.File+reason]
		if !known || now.Sub(logged) >= remindEvery {
			f.log.Error("a file of certificates cannot be used; the one before is served on, and so is every other file", "file", u.File, "error", reason)
			logged = now
		}
		still[u.File+reason] = logged
	}
	f.logged = still
}

// Unusable are files that cannot be used as they are now: those of directories, and those that have changed for the
// worse.
func (f *Files) Unusable() []Unusable { return f.index.Load().unusable }

func namesOf(pair *tls.Certificate) (names []string) {
	for _, name := range pair.Leaf.DNSNames {
		names = append(names, strings.ToLower(name))
	}
	for _, ip := range pair.Leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// Entry is what one entry of the configuration holds now.
func (f *Files) Entry(i int) (all []*tls.Certificate) {
	for _, pair := range f.entries[i].pairs {
		all = append(all, pair.Certificate)
	}
	return all
}

// Pairs are all that the files hold now.
func (f *Files) Pairs() (all []*tls.Certificate) {
	for _, e := range f.entries {
		for _, pair := range e.pairs {
			all = append(all, pair.Certificate)
		}
	}
	return all
}

const (
	settle = 100 * time.Millisecond // after a change, as programs write several files
	poll   = 15 * time.Second       // where the kernel tells nothing, as on network file systems
)

// Watch reads files again when they change, until ctx ends. It watches folders, not files, so that renames and the
// links that Kubernetes exchanges are seen, and looks by itself besides.
func (f *Files) Watch(ctx context.Context) {
	if len(f.entries) == 0 {
		return
	}

	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		f.log.Warn("files are not watched, but looked at from time to time", "every", poll, "error", err)
		// Channels on which nothing ever comes keep the loop below the same. The limit of inotify watches is a
		// common reason.
		watcher = &fsnotify.Watcher{Events: make(chan fsnotify.Event), Errors: make(chan error)}
	} else {
		defer watcher.Close()
	}

	watched := map[string]bool{}
	f.follow(watcher, err == nil, watched)
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	answers, asking := make(chan []answer, 1), false
	var responders sync.WaitGroup
	defer responders.Wait()

	for {
		if due := f.due(time.Now()); len(due) > 0 && !asking {
			asking = true
			responders.Go(func() { answers <- ask(ctx, due) })
		}

		select {
		case <-ctx.Done():
			return
		case <-watcher.Events:
			f.calm(ctx, watcher.Events)
		case <-watcher.Errors:
		case <-ticker.C:
		// OCSP responders are asked by another goroutine, as they may take long to answer.
		case all := <-answers:
			asking = false
			if ctx.Err() == nil {
				f.learn(all, time.Now())
			}
			continue
		}

		// Everything is read again, whatever the event says: events are merged and dropped, and only contents
		// count.
		f.reread()
		f.follow(watcher, err == nil, watched)
	}
}

// calm waits until nothing has happened for a moment, or for a second.
func (f *Files) calm(ctx context.Context, events <-chan fsnotify.Event) {
	// A folder in which something is always written must not put the change off for good.
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
			// Folders are never unwatched: an event for nothing costs one look.
			if !watched[folder] && watcher.Add(folder) == nil {
				watched[folder] = true
			}
		}
	}
}

func (f *Files) reread() {
	var changed []*entry
	said := len(f.Unusable())

	for _, e := range f.entries {
		if f.again(e) {
			changed = append(changed, e)
		}
	}

	if len(changed) > 0 {
		f.publish()
		f.warnInvalid(changed)
		f.warnMustStaple(changed)
	}

	f.remind(time.Now())
	if left := len(f.Unusable()); left == 0 && said > 0 {
		f.log.Info("every file of certificates can be used again")
	}
}

// again reads an entry, and reports whether anything about it is different.
func (f *Files) again(e *entry) bool {
	now, err := e.read(slog.New(slog.DiscardHandler))
	// Hashes decide, as touching a file or exchanging a link changes no certificate.
	if err == nil && maps.Equal(now.files, e.seen.files) {
		different := e.wrong != nil
		e.wrong = nil
		if e.taken != nil {
			e.taken()
		}
		return different
	}

	var pairs []pair
	if err == nil {
		pairs, now, err = load(e, f.log)
	} else {
		err = fmt.Errorf("loading the certificate %s: %w", e.name, err)
	}

	if err == nil && len(pairs) == 0 && len(e.pairs) > 0 && len(now.folders) > 0 {
		// An empty folder is most likely a moment between two writes.
		err = errNothingLeft
	}

	if err != nil {
		different := e.wrong == nil || e.wrong.Error() != err.Error()
		e.wrong = err
		return different
	}

	e.pairs, e.seen, e.wrong = pairs, now, nil
	if e.taken != nil {
		e.taken()
	}

	for _, pair := range pairs {
		f.log.Info("certificate loaded", "file", cmp.Or(pair.file, e.name), "names", pair.Leaf.DNSNames, "not_after", pair.Leaf.NotAfter)
	}

	return true
}

// named is what the files hold for a name: under the name itself, and under the wildcard above it.
func (x *fileIndex) named(name string) candidates {
	return candidates{exact: x.byName[name], wildcard: x.byName[netname.Wildcard(name)]}
}
