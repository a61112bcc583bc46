package http1

import (
	"bytes"
	"io"

	"padlock/proxy/deadline"
)

// reader reads a connection through a buffer. What it returns of the buffer is valid until the next read.
type reader struct {
	source io.Reader
	limit  *deadline.Deadline
	buf    []byte
	at     int // what was read and not yet taken is buf[at:end]
	end    int
	came   bool // something was read
}

func (r *reader) buffered() []byte { return r.buf[r.at:r.end] }

// Read goes past the buffer.
func (r *reader) Read(p []byte) (int, error) { return r.limit.Read(r.source, p) }

// fill reads at least one more byte into the buffer.
func (r *reader) fill() error {
	if r.at == r.end {
		r.at, r.end = 0, 0
	}
	if r.end == len(r.buf) {
		r.makeRoom()
	}
	n, err := r.Read(r.buf[r.end:])
	r.end += n
	r.came = r.came || n > 0
	return err
}

// makeRoom moves what was not yet taken to the front, of a larger buffer where it fills more than half of this one.
func (r *reader) makeRoom() {
	pending, into := r.buffered(), r.buf
	if len(pending) > len(r.buf)/2 {
		into = make([]byte, max(4<<10, 2*len(r.buf)))
	}
	r.buf, r.at, r.end = into, 0, copy(into, pending)
}

// head takes the bytes up to the empty line that ends a head, at most limit of them.
func (r *reader) head(limit int) ([]byte, error) {
	for looked := 0; ; {
		data := r.buffered()
		if end := headEnd(data, looked); end > 0 {
			if end > limit {
				return nil, errHead
			}
			r.at += end
			return data[:end], nil
		}

		if bareLine(data, looked) {
			return nil, errLine
		}
		if looked = len(data); looked > limit {
			return nil, errHead
		}
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
}

// headEnd is the index just past the empty line that ends a head; 0 if it has not come. from is how much was looked at
// before.
func headEnd(b []byte, from int) int {
	from = max(0, from-3)
	if i := bytes.Index(b[from:], []byte("\r\n\r\n")); i >= 0 {
		return from + i + 4
	}
	return 0
}

// bareLine notices early a head whose lines do not end in CRLF, which would otherwise be waited for until the timeout.
// from is how much was looked at before: a peer that sends byte by byte must not cost more than its bytes.
func bareLine(data []byte, from int) bool {
	for i := from; i < len(data); i++ {
		next := bytes.IndexByte(data[i:], '\n')
		if next < 0 {
			return false
		}
		if i += next; i == 0 || data[i-1] != '\r' {
			return true
		}
	}
	return false
}
