package files

import (
	"io"
	"mime"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"padlock/internal/coding"
)

// Whole is a file that is sent from its beginning to its end, as Serve would send it. Read and Close may come from
// different goroutines.
type Whole struct {
	Fields [][2]string // names and values of what is told of it, sorted by name, without its length
	Size   int64       // bytes

	mu    sync.Mutex
	file  descriptor // closed: none
	at    int64      // of the file, what was read
	start []byte     // of the file, what its type was guessed from
}

// atOnce is how much of a file is read for its type to be guessed, so that a small file is read once. http.DetectContentType
// goes by the first 512 bytes.
const atOnce = 4 << 10

// Whole finds the file that a decoded path names, or the form of it in a coding that the lines of Accept-Encoding take,
// for a GET without conditions or ranges. It returns nil where the answer is another, where a link is on the way, or where
// the system has no call for it: then Serve decides. The caller closes the file.
//
// It costs a third of what Serve does: no links are resolved, no goroutine writes what another reads.
func (f *Files) Whole(asked string, accept []string) *Whole {
	clean := path.Clean("/" + asked)
	if f.hidden(clean) {
		return nil
	}
	name := clean[1:]
	if strings.HasSuffix(asked, "/") {
		// Without an index, the answer is a listing, or another file.
		if f.Index == "" {
			return nil
		}
		name = path.Join(name, f.Index)
	}

	plain, found := openRegular(f.Root, name)
	if found != isThere {
		return nil
	}
	if len(f.Precompressed) == 0 {
		return f.whole(name, "", plain)
	}

	accepted, _ := coding.Acceptable(accept, f.Precompressed)
	for _, coding := range accepted {
		switch encoded, found := openRegular(f.Root, name+suffixes[coding]); found {
		case isThere:
			plain.close()
			return f.whole(name, coding, encoded)
		case isElsewhere:
			plain.close()
			return nil
		}
	}
	return f.whole(name, "", plain)
}

// found is what is known of a name.
type found int

const (
	isThere     found = iota // a regular file
	isNowhere                // nothing has that name
	isElsewhere              // a link, or nothing that can be looked at without following one
)

// whole tells what there is to tell of a file; nil: it cannot be read.
func (f *Files) whole(name, coding string, file descriptor) *Whole {
	w := &Whole{Size: file.size, file: file}
	w.Fields = f.about(name, coding, file.changed, file.size)
	if coding == "" && mime.TypeByExtension(path.Ext(name)) == "" {
		w.start = make([]byte, min(atOnce, file.size))
		if n, err := file.readAt(w.start, 0); err != nil || n < len(w.start) {
			file.close()
			return nil
		}
		w.Fields = append(w.Fields, [2]string{"Content-Type", http.DetectContentType(w.start)})
	}

	w.Fields = append(w.Fields, [2]string{"Accept-Ranges", "bytes"})
	// As in http.ServeContent, such a time says that none is known.
	if !file.changed.IsZero() && !file.changed.Equal(time.Unix(0, 0)) {
		w.Fields = append(w.Fields, [2]string{"Last-Modified", file.changed.UTC().Format(http.TimeFormat)})
	}
	if len(f.Precompressed) > 0 {
		w.Fields = append(w.Fields, varies)
	}
	slices.SortFunc(w.Fields, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return w
}

// varies is in each response that depends on what a client accepts, whether this one gets a coding or not.
var varies = [2]string{"Vary", "Accept-Encoding"}

// about is what is told of a file, or of its form in a coding.
func (f *Files) about(name, coding string, changed time.Time, size int64) [][2]string {
	fields := make([][2]string, 0, 8)
	if kind := mime.TypeByExtension(path.Ext(name)); kind != "" {
		fields = append(fields, [2]string{"Content-Type", kind})
	} else if coding != "" {
		// Sniffing would describe the compressed bytes and not the file.
		fields = append(fields, [2]string{"Content-Type", "application/octet-stream"})
	}

	if coding != "" {
		fields = append(fields, [2]string{"Content-Encoding", coding})
	}
	if f.CacheControl != "" {
		fields = append(fields, [2]string{"Cache-Control", f.CacheControl})
	}

	// Each coding is a representation of its own, with a tag of its own (RFC 9110 section 8.8.3.3).
	tag := strconv.AppendInt([]byte{'"'}, changed.UnixNano(), 16)
	tag = strconv.AppendInt(append(tag, '-'), size, 16)
	tag = append(append(tag, suffixes[coding]...), '"')
	return append(fields, [2]string{"X-Content-Type-Options", "nosniff"}, [2]string{"Etag", string(tag)})
}

// Read implements io.Reader. A file that has become shorter meanwhile ends with io.ErrUnexpectedEOF.
func (w *Whole) Read(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	left := w.Size - w.at
	switch {
	case w.file.closed():
		return 0, io.ErrClosedPipe
	case left == 0:
		return 0, io.EOF
	}

	p = p[:min(int64(len(p)), left)]
	n := copy(p, w.start)
	w.start = w.start[n:]
	if n < len(p) {
		// What is read is of the descriptor under the lock: Close cannot have given its number to another file.
		more, err := w.file.readAt(p[n:], w.at+int64(n))
		n += more
		if err == nil && more == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			w.at += int64(n)
			return n, err
		}
	}

	if w.at += int64(n); w.at == w.Size {
		return n, io.EOF
	}
	return n, nil
}

// Left is how much of it Read has not returned.
func (w *Whole) Left() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.Size - w.at
}

// Close implements io.Closer.
func (w *Whole) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.file.close()
	return nil
}
