package http3

import (
	"errors"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"padlock/proxy/message"
	"padlock/traffic"
)

// writer sends one response through quic-go's.
type writer struct {
	x    *exchange
	w    http.ResponseWriter
	room *writeRoom

	left      int64 // of the announced content; -1: any
	bodiless  bool
	headed    bool
	aborted   bool
	tunnelled bool
	err       error
}

type writeRoom [32 << 10]byte

var writeRooms = sync.Pool{New: func() any { return new(writeRoom) }}

// ofOneConnection has no place in HTTP/3 (RFC 9114 section 4.2).
var ofOneConnection = message.NewNames("Connection", "Proxy-Connection", "Keep-Alive", "Upgrade", "Transfer-Encoding")

func (w *writer) proceed() error {
	if !w.headed {
		w.w.WriteHeader(http.StatusContinue)
	}
	return nil
}

// fields replaces what quic-go's writer has.
func (w *writer) fields(fields message.Fields) http.Header {
	h := w.w.Header()
	clear(h)
	for _, f := range fields {
		if !ofOneConnection.Has(f.Name) {
			h.Add(f.Name, f.Value)
		}
	}
	return h
}

// Interim implements message.Writer.
func (w *writer) Interim(status int, fields message.Fields) error {
	w.fields(fields)
	w.w.WriteHeader(status)
	return nil
}

// Head implements message.Writer.
func (w *writer) Head(status int, fields message.Fields, length int64) error {
	w.headed = true
	w.x.body.answered.Store(true)
	w.bodiless = w.x.request.Method == "HEAD" || status == http.StatusNoContent || status == http.StatusNotModified
	h := w.fields(fields)
	announced := h.Get("Content-Length")
	h.Del("Content-Length")
	switch {
	case status == http.StatusNoContent, status == http.StatusNotModified:
		announced = ""
	case length >= 0 && (!w.bodiless || announced == ""):
		announced = strconv.FormatInt(length, 10)
	case !w.bodiless:
		announced = ""
	}
	if announced != "" {
		h["Content-Length"] = []string{announced}
	}
	if _, ok := h["Date"]; !ok {
		h["Date"] = []string{message.Date()}
	}
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // not to be guessed
	}
	if _, ok := h["Trailer"]; ok && w.bodiless {
		delete(h, "Trailer")
	}
	if w.left = length; w.bodiless {
		w.left = 0
	}
	w.w.WriteHeader(status)
	return w.err
}

// Room implements message.Writer.
func (w *writer) Room() []byte {
	if w.room == nil {
		w.room = writeRooms.Get().(*writeRoom)
	}
	return w.room[:]
}

// Write implements io.Writer. Content beyond the announced length is an error, and never reaches the client.
func (w *writer) Write(p []byte) (int, error) {
	switch {
	case w.err != nil:
		return 0, w.err
	case w.bodiless || len(p) == 0:
		return len(p), nil
	case w.left >= 0:
		if int64(len(p)) > w.left {
			w.err = http.ErrContentLength
			return 0, w.err
		}
		w.left -= int64(len(p))
	}
	_ = w.x.control.SetWriteDeadline(time.Now().Add(w.x.server.o.Stall))
	var n int
	n, w.err = w.w.Write(p)
	w.blame()
	return n, w.err
}

// blame tells of a client that does not read.
func (w *writer) blame() {
	if errors.Is(w.err, os.ErrDeadlineExceeded) {
		w.x.server.tell(traffic.SlowReader, w.x.request.Conn.Addr)
	}
}

// Flush implements message.Writer.
func (w *writer) Flush() error {
	if w.err == nil {
		_ = w.x.control.SetWriteDeadline(time.Now().Add(w.x.server.o.Stall))
		w.err = w.x.control.Flush()
		w.blame()
	}
	return w.err
}

// Trailers implements message.Writer.
func (w *writer) Trailers(fields message.Fields) {
	if w.bodiless {
		return
	}
	for _, f := range fields {
		w.w.Header().Add(http.TrailerPrefix+f.Name, f.Value)
	}
}

// Abort implements message.Writer.
func (w *writer) Abort() { w.aborted = true }

// end gives back what the response needed, and reports whether it is whole.
func (w *writer) end() bool {
	if w.room != nil {
		writeRooms.Put(w.room)
		w.room = nil
	}
	return w.tunnelled || !w.aborted && w.err == nil && w.headed && w.left <= 0
}

// Tunnel implements message.Writer: the response to an extended CONNECT is 200 (RFC 9220 section 3).
func (w *writer) Tunnel(fields message.Fields) (message.Tunnel, error) {
	streamer, ok := w.w.(http3.HTTPStreamer)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	key := w.x.request.Fields.Value("Sec-WebSocket-Key")
	if fields.Value("Sec-WebSocket-Accept") != message.WebSocketAccept(key) {
		return nil, message.ErrAccept
	}
	h := w.fields(fields)
	h.Del("Sec-WebSocket-Accept")
	h.Del("Content-Length")
	w.x.release() // quic-go ends the context as soon as we have said everything, and the client may have more to say
	w.headed, w.tunnelled = true, true
	w.x.body.answered.Store(true)
	w.w.WriteHeader(http.StatusOK)
	stream, err := streamer.HTTPStream()
	if err != nil {
		return nil, err
	}
	return &tunnel{stream, w.x.server.o.Stall}, nil
}

// tunnel is a stream that was taken over.
type tunnel struct {
	stream *http3.Stream
	stall  time.Duration
}

func (t *tunnel) Read(p []byte) (int, error) { return t.stream.Read(p) }
func (t *tunnel) CloseWrite() error          { return t.stream.Close() }

func (t *tunnel) Write(p []byte) (int, error) {
	_ = t.stream.SetWriteDeadline(time.Now().Add(t.stall))
	return t.stream.Write(p)
}

func (t *tunnel) Close() error {
	t.stream.CancelRead(quic.StreamErrorCode(http3.ErrCodeNoError))
	return t.stream.Close()
}
