// Package nethttp adapts net/http's handler shape to message, for the fronts that are built on it.
//
//	http.Server{Handler: nethttp.Handler(h, 20*time.Second)}
package nethttp

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"padlock/proxy/message"
)

type connKey struct{}

// WithConn returns a context that tells Handler which connection a request came by.
func WithConn(ctx context.Context, c *message.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// Handler serves h. A client that makes no progress for stall while a body is read from it or written to it is cut off.
func Handler(h message.Handler, stall time.Duration) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, hr *http.Request) {
		control := http.NewResponseController(rw)
		w := &writer{rw: rw, control: control, request: hr, stall: stall}
		ctx := &message.Context{}
		defer context.AfterFunc(hr.Context(), ctx.Cancel)()
		h.Serve(ctx, newRequest(hr, control, stall), w)
		w.end()
	})
}

func newRequest(hr *http.Request, control *http.ResponseController, stall time.Duration) *message.Request {
	conn, _ := hr.Context().Value(connKey{}).(*message.Conn)
	r := &message.Request{
		Method: hr.Method, Scheme: "https", Host: hr.Host, Target: hr.RequestURI, Proto: hr.Proto,
		Fields: FromHeader(hr.Header), ContentLength: hr.ContentLength, Conn: conn,
	}
	if hr.Body != nil && hr.Body != http.NoBody {
		r.Body = &requestBody{request: hr, control: control, stall: stall}
		for name := range hr.Trailer { // before the body is read, net/http holds the announced names here
			r.Declared = append(r.Declared, name)
		}
	}
	return r
}

// FromHeader lists a header map's fields, sorted by name because the map has lost their order.
func FromHeader(h http.Header) message.Fields {
	if len(h) == 0 {
		return nil
	}
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	fields := make(message.Fields, 0, len(h))
	for _, name := range names {
		for _, value := range h[name] {
			fields.Add(name, value)
		}
	}
	return fields
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// AddTo adds fields to a header map.
func AddTo(h http.Header, fields message.Fields) {
	for _, f := range fields {
		h.Add(f.Name, f.Value)
	}
}

// requestBody reads what the client sends, and gives up when nothing comes for the stall time.
type requestBody struct {
	request *http.Request
	control *http.ResponseController
	stall   time.Duration
	n       atomic.Int64
}

func (b *requestBody) Buffered() int   { return 0 }
func (b *requestBody) Received() int64 { return b.n.Load() }

func (b *requestBody) Read(p []byte) (int, error) {
	// The deadline stands only while we wait for the client: a slow backend must not count against it.
	_ = b.control.SetReadDeadline(time.Now().Add(b.stall))
	n, err := b.request.Body.Read(p)
	b.n.Add(int64(n))
	_ = b.control.SetReadDeadline(time.Time{})
	return n, err
}

func (b *requestBody) Close() error             { return b.request.Body.Close() }
func (b *requestBody) Trailers() message.Fields { return FromHeader(b.request.Trailer) }

// writer is one response. aborted is read after the handler has returned, on the same goroutine.
type writer struct {
	rw       http.ResponseWriter
	control  *http.ResponseController
	request  *http.Request
	stall    time.Duration
	aborted  bool
	trailers message.Fields
}

func (w *writer) Interim(status int, fields message.Fields) error {
	header := w.rw.Header()
	clear(header)
	AddTo(header, fields)
	w.rw.WriteHeader(status)
	clear(header)
	return nil
}

func (w *writer) Head(status int, fields message.Fields, length int64) error {
	header := w.rw.Header()
	AddTo(header, fields)
	header.Del("Content-Length")
	if length >= 0 && status != http.StatusNoContent {
		header.Set("Content-Length", itoa(length))
	}
	if _, ok := header["Content-Type"]; !ok {
		header["Content-Type"] = nil // no guessing: what the backend did not say stays unsaid
	}
	w.rw.WriteHeader(status)
	return nil
}

func (w *writer) Write(p []byte) (int, error) {
	_ = w.control.SetWriteDeadline(time.Now().Add(w.stall))
	n, err := w.rw.Write(p)
	_ = w.control.SetWriteDeadline(time.Time{})
	return n, err
}

func (w *writer) Flush() error {
	_ = w.control.SetWriteDeadline(time.Now().Add(w.stall))
	err := w.control.Flush()
	_ = w.control.SetWriteDeadline(time.Time{})
	return err
}

func (w *writer) Room() []byte { return make([]byte, 32<<10) }

func (w *writer) Trailers(fields message.Fields) { w.trailers = slices.Clone(fields) }
func (w *writer) Abort()                         { w.aborted = true }

func (w *writer) end() {
	if w.aborted {
		panic(http.ErrAbortHandler) // the one way to make net/http cut a response short
	}
	for _, f := range w.trailers {
		w.rw.Header().Add(http.TrailerPrefix+f.Name, f.Value)
	}
}

// Tunnel is for HTTP/1.1 only so far: extended CONNECT (RFC 8441) is not offered.
func (w *writer) Tunnel(message.Fields) (message.Tunnel, error) { return nil, errors.ErrUnsupported }
