package http1

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"padlock/proxy/message"
)

// writer sends one response. One goroutine calls it, but for proceed, which the reader of the request's body calls.
type writer struct {
	x    *exchange
	room *[writeBuffer]byte
	buf  []byte // of room; not yet sent: the head goes out with the first content

	mu        sync.Mutex  // guards the connection against proceed
	sent      atomic.Bool // a final head was begun
	left      int64       // of the announced content
	chunked   bool
	bodiless  bool // nothing may follow the head
	close     bool // the connection ends with this response
	unbounded bool // the content ends with the connection
	ended     bool // the last chunk was written
	aborted   bool
	tunnelled bool
	err       error
}

// errEnded is given to whoever writes when the handler has returned.
var errEnded = errors.New("the exchange has ended")

// release gives back the buffer. Nothing can be written afterwards.
func (w *writer) release() {
	if w.room != nil {
		writeBuffers.Put(w.room)
		w.room, w.buf = nil, nil
	}
	if w.err == nil {
		w.err = errEnded
	}
}

// proceed sends 100 Continue, unless the response has begun: then the client knows already.
func (w *writer) proceed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sent.Load() {
		return nil
	}
	w.x.body.invited.Store(true)
	return w.x.c.write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
}

// Interim implements message.Writer. HTTP/1.0 knows no interim responses.
func (w *writer) Interim(status int, fields message.Fields) error {
	if w.x.head.minor == 0 {
		return nil
	}
	if err := fields.Writable(); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = appendStatus(w.buf, status)
	w.buf = appendFields(w.buf, fields)
	w.buf = append(w.buf, "\r\n"...)
	return w.send()
}

// Head implements message.Writer; what it writes goes out with the first content, or when the response ends.
func (w *writer) Head(status int, fields message.Fields, length int64) error {
	if err := fields.Writable(); err != nil {
		return err
	}

	// proceed looks at this flag under the lock: a 100 behind a final head would be a second response.
	w.mu.Lock()
	w.sent.Store(true)
	w.mu.Unlock()
	h := &w.x.head
	w.buf = appendFields(appendStatus(w.buf, status), fields)
	// RFC 9110 section 6.6.1: a gateway adds the date if the origin has not.
	if _, dated := fields.Get("Date"); !dated {
		w.buf = appendField(w.buf, "Date", message.Date())
	}
	length, w.bodiless = message.ResponseLength(h.method, status, fields, length)
	w.frame(length)
	// The client learns of the end in the head. A close without announcement could meet its next request.
	w.close = w.close || !h.keepAlive || w.x.c.server.once(&w.x.request) || w.x.c.server.closing.Load() != serving || w.x.content && !w.x.body.finishable(h.length)
	// Both versions say only what differs from their default.
	switch {
	case w.close && h.minor == 1:
		w.buf = append(w.buf, "Connection: close\r\n"...)
	case !w.close && h.minor == 0:
		w.buf = append(w.buf, "Connection: keep-alive\r\n"...)
	}

	w.buf = append(w.buf, "\r\n"...)
	return w.err
}

// frame chooses how the client learns where the content ends (RFC 9112 section 6.3).
func (w *writer) frame(length int64) {
	switch {
	case length >= 0:
		w.left = length
		w.buf = append(strconv.AppendInt(append(w.buf, "Content-Length: "...), length, 10), "\r\n"...)
	case w.bodiless:
	case w.x.head.minor == 1:
		w.chunked = true
		w.buf = append(w.buf, "Transfer-Encoding: chunked\r\n"...)
	default:
		// HTTP/1.0 has no chunks: the end of the connection ends the content.
		w.close, w.unbounded = true, true
	}
}

// chunkHead is the most that stands before a chunk's content: its size in hexadecimal, and CRLF.
const chunkHead = 8 + 2

// Room implements message.Writer.
func (w *writer) Room() []byte {
	free := cap(w.buf) - len(w.buf) - chunkHead - 2
	// Little room makes for small reads from the target, so the buffer is sent before it is quite full.
	if free < cap(w.buf)/8 {
		if w.send() != nil {
			return w.buf[:1]
		}
		free = cap(w.buf) - chunkHead - 2
	}
	start := len(w.buf)
	if w.chunked {
		// The size of the chunk is written in front of the content when it is known.
		start += chunkHead
	}
	return w.buf[start : start+free]
}

// Write implements io.Writer. Content beyond the announced length is an error, and never reaches the client.
func (w *writer) Write(p []byte) (int, error) {
	switch {
	case w.err != nil:
		return 0, w.err
	// An empty chunk would end the content (RFC 9112 section 7.1).
	case w.bodiless || len(p) == 0:
		return len(p), nil
	case w.chunked:
		if len(w.buf)+len(p)+chunkHead+2 > cap(w.buf) {
			return w.large(p)
		}
		w.buf = append(strconv.AppendUint(w.buf, uint64(len(p)), 16), "\r\n"...)
		w.buf = append(append(w.buf, p...), "\r\n"...)
		return len(p), w.err
	case !w.unbounded:
		// Content beyond the announced length would be read as the next response.
		if int64(len(p)) > w.left {
			w.err = http.ErrContentLength
			return 0, w.err
		}
		w.left -= int64(len(p))
	}
	w.put(p)
	return len(p), w.err
}

// large writes chunks of what fits.
func (w *writer) large(p []byte) (int, error) {
	total := 0
	for len(p) > 0 {
		n := copy(w.Room(), p)
		if w.err != nil {
			return total, w.err
		}
		_, _ = w.Write(p[:n])
		total, p = total+n, p[n:]
	}
	return total, w.err
}

// put appends to the buffer, where what came from Room stands already, and sends it whenever it is full.
func (w *writer) put(p []byte) {
	if end := len(w.buf); end < cap(w.buf) && &p[0] == &w.buf[:end+1][end] {
		w.buf = w.buf[:end+len(p)]
		return
	}
	for len(p) > 0 && w.err == nil {
		n := copy(w.buf[len(w.buf):cap(w.buf)], p)
		w.buf, p = w.buf[:len(w.buf)+n], p[n:]
		if len(p) > 0 {
			_ = w.send()
		}
	}
}

func (w *writer) send() error {
	if w.err == nil && len(w.buf) > 0 {
		w.err = w.x.c.write(w.buf)
	}
	w.buf = w.buf[:0]
	return w.err
}

// Flush implements message.Writer.
func (w *writer) Flush() error { return w.send() }

// Trailers implements message.Writer. Only chunked content can carry them.
func (w *writer) Trailers(fields message.Fields) {
	if w.chunked && !w.ended {
		w.ended = true
		// The content is whole, but a client that waits for trailers must not take it for the complete message.
		if fields.Writable() != nil {
			w.aborted = true
			return
		}
		w.buf = append(appendFields(append(w.buf, "0\r\n"...), fields), "\r\n"...)
	}
}

// Abort implements message.Writer.
func (w *writer) Abort() { w.aborted = true }

// Fallback implements message.Writer: there is nothing older to go back to.
func (w *writer) Fallback() { w.aborted = true }

// Reset implements message.Writer: HTTP/1.1 has no codes.
func (w *writer) Reset(uint32) { w.Abort() }

// Tunnel implements message.Writer.
func (w *writer) Tunnel(fields message.Fields) (message.Tunnel, error) {
	if err := fields.Writable(); err != nil {
		return nil, err
	}

	c := w.x.c
	// Nobody else may read from the connection once it is a tunnel.
	c.unwatch()
	w.mu.Lock()
	w.sent.Store(true)
	w.mu.Unlock()
	w.tunnelled = true
	c.limit.Until(time.Time{})
	w.buf = append(appendStatus(w.buf, http.StatusSwitchingProtocols), "Connection: Upgrade\r\n"...)
	w.buf = appendField(w.buf, "Upgrade", w.x.request.Upgrade)
	w.buf = append(appendFields(w.buf, fields), "\r\n"...)
	if err := w.send(); err != nil {
		return nil, err
	}

	// Clients may send the first bytes of the new protocol without waiting for the 101.
	early := bytes.Clone(c.reader.buffered())
	// A tunnel may be idle for long, and needs no HTTP buffers.
	w.release()
	c.releaseBuffers()
	return &tunnel{c, early}, nil
}

// end completes the response. It reports whether it is whole.
func (w *writer) end() bool {
	switch {
	case w.aborted || w.tunnelled || w.err != nil || !w.sent.Load() || w.left > 0 && !w.bodiless:
		return false
	case w.chunked && !w.bodiless:
		w.Trailers(nil)
	}
	return w.send() == nil
}

func appendStatus(b []byte, status int) []byte {
	if status == http.StatusOK {
		return append(b, "HTTP/1.1 200 OK\r\n"...)
	}
	b = strconv.AppendInt(append(b, "HTTP/1.1 "...), int64(status), 10)
	return append(append(append(b, ' '), http.StatusText(status)...), "\r\n"...)
}

func appendFields(b []byte, fields message.Fields) []byte {
	for name, value := range fields.Sent {
		b = appendField(b, name, value)
	}
	return b
}

// appendField is for fields that are writable.
func appendField(b []byte, name, value string) []byte {
	return append(append(append(append(b, name...), ": "...), value...), "\r\n"...)
}
