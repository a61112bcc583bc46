package http2

//lint:file-ignore SA1019 net/http's copy of HTTP/2 is as old as the toolchain that builds padlock; x/net's is the one that go.mod pins.

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"padlock/proxy/message"
	"padlock/proxy/outbound"
)

// TransportOptions say how a backend is reached.
type TransportOptions struct {
	Address        string        // host:port
	Connect        time.Duration // to connect
	Resolver       *net.Resolver // of names; nil: the system's
	ResponseHeader time.Duration // request sent to response head; 0: however long it takes
	Idle           time.Duration // connections without a request are kept for; 0: 90s
	Single         bool          // each request has a connection of its own
}

// Transport speaks HTTP/2 without TLS to one backend, with prior knowledge (RFC 9113 section 3.3): x/net's client
// adapted to message. It is safe for use from many goroutines.
type Transport struct {
	o     TransportOptions
	h2    *http2.Transport
	other atomic.Bool // the last connection began with HTTP/1
}

// firstRead looks at what a backend says first, as x/net does not always tell that it was no frame.
type firstRead struct {
	net.Conn
	other *atomic.Bool
	once  sync.Once
	said  chan struct{} // closed after the first read
}

func (c *firstRead) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.once.Do(func() {
		c.other.Store(bytes.HasPrefix(p[:n], []byte("HTTP/1")))
		close(c.said)
	})
	return n, err
}

// Write fails only after what came before the connection's end has been read.
func (c *firstRead) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		select {
		case <-c.said:
		case <-time.After(100 * time.Millisecond):
		}
	}
	return n, err
}

var _ message.RoundTripper = (*Transport)(nil)

var (
	// ErrUpgrade is given for WebSockets, which a backend is asked for by HTTP/1.1 only.
	ErrUpgrade = errors.New("WebSockets are not forwarded by HTTP/2")
	// ErrOneConnection is given for credentials that authenticate a connection, as those of HTTP/2 are shared.
	ErrOneConnection = errors.New("NTLM is not forwarded by HTTP/2")
	// ErrNotSpoken is wrapped by the errors that a backend gives which speaks something else.
	ErrNotSpoken = errors.New("HTTP/2 is not spoken there")
)

const (
	maxResponseHead = 256 << 10
	maxInterim      = 10
	idleTime        = 90 * time.Second
	endless         = 10 * 365 * 24 * time.Hour
	pingAfter       = 30 * time.Second // of silence on a connection with open streams

	unread = 256 << 10 // of a response that its client does not read yet
	// Of all that share a connection: so many that those who do not read leave enough to others.
	windows = (1<<31 - 1) - 65535
)

// NewTransport dials nothing yet.
func NewTransport(o TransportOptions) *Transport {
	dialer := &outbound.Dialer{Network: "tcp", Address: o.Address, Timeout: o.Connect, Resolver: o.Resolver}
	t := &Transport{o: o}
	if o.ResponseHeader == 0 {
		t.o.ResponseHeader = endless
	}
	t.h2 = newClient()
	t.h2.AllowHTTP, t.h2.DisableCompression = true, true
	t.h2.MaxHeaderListSize = maxResponseHead
	t.h2.IdleConnTimeout, t.h2.ReadIdleTimeout, t.h2.WriteByteTimeout = cmp.Or(o.Idle, idleTime), pingAfter, o.ResponseHeader
	// x/net's client calls this for plain connections too, as AllowHTTP says that there is no TLS.
	t.h2.DialTLSContext = func(ctx context.Context, _, _ string, _ *tls.Config) (net.Conn, error) {
		t.other.Store(false)
		conn, err := dialer.Dial(ctx)
		if err != nil {
			return nil, err
		}
		return &firstRead{Conn: conn, other: &t.other, said: make(chan struct{})}, nil
	}

	return t
}

// newClient is x/net's client with windows of our own. Its own are 4 MiB for a stream and 1 GiB for all: streams whose
// clients do not read held that much memory each, and 256 of them held up all others. It takes windows only from a
// transport of net/http, which is used for nothing else.
func newClient() *http2.Transport {
	h2, err := http2.ConfigureTransports(&http.Transport{
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: unread, MaxReceiveBufferPerConnection: windows},
	})
	if err != nil {
		// This fails only for a transport that has HTTP/2 already.
		panic(err)
	}
	// ConfigureTransports sets a pool that waits for net/http to dial. Without it, the client dials by itself.
	h2.ConnPool = nil
	return h2
}

// Close gives idle connections back. Open requests finish.
func (t *Transport) Close() { t.h2.CloseIdleConnections() }

// RoundTrip implements message.RoundTripper.
func (t *Transport) RoundTrip(ctx *message.Context, r *message.Request, interim message.Interim) (*message.Response, error) {
	if r.Upgrade != "" {
		return nil, ErrUpgrade
	}
	if r.Fields.NeedsOneConnection() {
		return nil, ErrOneConnection
	}
	if err := r.Writable(); err != nil {
		return nil, err
	}

	// The client's context is no context.Context: Hold makes its end cancel this one.
	inner, cancel := context.WithCancelCause(context.Background())
	if !ctx.Hold(message.Closer(func() { cancel(context.Canceled) })) {
		cancel(nil)
		return nil, ctx.Err()
	}

	x := &exchange{ctx: ctx, cancel: cancel, hints: hints{to: interim, cancel: cancel}}
	x.limit = time.AfterFunc(t.o.ResponseHeader, func() { cancel(os.ErrDeadlineExceeded) })

	response, err := t.h2.RoundTrip(t.request(httptrace.WithClientTrace(inner, x.trace()), r, x))
	x.limit.Stop()
	// Interim responses are passed on by another goroutine, which must be done before the final one is written.
	x.hints.end(err == nil)
	if err != nil {
		// Read before end, which cancels the context with another cause.
		cause := context.Cause(inner)
		x.end()
		// Content that was read cannot be sent to another target.
		r.Spent = r.Spent || x.request != nil && x.request.begun.Load()

		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case x.request != nil && x.request.err != nil:
			return nil, &message.BodyError{Err: x.request.err}
		case cause != nil:
			return nil, cause
		}

		err = ofReset(err)
		if errors.Is(err, http2.ErrFrameTooLarge) || t.other.Load() {
			err = fmt.Errorf("%w: %w", ErrNotSpoken, err)
		}

		return nil, err
	}

	x.response = response
	if err := x.check(); err != nil {
		_ = x.Close()
		return nil, err
	}

	length := response.ContentLength
	if r.Method == "HEAD" || response.StatusCode == http.StatusNotModified {
		// HEAD: if the length is known, a field says so.
		length = -1
	}

	fields := fromHeader(response.Header)
	return &message.Response{Status: response.StatusCode, Fields: fields, ContentLength: length, Trailing: len(response.Trailer) > 0 || fields.GRPC(), Body: x}, nil
}

func (t *Transport) request(ctx context.Context, r *message.Request, x *exchange) *http.Request {
	hr := &http.Request{
		Method: r.Method, Host: r.Host, Header: http.Header{}, ContentLength: r.ContentLength,
		Close: t.o.Single,
		// :path is the target as it came.
		URL: &url.URL{Scheme: "http", Host: t.o.Address, Opaque: "//" + r.Host + r.Target},
	}
	if r.Target == "*" {
		hr.URL.Opaque, hr.URL.Path = "", "*"
	}

	for _, f := range r.Fields {
		name := textproto.CanonicalMIMEHeaderKey(f.Name)
		hr.Header[name] = append(hr.Header[name], f.Value)
	}

	if _, ok := hr.Header["User-Agent"]; !ok {
		// nil keeps net/http from adding its own.
		hr.Header["User-Agent"] = nil
	}

	if r.Body != nil {
		if len(r.Declared) > 0 {
			hr.Trailer = http.Header{}
			for _, name := range r.Declared {
				hr.Trailer[textproto.CanonicalMIMEHeaderKey(name)] = nil
			}
		}

		// The limit of the response begins when the content has been sent.
		x.limit.Stop()
		x.request = &requestBody{Body: r.Body, x: x, trailer: hr.Trailer, wait: t.o.ResponseHeader}
		hr.Body = x.request
	}

	return hr.WithContext(ctx)
}

// requestBody hands the client's content on, with its trailers. x/net may read from it when the exchange is long over.
type requestBody struct {
	message.Body
	x       *exchange
	trailer http.Header
	wait    time.Duration

	begun  atomic.Bool // it was read from
	ending atomic.Bool // what a Read gives from now on is our doing, and not the client's

	mu   sync.Mutex
	over bool
	err  error // why the content could not be read
}

func (b *requestBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	// x/net may read after the exchange has ended, when the content belongs to nobody any more.
	if b.over {
		return 0, net.ErrClosed
	}

	b.begun.Store(true)
	n, err := b.Body.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		if b.err = b.Trailers().Writable(); b.err != nil {
			return 0, b.err
		}

		// x/net sends only trailers that were announced with the head.
		for _, f := range b.Trailers() {
			name := textproto.CanonicalMIMEHeaderKey(f.Name)
			if _, declared := b.trailer[name]; declared {
				b.trailer[name] = append(b.trailer[name], f.Value)
			}
		}

		// The time for an answer begins when the request is complete.
		if !b.x.answered.Load() {
			b.x.limit.Reset(b.wait)
		}
	case err != nil && !b.ending.Load():
		b.err = err
	}

	return n, err
}

// Close is x/net's, when the target has ended, or wants no more. A Read that waits for the client would keep the answer
// waiting with it; what else is left of the content is the front's affair.
func (b *requestBody) Close() error {
	if b.mu.TryLock() {
		b.over = true
		b.mu.Unlock()
		return nil
	}
	b.release()
	return nil
}

// end lets go of the content. What nobody has begun to read stays as it is: it can go to another target.
func (b *requestBody) end() {
	_ = b.Close()
	if b.begun.Load() {
		b.release()
	}
}

// release ends a Read, and waits for its end.
func (b *requestBody) release() {
	b.ending.Store(true)
	_ = b.Body.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
}

// exchange is one request on its way, and then its response's body.
type exchange struct {
	ctx      *message.Context
	cancel   context.CancelCauseFunc
	limit    *time.Timer
	request  *requestBody // nil: none
	answered atomic.Bool
	hints    hints

	response *http.Response
	received int64
	closed   bool
}

var (
	errStatus       = errors.New("malformed HTTP/2 response: its status is none")
	errUnasked      = errors.New("malformed HTTP/2 response: it switches protocols, which HTTP/2 does not")
	errInterimCount = errors.New("malformed HTTP/2 response: too many interim responses")
)

// check refuses what x/net's client lets pass, and HTTP/1.1 would understand otherwise.
func (x *exchange) check() error {
	if x.response.StatusCode < 200 || x.response.StatusCode > 999 || len(x.response.Status) < 4 || x.response.Status[3] != ' ' {
		return errStatus
	}
	return nil
}

func (x *exchange) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			return x.hints.add(code, fromHeader(http.Header(header)))
		},
		GotFirstResponseByte: func() { x.answered.Store(true) },
	}
}

// hints are the interim responses to a request. They come from the goroutine that reads for all requests of a
// connection, possibly when the request has ended; it neither waits for the client nor touches anything of the
// request's.
type hints struct {
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	to      message.Interim // nil: the request has ended
	came    int
	queue   []hint
	passing chan struct{} // closed when all that had come was passed on; nil: nobody passes on
}

type hint struct {
	status int
	fields message.Fields
}

// add takes an interim response. An error ends the request.
func (h *hints) add(status int, fields message.Fields) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.to == nil {
		return nil
	}

	switch h.came++; {
	case h.came > maxInterim:
		return errInterimCount
	case status == http.StatusSwitchingProtocols:
		return errUnasked
	case status == http.StatusContinue:
		// The client gets its own 100 when its content is read.
		return nil
	}

	h.queue = append(h.queue, hint{status, fields})
	// The reading goroutine of the connection must not wait for one client, so another goroutine writes.
	if h.passing == nil {
		h.passing = make(chan struct{})
		go h.pass(h.to, h.passing)
	}

	return nil
}

// pass passes on what has come.
func (h *hints) pass(to message.Interim, done chan<- struct{}) {
	defer close(done)
	for {
		h.mu.Lock()
		if len(h.queue) == 0 {
			h.passing = nil
			h.mu.Unlock()
			return
		}

		next := h.queue[0]
		h.queue = h.queue[1:]
		h.mu.Unlock()
		if err := to.Interim(next.status, next.fields); err != nil {
			h.cancel(err)
		}
	}
}

// end returns when nothing more is passed on: all that has come, or, where the request has failed, what is being passed
// on.
func (h *hints) end(all bool) {
	h.mu.Lock()
	h.to = nil
	if !all {
		h.queue = nil
	}
	passing := h.passing
	h.mu.Unlock()
	if passing != nil {
		<-passing
	}
}

// Read implements io.Reader. io.EOF comes only when the content is whole.
func (x *exchange) Read(p []byte) (int, error) {
	n, err := x.response.Body.Read(p)
	x.received += int64(n)
	return n, ofReset(err)
}

// ofReset makes known that a stream was reset.
func ofReset(err error) error {
	var reset http2.StreamError
	if errors.As(err, &reset) {
		return &message.ResetError{Code: uint32(reset.Code), Err: err}
	}
	return err
}

// Trailers implements message.Body.
func (x *exchange) Trailers() message.Fields {
	fields := fromHeader(x.response.Trailer)
	fields.DelFunc(message.ForbiddenTrailer)
	return fields
}

// Buffered implements message.Body: it is not known.
func (x *exchange) Buffered() int { return 0 }

// Received implements message.Body.
func (x *exchange) Received() int64 { return x.received }

// Close ends the exchange.
func (x *exchange) Close() error {
	if x.closed {
		return nil
	}
	x.closed = true
	err := x.response.Body.Close()
	x.end()
	return err
}

// end lets go of all that belongs to the client.
func (x *exchange) end() {
	x.ctx.Release()
	x.cancel(context.Canceled)
	if x.request != nil {
		x.request.end()
	}
}

// fromHeader lists a header map's fields, sorted by name because the map has lost their order.
func fromHeader(h http.Header) message.Fields {
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
