package message

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
)

// FromHTTP answers requests with an http.Handler:
//
//	files := message.FromHTTP(http.FileServerFS(pages))
//	response, err := files.RoundTrip(ctx, request, interim)
//
// The handler runs in a goroutine of its own, which has ended when Close of the response's body returns. What it writes
// waits, in a buffer of a bounded size, until it is read. Its request's context ends when the client goes away, and
// when the body is closed before the end. A panic becomes a *PanicError and http.ErrAbortHandler itself: of RoundTrip,
// or of a Read where the head was returned already. Protocols cannot be switched, and connections not be taken over.
func FromHTTP(h http.Handler) RoundTripper {
	return httpAnswerer(func(w http.ResponseWriter, r *http.Request) bool {
		h.ServeHTTP(w, r)
		return true
	})
}

// TryHTTP is FromHTTP for what may leave a request to others: answer then returns false and has written nothing, and
// RoundTrip's error is ErrDeclined.
func TryHTTP(answer func(http.ResponseWriter, *http.Request) bool) RoundTripper {
	return httpAnswerer(answer)
}

var (
	// ErrDeclined is given where a request is left to others.
	ErrDeclined = errors.New("the request is left to others")
	// ErrTarget is given where package net/url cannot read a request's target.
	ErrTarget = errors.New("the request target is malformed")
)

// PanicError is a handler that has panicked.
type PanicError struct {
	Value any
	Stack []byte
}

// Error implements error.
func (e *PanicError) Error() string { return "panic: " + fmt.Sprint(e.Value) }

type httpAnswerer func(http.ResponseWriter, *http.Request) bool

// RoundTrip implements RoundTripper.
func (answer httpAnswerer) RoundTrip(ctx *Context, r *Request, interim Interim) (*Response, error) {
	request, err := httpRequest(r)
	if err != nil {
		return nil, err
	}
	w := &httpWriter{asked: r, interim: interim, header: http.Header{}, declared: -1, done: make(chan struct{})}
	w.changed.L = &w.mu
	var within context.Context
	within, w.cancel = context.WithCancel(context.WithValue(ctx, http.LocalAddrContextKey, net.Addr(localAddr(r.Conn.Local))))

	go w.run(answer, request.WithContext(within))
	return w.response()
}

// localAddr is the address that has accepted a connection, for handlers that ask their context for it.
type localAddr string

func (localAddr) Network() string  { return "tcp" }
func (a localAddr) String() string { return string(a) }

// httpRequest is a request as a server of package net/http would give it to its handler.
func httpRequest(r *Request) (*http.Request, error) {
	at, err := url.ParseRequestURI(r.Target)
	if err != nil {
		return nil, ErrTarget
	}
	request := &http.Request{
		Method: r.Method, URL: at, Host: r.Host, RequestURI: r.Target, RemoteAddr: r.Conn.Remote, TLS: r.Conn.TLS,
		Proto: r.Proto, Header: make(http.Header, len(r.Fields)), ContentLength: r.ContentLength, Body: http.NoBody,
	}
	request.ProtoMajor, request.ProtoMinor, _ = http.ParseHTTPVersion(r.Proto)
	for _, f := range r.Fields {
		name := http.CanonicalHeaderKey(f.Name)
		request.Header[name] = append(request.Header[name], f.Value)
	}

	// RFC 9113 section 8.2.3: clients may split the field, and handlers expect one.
	if crumbs := request.Header["Cookie"]; len(crumbs) > 1 {
		request.Header["Cookie"] = []string{strings.Join(crumbs, "; ")}
	}

	if r.Body == nil {
		return request, nil
	}

	request.Body = &httpBody{r.Body, request}
	if r.ContentLength < 0 {
		request.TransferEncoding = []string{"chunked"}
	}

	for _, name := range r.Declared {
		if request.Trailer == nil {
			request.Trailer = http.Header{}
		}
		request.Trailer[http.CanonicalHeaderKey(name)] = nil
	}

	return request, nil
}

// httpBody is a request's content, whose end fills in the trailers.
type httpBody struct {
	Body
	request *http.Request
}

// Read implements io.Reader.
func (b *httpBody) Read(p []byte) (int, error) {
	n, err := b.Body.Read(p)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	for _, f := range b.Trailers() {
		if b.request.Trailer == nil {
			b.request.Trailer = http.Header{}
		}
		b.request.Trailer.Add(f.Name, f.Value)
	}
	return n, io.EOF
}

const (
	httpHead = 2 << 10  // of content, which the head waits for, so that a short response has a length; as in net/http
	httpRoom = 32 << 10 // of content that was written and not read yet
)

// httpWriter is what a handler writes its response to, and what that is read from.
type httpWriter struct {
	asked   *Request
	interim Interim
	cancel  context.CancelFunc
	done    chan struct{} // closed when the handler's goroutine has ended

	// The handler's goroutine alone has these:
	header   http.Header
	fixed    http.Header // as it was at WriteHeader
	status   int
	declared int64 // by Content-Length; -1: none
	written  int64

	mu       sync.Mutex
	changed  sync.Cond
	head     *Response // nil until it can be sent
	pending  []byte    // content that was written and not read
	read     int64
	ended    bool
	closed   bool // by the reader
	err      error
	trailers Fields
}

// run calls the handler.
func (w *httpWriter) run(answer httpAnswerer, request *http.Request) {
	defer close(w.done)
	defer w.cancel()
	err := w.contain(answer, request)
	if request.MultipartForm != nil {
		// net/http's server removes the files of a form after the handler, so handlers rely on it.
		_ = request.MultipartForm.RemoveAll()
	}

	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended, w.err = true, err
	if err == nil {
		w.publish()
		w.trailers = w.trailing()
	}

	w.changed.Broadcast()
}

// contain returns what a handler has panicked with.
func (w *httpWriter) contain(answer httpAnswerer, request *http.Request) (err error) {
	defer func() {
		switch cause := recover(); cause {
		case nil:
		// This panic is the standard library's way to cut a response, and no fault.
		case http.ErrAbortHandler:
			err = http.ErrAbortHandler
		default:
			err = &PanicError{cause, debug.Stack()}
		}
	}()

	if !answer(w, request) {
		return ErrDeclined
	}
	if w.fixed == nil {
		w.WriteHeader(http.StatusOK)
	}
	return nil
}

// response waits for the head.
func (w *httpWriter) response() (*Response, error) {
	w.mu.Lock()
	for w.head == nil && !w.ended {
		w.changed.Wait()
	}
	head, err := w.head, w.err
	w.mu.Unlock()
	if head == nil {
		// Nothing was sent, so the caller may try another way: the handler must not use the request any more by
		// then.
		<-w.done
		return nil, err
	}
	return head, nil
}

// Header implements http.ResponseWriter.
func (w *httpWriter) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *httpWriter) WriteHeader(status int) {
	switch {
	// Only the first call counts, as in net/http.
	case w.fixed != nil:
		return
	case status == http.StatusSwitchingProtocols, status < 100, status > 999:
		panic(fmt.Sprintf("a handler cannot answer with %d", status))
	case status < 200:
		if w.interim != nil {
			// If the client has gone, the context ends.
			_ = w.interim.Interim(status, httpFields(w.header))
		}
		return
	}

	// The handler may go on changing its header, for trailers among other things.
	w.status, w.fixed = status, w.header.Clone()
	if w.fixed == nil {
		w.fixed = http.Header{}
	}

	if n, ok := Decimal(w.fixed.Get("Content-Length")); ok {
		w.declared = n
	} else {
		w.fixed.Del("Content-Length")
	}
}

// Write implements io.Writer.
func (w *httpWriter) Write(p []byte) (int, error) { return writeHTTP(w, p) }

// WriteString implements io.StringWriter.
func (w *httpWriter) WriteString(s string) (int, error) { return writeHTTP(w, s) }

// writeHTTP waits for room, once the head is there.
func writeHTTP[T []byte | string](w *httpWriter, p T) (int, error) {
	if w.fixed == nil {
		w.WriteHeader(http.StatusOK)
	}

	_, bodiless := ResponseLength("GET", w.status, nil, 0)
	switch {
	case len(p) == 0:
		return 0, nil
	case bodiless:
		return 0, http.ErrBodyNotAllowed
	case w.declared >= 0 && w.written+int64(len(p)) > w.declared:
		return 0, http.ErrContentLength
	}

	w.written += int64(len(p))
	// Counted and dropped: the length of what a GET would bring is of use to the client.
	if w.asked.Method == http.MethodHead {
		return len(p), nil
	}

	w.mu.Lock()
	defer w.mu.Unlock()

	for at := 0; at < len(p); {
		// A handler that writes faster than its client reads waits here, as it would in net/http's server.
		for len(w.pending) >= httpRoom && !w.closed {
			w.changed.Wait()
		}

		if w.closed || w.ended {
			return at, io.ErrClosedPipe
		}

		n := min(len(p)-at, httpRoom-len(w.pending))
		w.pending = append(w.pending, p[at:at+n]...)
		at += n
		if len(w.pending) > httpHead {
			// A short response is complete before its head is sent, and so gets a Content-Length.
			w.publish()
		}

		w.changed.Broadcast()
	}

	return len(p), nil
}

// Flush implements http.Flusher.
func (w *httpWriter) Flush() { _ = w.FlushError() }

// FlushError is what http.ResponseController calls.
func (w *httpWriter) FlushError() error {
	if w.fixed == nil {
		w.WriteHeader(http.StatusOK)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.ended {
		return io.ErrClosedPipe
	}
	w.publish()
	w.changed.Broadcast()
	return nil
}

// EnableFullDuplex is what http.ResponseController calls: content may be read while the response is written.
func (w *httpWriter) EnableFullDuplex() error { return nil }

// publish makes the head. It is called with the lock held.
func (w *httpWriter) publish() {
	if w.head != nil {
		return
	}

	w.head = &Response{Status: w.status, ContentLength: w.declared, Trailing: len(w.fixed["Trailer"]) > 0, Body: w}
	_, bodiless := ResponseLength("GET", w.status, nil, 0)
	switch {
	case bodiless:
		w.head.ContentLength = 0
	// Of HEAD without content, nothing is known.
	case w.declared < 0 && w.ended && (w.written > 0 || w.asked.Method != http.MethodHead):
		w.head.ContentLength = w.written
	}

	// net/http's server sniffs the type of the first content, and handlers rely on it.
	if _, typed := w.fixed["Content-Type"]; !typed && len(w.pending) > 0 && w.fixed.Get("Content-Encoding") == "" {
		w.fixed.Set("Content-Type", http.DetectContentType(w.pending))
	}

	w.head.Fields = httpFields(w.fixed)
}

// httpFields are a header's fields that a response may have.
func httpFields(header http.Header) (fields Fields) {
	for _, name := range slices.Sorted(maps.Keys(header)) {
		if strings.HasPrefix(name, http.TrailerPrefix) || !Token(name) {
			continue
		}
		for _, value := range header[name] {
			fields.Add(name, strings.Trim(oneLine.Replace(value), " \t"))
		}
	}
	fields.RemoveHopByHop()
	return fields
}

// oneLine is what net/http makes of values with line breaks.
var oneLine = strings.NewReplacer("\n", " ", "\r", " ")

// trailing are the trailers: those that were declared, and those of names that say what they are.
func (w *httpWriter) trailing() (fields Fields) {
	add := func(name string, values []string) {
		if !Token(name) || ForbiddenTrailer(name) {
			return
		}
		for _, value := range values {
			fields.Add(name, strings.Trim(oneLine.Replace(value), " \t"))
		}
	}

	for _, line := range w.fixed["Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			name = http.CanonicalHeaderKey(strings.Trim(name, " \t"))
			add(name, w.header[name])
		}
	}

	for _, name := range slices.Sorted(maps.Keys(w.header)) {
		if plain, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			add(plain, w.header[name])
		}
	}

	return fields
}

// Read implements Body.
func (w *httpWriter) Read(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.pending) == 0 && !w.ended && !w.closed {
		w.changed.Wait()
	}

	if w.closed {
		return 0, io.ErrClosedPipe
	}

	n := copy(p, w.pending)
	w.read += int64(n)
	w.pending = w.pending[:copy(w.pending, w.pending[n:])]
	w.changed.Broadcast()
	switch {
	case len(w.pending) > 0, !w.ended, n > 0 && w.err != nil:
		// Content that came before an error is passed on first.
		return n, nil
	case w.err != nil:
		return 0, w.err
	}

	return n, io.EOF
}

// Trailers implements Body.
func (w *httpWriter) Trailers() Fields {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.trailers
}

// Buffered implements Body.
func (w *httpWriter) Buffered() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.pending)
}

// Received implements Body.
func (w *httpWriter) Received() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.read
}

// Close implements Body. It returns when the handler has.
func (w *httpWriter) Close() error {
	w.mu.Lock()
	w.closed = true
	ended := w.ended
	w.changed.Broadcast()
	w.mu.Unlock()
	// The handler's context ends, as it does when a client goes away.
	w.cancel()
	if !ended && w.asked.Body != nil {
		// The handler may wait for content.
		_ = w.asked.Body.Close()
	}
	<-w.done
	return nil
}
