package http2

import (
	"io"

	"golang.org/x/net/http2"

	"padlock/proxy/deadline"
)

// reader reads a connection through a buffer.
type reader struct {
	source io.Reader
	limit  *deadline.Deadline
	buf    []byte
	at     int // what was read and not yet taken is buf[at:end]
	end    int
}

func (r *reader) buffered() []byte { return r.buf[r.at:r.end] }

// whole reports whether the next frame can be read without waiting.
func (r *reader) whole() bool {
	b := r.buffered()
	return len(b) >= frameHeader && len(b)-frameHeader >= int(b[0])<<16|int(b[1])<<8|int(b[2])
}

// data reports whether what has come is the beginning of a DATA frame.
func (r *reader) data() bool {
	b := r.buffered()
	return len(b) > 3 && http2.FrameType(b[3]) == http2.FrameData
}

// fill reads at least one byte into the empty buffer.
func (r *reader) fill() error {
	r.at, r.end = 0, 0
	n, err := r.read(r.buf)
	r.end = n
	return err
}

// Read goes past the buffer when much is wanted.
func (r *reader) Read(p []byte) (int, error) {
	if r.at == r.end {
		if len(p) >= len(r.buf) {
			return r.read(p)
		}
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.buffered())
	r.at += n
	return n, nil
}

func (r *reader) read(p []byte) (int, error) { return r.limit.Read(r.source, p) }
