package http1

import (
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"padlock/proxy/message"
)

// writer sends one response. One goroutine calls it, but for proceed, which the reader of the request's body calls.
type writer struct {
	c   *connection
	buf []byte // not yet sent; the head shares a TLS record with the first content

	mu        sync.Mutex // guards sent and the connection against proceed
	sent      bool       // a head was begun
	status    int
	left      int64 // of the announced content
	chunked   bool
	bodiless  bool // nothing may follow the head
	unbounded bool // the content ends with the connection
	close     bool // the connection ends with this response
	aborted   bool
	tunnelled bool
	trailers  message.Fields
	err       error
}

// proceed sends 100 Continue, unless the response has begun: then the client knows already.
func (w *writer) proceed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sent {
		return nil
	}
	return w.c.write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
}

// Interim implements message.Writer. HTTP/1.0 knows no interim responses.
func (w *writer) Interim(status int, fields message.Fields) error {
	if w.c.head.minor == 0 {
		return nil
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
	w.mu.Lock()
	w.sent = true
	w.mu.Unlock()
	h := &w.c.head
	w.status = status
	w.bodiless = h.method == "HEAD" || status == http.StatusNoContent || status == http.StatusNotModified
	w.buf = appendStatus(w.buf, status)
	dated, announced := false, ""
	for _, f := range fields {
		switch {
		case len(f.Name) == 4 && strings.EqualFold(f.Name, "Date"):
			dated = true
		case len(f.Name) == 14 && strings.EqualFold(f.Name, "Content-Length"):
			announced = f.Value
			continue
		case len(f.Name) == 17 && strings.EqualFold(f.Name, "Transfer-Encoding"):
			continue
		}
		w.buf = appendField(w.buf, f.Name, f.Value)
	}
	if !dated {
		w.buf = appendField(w.buf, "Date", date())
	}
	w.frame(status, length, announced)
	w.close = w.close || !h.keepAlive || w.c.server.closing.Load()
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
func (w *writer) frame(status int, length int64, announced string) {
	switch {
	case w.bodiless:
		if announced != "" && status != http.StatusNoContent {
			w.buf = appendField(w.buf, "Content-Length", announced) // of the content that a GET would bring
		} else if w.c.head.method == "HEAD" && length >= 0 && status != http.StatusNoContent && status != http.StatusNotModified {
			w.buf = append(strconv.AppendInt(append(w.buf, "Content-Length: "...), length, 10), "\r\n"...)
		}
	case length >= 0:
		w.left = length
		w.buf = append(strconv.AppendInt(append(w.buf, "Content-Length: "...), length, 10), "\r\n"...)
	case w.c.head.minor == 1:
		w.chunked = true
		w.buf = append(w.buf, "Transfer-Encoding: chunked\r\n"...)
	default:
		w.close, w.unbounded = true, true // HTTP/1.0 knows nothing better
	}
}

// Write implements io.Writer. Content beyond the announced length is an error, and never reaches the client.
func (w *writer) Write(p []byte) (int, error) {
	switch {
	case w.err != nil:
		return 0, w.err
	case w.bodiless || len(p) == 0:
		return len(p), nil
	case w.chunked:
		w.buf = strconv.AppendUint(w.buf, uint64(len(p)), 16)
		w.buf = append(w.buf, "\r\n"...)
		w.put(p)
		w.buf = append(w.buf, "\r\n"...)
		return len(p), w.err
	case !w.unbounded:
		if int64(len(p)) > w.left {
			w.err = http.ErrContentLength
			return 0, w.err
		}
		w.left -= int64(len(p))
	}
	w.put(p)
	return len(p), w.err
}

// put appends to the buffer, or fills it up and sends it with what does not fit.
func (w *writer) put(p []byte) {
	if len(w.buf)+len(p) <= cap(w.buf) {
		w.buf = append(w.buf, p...)
		return
	}
	room := cap(w.buf) - len(w.buf)
	w.buf = append(w.buf, p[:room]...)
	if w.send() != nil {
		return
	}
	if p = p[room:]; len(p) < cap(w.buf) {
		w.buf = append(w.buf, p...)
		return
	}
	w.err = w.c.write(p)
}

func (w *writer) send() error {
	if w.err == nil && len(w.buf) > 0 {
		w.err = w.c.write(w.buf)
	}
	w.buf = w.buf[:0]
	return w.err
}

// Flush implements message.Writer.
func (w *writer) Flush() error { return w.send() }

// Trailers implements message.Writer. Only chunked content can carry them.
func (w *writer) Trailers(fields message.Fields) { w.trailers = fields }

// Abort implements message.Writer.
func (w *writer) Abort() { w.aborted = true }

// Tunnel implements message.Writer.
func (w *writer) Tunnel(fields message.Fields) (message.Tunnel, error) {
	w.c.unwatch()
	if !w.c.server.setIdle(w.c, true) { // a tunnel has no end to wait for: Shutdown closes it
		return nil, net.ErrClosed
	}
	w.mu.Lock()
	w.sent, w.tunnelled = true, true
	w.mu.Unlock()
	w.status = http.StatusSwitchingProtocols
	w.buf = appendFields(appendStatus(w.buf, w.status), fields)
	w.buf = append(w.buf, "\r\n"...)
	if err := w.send(); err != nil {
		return nil, err
	}
	return &tunnel{w.c}, nil
}

// end completes the response. It reports whether it is whole.
func (w *writer) end() bool {
	switch {
	case w.aborted || w.tunnelled || w.err != nil || !w.sent || w.left > 0 && !w.bodiless:
		return false
	case w.chunked && !w.bodiless:
		w.buf = append(w.buf, "0\r\n"...)
		w.buf = appendFields(w.buf, w.trailers)
		w.buf = append(w.buf, "\r\n"...)
	}
	return w.send() == nil
}

func appendStatus(b []byte, status int) []byte {
	b = strconv.AppendInt(append(b, "HTTP/1.1 "...), int64(status), 10)
	return append(append(append(b, ' '), http.StatusText(status)...), "\r\n"...)
}

func appendFields(b []byte, fields message.Fields) []byte {
	for _, f := range fields {
		b = appendField(b, f.Name, f.Value)
	}
	return b
}

// appendField keeps line ends out of a message, whoever put them into a value.
func appendField(b []byte, name, value string) []byte {
	b = append(append(append(b, name...), ": "...), value...)
	for i := len(b) - len(value); i < len(b); i++ {
		if b[i] == '\r' || b[i] == '\n' || b[i] == 0 {
			b[i] = ' '
		}
	}
	return append(b, "\r\n"...)
}

var lastDate atomic.Pointer[dated]

type dated struct {
	second int64
	text   string
}

// date is RFC 9110 section 5.6.7, made once a second.
func date() string {
	now := time.Now()
	if d := lastDate.Load(); d != nil && d.second == now.Unix() {
		return d.text
	}
	d := &dated{now.Unix(), now.UTC().Format(http.TimeFormat)}
	lastDate.Store(d)
	return d.text
}
