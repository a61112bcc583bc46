package http1

import (
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"padlock/proxy/message"
)

var (
	errChunk       = errors.New("malformed chunk")
	errBodyClosed  = errors.New("the exchange has ended")
	errTrailerSize = errors.New("the trailers are too large")
)

// reader reads a connection through a buffer in which the current head stays where it is.
type reader struct {
	conn     Conn
	buf      []byte
	pinned   int // bytes of the head, which strings alias
	at, end  int // what was read and not yet taken: buf[at:end]
	deadline func(d time.Duration)
}

func (r *reader) buffered() []byte { return r.buf[r.at:r.end] }

// fill reads at least one more byte. It never moves what is pinned.
func (r *reader) fill() error {
	if r.at == r.end {
		r.at, r.end = r.pinned, r.pinned
	}
	if r.end == len(r.buf) {
		r.grow()
	}
	n, err := r.conn.Read(r.buf[r.end:])
	r.end += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// grow makes room. The old array lives on for as long as strings alias it.
func (r *reader) grow() {
	pending := r.buf[r.at:r.end]
	larger := make([]byte, r.pinned+max(bufferSize, 2*len(pending)))
	copy(larger[r.pinned:], pending)
	r.buf, r.at, r.end = larger, r.pinned, r.pinned+len(pending)
}

// body streams a request's content. Reads come from one goroutine at a time; finish may come from another.
type body struct {
	r       *reader
	stall   time.Duration
	ask     func() error // sends 100 Continue; nil once it was sent or is not wanted
	mu      sync.Mutex
	left    int64 // of the content, or of the current chunk
	chunked bool
	begun   bool // a chunk was read
	done    bool // all was read, trailers too
	err     error
	limit   int // of the trailers
	fields  message.Fields
}

// Read implements io.Reader. io.EOF comes only when the content is whole.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.err != nil:
		return 0, b.err
	case b.done:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	if b.ask != nil {
		if err := b.ask(); err != nil {
			return 0, b.fail(err)
		}
		b.ask = nil
	}
	b.r.deadline(b.stall) // stands only while we wait for the client: a slow backend does not count against it
	n, err := b.read(p)
	b.r.deadline(0)
	if err != nil {
		return n, b.fail(err)
	}
	if b.done && n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (b *body) fail(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	b.err = err
	return err
}

func (b *body) read(p []byte) (int, error) {
	if b.chunked && b.left == 0 {
		if err := b.nextChunk(); err != nil || b.done {
			return 0, err
		}
	}
	n, err := b.take(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if !b.chunked && b.left == 0 {
		b.done = true
	}
	return n, err
}

// take empties the buffer first; large reads then go past it.
func (b *body) take(p []byte) (int, error) {
	if data := b.r.buffered(); len(data) > 0 {
		n := copy(p, data)
		b.r.at += n
		return n, nil
	}
	n, err := b.r.conn.Read(p)
	if n > 0 {
		return n, nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return 0, err
}

const maxChunkLine = 4096 // with its extensions, which are dropped

// nextChunk reads what stands between two chunks (RFC 9112 section 7.1).
func (b *body) nextChunk() error {
	if b.begun {
		line, err := b.line(2)
		if err != nil {
			return err
		}
		if len(line) != 0 {
			return errChunk
		}
	}
	b.begun = true
	line, err := b.line(maxChunkLine)
	if err != nil {
		return err
	}
	size, ok := chunkSize(line)
	if !ok {
		return errChunk
	}
	b.left = size
	if size == 0 {
		return b.trailers()
	}
	return nil
}

// chunkSize reads hexadecimal digits, and an extension without control characters behind them.
func chunkSize(line []byte) (size int64, ok bool) {
	i := 0
	for ; i < len(line); i++ {
		digit, ok := hexDigit(line[i])
		if !ok {
			break
		}
		if i == 15 { // 60 bits are enough
			return 0, false
		}
		size = size<<4 | int64(digit)
	}
	if i == 0 {
		return 0, false
	}
	rest := line[i:]
	for len(rest) > 0 && (rest[0] == ' ' || rest[0] == '\t') {
		rest = rest[1:]
	}
	if len(rest) > 0 && rest[0] != ';' || len(rest) == 0 && i != len(line) {
		return 0, false
	}
	for _, c := range rest {
		if c < ' ' && c != '\t' || c == 0x7f {
			return 0, false
		}
	}
	return size, true
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// line returns the next line without its CRLF. It aliases the buffer until the next read.
func (b *body) line(limit int) ([]byte, error) {
	for looked := 0; ; {
		data := b.r.buffered()
		for i := looked; i < len(data); i++ {
			switch {
			case data[i] == '\n':
				if i == 0 || data[i-1] != '\r' {
					return nil, errChunk
				}
				b.r.at += i + 1
				return data[:i-1], nil
			case data[i] == '\r' && i+1 < len(data) && data[i+1] != '\n':
				return nil, errChunk
			}
		}
		if looked = len(data); looked >= limit {
			return nil, errChunk
		}
		if err := b.r.fill(); err != nil {
			return nil, err
		}
	}
}

// forbiddenTrailers would change what was said in the head (RFC 9110 section 6.5.1).
var forbiddenTrailers = map[string]bool{
	"transfer-encoding": true, "content-length": true, "host": true, "trailer": true, "content-encoding": true, "content-type": true,
	"content-range": true, "authorization": true, "set-cookie": true, "cookie": true, "connection": true, "te": true, "expect": true,
}

func (b *body) trailers() error {
	for total := 0; ; {
		line, err := b.line(b.limit)
		if err != nil {
			return err
		}
		if len(line) == 0 {
			b.done = true
			return nil
		}
		if total += len(line); total > b.limit || len(b.fields) == maxFields {
			return errTrailerSize
		}
		field, ok := parseField(string(line))
		if !ok {
			return errChunk
		}
		if !forbiddenTrailers[strings.ToLower(field.Name)] {
			b.fields = append(b.fields, field)
		}
	}
}

// Trailers are complete once Read has returned io.EOF.
func (b *body) Trailers() message.Fields { return b.fields }

// Close ends reading. What has not come is taken care of when the exchange ends.
func (b *body) Close() error { return nil }

const (
	maxDrain  = 64 << 10
	drainTime = 500 * time.Millisecond
)

// finish reports whether the next request can follow: all of the content was read, or the little that was left is now.
func (b *body) finish(kick func()) bool {
	if !b.mu.TryLock() {
		kick() // somebody still waits for the client
		b.mu.Lock()
	}
	defer b.mu.Unlock()
	waiting := b.ask != nil // for our 100: the content may come, or not
	defer func() {
		if b.err == nil {
			b.err = errBodyClosed
		}
	}()
	if b.done || b.err != nil || waiting {
		return b.done && b.err == nil
	}
	b.r.deadline(drainTime)
	scratch := make([]byte, 4096)
	for total := 0; !b.done && total < maxDrain; {
		n, err := b.read(scratch)
		if err != nil {
			return false
		}
		total += n
	}
	b.r.deadline(0)
	return b.done
}

// whole reports whether all of the content was read, and nobody is reading.
func (b *body) whole() bool {
	if !b.mu.TryLock() {
		return false
	}
	defer b.mu.Unlock()
	return b.done
}
