package http1

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"padlock/internal/pool"
	"padlock/proxy/deadline"
	"padlock/proxy/message"
)

// backend is one connection to a backend. One exchange at a time uses it, from one goroutine; a second one sends the
// content, if any.
type backend struct {
	transport *Transport
	tcp       net.Conn        // or unix
	conn      net.Conn        // tcp, or TLS above it
	raw       syscall.RawConn // of tcp
	until     time.Time       // when an idle one is too old to be used again
	used      bool            // has served an exchange

	securing time.Duration // that TLS took

	authenticated bool          // or about to be: it serves nobody but the client whose credentials it has seen
	owner         *message.Conn // of that client; nil: it cannot be kept

	limit   deadline.Deadline
	room    *exchangeBuffer // of reader
	reader  reader
	outRoom *exchangeBuffer // of out
	out     []byte          // the request's head, and content that was at hand
	head    responseHead
	ctx     *message.Context

	asked    bool // something was sent
	answered bool // something came back
	consumed bool // content of the request was read, and cannot be read again
	whole    bool // out has all of it

	step    func(fd uintptr) bool
	phase   phase
	pending *message.Request
	sent    int   // of out
	err     error // of step

	sender    sync.WaitGroup
	sending   atomic.Bool  // the sender runs
	last      atomic.Bool  // the sender has read all of the content
	request   message.Body // nil: none, or sent with the head
	destroyed atomic.Bool

	mu      sync.Mutex
	headed  bool  // the response's head has come: the sender sets no more limits
	refused error // why the request's content could not be read
}

const responseBuffer = 20 << 10 // holds a head with a content of 16 KiB, so that one read brings both

type exchangeBuffer [responseBuffer]byte

// exchangeBuffers hold a request that goes out, or a response that comes.
var exchangeBuffers = pool.Of(func(b *exchangeBuffer) []byte { return b[:] })

// reply is a response with what it consists of. It stays the client's when its connection serves others.
type reply struct {
	response message.Response
	body     responseBody
	room     [16]message.Field // of its fields, if they are not more
}

// Close ends all that waits for the connection, and what would; destroy follows. It waits for nothing itself, as
// net.Conn's Close does for calls that are under way: whoever cancels a request may hold what such a call is about to
// ask for.
func (b *backend) Close() error {
	b.limit.Interrupt()
	// A deadline in the past ends writes that are under way, without waiting for them as Close would.
	return b.tcp.SetWriteDeadline(time.Unix(1, 0))
}

func (b *backend) destroy() {
	if b.destroyed.Swap(true) {
		return
	}
	// Closing first makes the sender's write fail, so that settle does not wait for the backend.
	b.tcp.Close()
	b.settle()
}

// settle waits for the sender, and gives back what only exchanges need.
func (b *backend) settle() {
	if b.sending.Load() && !b.last.Load() {
		// The sender may wait for content that the client will never send.
		_ = b.request.Close()
	}
	b.sender.Wait()
	b.request = nil
	if b.ctx != nil {
		b.ctx.Release()
		b.ctx = nil
	}
	b.release()
	b.head = responseHead{}
}

// release gives back the buffers.
func (b *backend) release() {
	if b.room != nil {
		exchangeBuffers.Put(b.room)
		b.room, b.reader = nil, reader{}
	}
	b.free()
}

// roundTrip sends r and reads the head of its answer. After an error the connection is of no use.
// again is the whole request as another connection has sent it, if one has.
func (b *backend) roundTrip(ctx *message.Context, r *message.Request, interim message.Interim, again []byte) (*message.Response, error) {
	if !ctx.Hold(b) {
		return nil, ctx.Err()
	}

	b.ctx = ctx
	b.claim(r)
	b.asked, b.answered, b.consumed, b.headed, b.refused = false, false, false, false, nil
	b.room, b.outRoom = exchangeBuffers.Get(), exchangeBuffers.Get()
	b.reader = reader{source: b.conn, limit: &b.limit, buf: b.room[:]}
	// Clear the limit of the request before: its timer may be about to fire.
	b.limit.Until(time.Time{})
	if b.whole = again != nil; b.whole {
		// The bytes of the first attempt are sent again as they were. Building them again would need the content,
		// which is gone.
		b.out = append(b.outRoom[:0], again...)
	} else {
		b.out = appendRequest(b.outRoom[:0], r, b.transport.o.Single)
	}

	if err := b.ask(r); err != nil {
		return nil, err
	}

	return b.readResponse(r, interim)
}

// claim notes whose request the connection carries, and whether it authenticates the connection: then it is never
// another client's. A connection of HTTP/2 or 3, or of a proxy that sends requests of several clients, owns none.
func (b *backend) claim(r *message.Request) {
	b.authenticated = b.authenticated || r.Fields.AuthenticatesConnection()
	b.owner = nil
	if r.Conn != nil && !r.Shared && strings.HasPrefix(r.Proto, "HTTP/1.") {
		b.owner = r.Conn
	}
}

// readResponse reads heads until the final one.
func (b *backend) readResponse(r *message.Request, interim message.Interim) (*message.Response, error) {
	// RFC 9110 section 10.1.1: send the content after a while even without a 100, as older servers never send one.
	waiting := b.request != nil && r.Expect
	if waiting {
		b.limit.Until(time.Now().Add(expectContinue))
	}

	for range maxInterim + 1 {
		// Each head gets a structure of its own. Interim responses may still be on their way to the client when the
		// next one comes.
		a := new(reply)
		text, err := b.reader.responseHead(maxResponseHead)
		if waiting && deadline.Exceeded(err) && !b.answered {
			// The target will not answer 100, but may want the content all the same.
			waiting = false
			b.limit.Until(time.Time{})
			b.send(r)
			text, err = b.reader.responseHead(maxResponseHead)
		}

		b.answered = b.answered || b.reader.came
		if err == nil {
			err = b.head.parse(text, a.room[:0], r.Method, r.Upgrade)
		} else if !isMalformed(err) {
			// An error of the network may be the consequence of content that the client did not send.
			return nil, b.cause(err)
		}

		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}

		if b.head.status >= 200 || b.head.status == 101 {
			// The sender sets a limit for the head when it is done. It must not do so once the head is here, or it
			// would cut the content.
			b.mu.Lock()
			b.headed = true
			b.limit.Until(time.Time{})
			b.mu.Unlock()
			b.authenticated = b.authenticated || b.head.fields.AuthenticatesConnection()
			return b.begin(a, r), nil
		}

		// 100 answers our own Expect. All others, such as 103, are the client's.
		if b.head.status != 100 {
			if err := interim.Interim(b.head.status, b.head.fields); err != nil {
				return nil, err
			}
		} else if waiting {
			waiting = false
			b.limit.Until(time.Time{})
			// The first read of the content sends the client its own 100.
			b.send(r)
		}
	}

	return nil, fmt.Errorf("%w: %w", ErrMalformed, errInterimCount)
}

// cause is why a response did not come: perhaps because the client's content did not.
func (b *backend) cause(err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refused != nil {
		return &message.BodyError{Err: b.refused}
	}
	return err
}

func isMalformed(err error) bool {
	var no *statusError
	return errors.As(err, &no) || errors.Is(err, errStatusLine)
}

// begin makes the response of the head that was read.
func (b *backend) begin(a *reply, r *message.Request) *message.Response {
	h := &b.head
	a.response = message.Response{Status: h.status, Fields: h.fields, ContentLength: h.length}
	if h.upgraded {
		// The content is complete, and the other protocol begins behind it.
		if b.sending.Load() {
			b.finishSending()
		}

		// What came right behind the 101 belongs to the tunnel, and the buffer goes back.
		early := bytes.Clone(b.reader.buffered())
		// A tunnel may be idle for long, and needs no HTTP buffers.
		b.release()
		a.response.Tunnel = &backendTunnel{b: b, early: early}
		return &a.response
	}

	a.body = responseBody{b: b, content: content{
		r: &b.reader, left: max(h.length, 0), chunked: h.length == lengthChunked, unbounded: h.length == lengthUnbounded,
		done: h.length == 0, limit: maxResponseHead, padded: true,
	}}
	switch {
	case h.length < 0:
		a.response.ContentLength = -1
	case r.Method == "HEAD" || h.status == 304:
		// HEAD: if the length is known, a field says so.
		a.response.ContentLength = -1
	}

	a.response.Body = &a.body
	return &a.response
}

// responseBody streams a response's content. Its Close, which comes after all reads, gives the connection back.
type responseBody struct {
	b *backend
	content
	received int64
	closed   bool
}

// Read implements io.Reader. io.EOF comes only when the content is whole.
func (r *responseBody) Read(p []byte) (int, error) {
	if r.done || r.closed {
		return 0, io.EOF
	}
	n, err := r.read(p)
	r.received += int64(n)
	switch {
	// io.EOF from the connection means that the content was cut. Passing it on would make it look whole.
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	case err == nil && r.done:
		err = io.EOF
	}
	return n, err
}

// Trailers implements message.Body.
func (r *responseBody) Trailers() message.Fields { return r.trailers }

// Buffered implements message.Body.
func (r *responseBody) Buffered() int {
	switch {
	case r.closed:
		// After Close, the connection may belong to another request.
		return 0
	case r.unbounded:
		return len(r.r.buffered())
	}
	return r.buffered()
}

// Received implements message.Body.
func (r *responseBody) Received() int64 { return r.received }

// Close implements message.Body.
func (r *responseBody) Close() error {
	if r.closed {
		return nil
	}

	r.closed = true
	b := r.b
	if r.done && b.sending.Load() {
		b.finishSending()
	}

	// A request whose content has not been sent whole, and bytes behind the response, leave the connection in a state
	// that cannot be trusted.
	clean := r.done && b.reusable()
	// A connection that has authenticated for nobody in particular must not serve anybody else.
	if b.authenticated && b.owner == nil {
		clean = false
	}

	idle := b.transport.o.Idle
	switch {
	case b.authenticated:
		// A connection that has authenticated ends with the client's, or when the backend closes it.
		idle = cmp.Or(b.head.idle, endless)
	// The backend announced in Keep-Alive when it closes. A request must not meet that moment.
	case b.head.idle > 0:
		idle = min(idle, b.head.idle)
	}

	b.until = time.Now().Add(idle)
	// Release reports false when a cancellation has already taken hold of the connection.
	if !clean || !b.ctx.Release() {
		b.destroy()
		return nil
	}

	b.settle()
	if b.authenticated {
		b.transport.keep(b)
	} else {
		b.transport.put(b)
	}

	return nil
}

// reusable reports whether a response that has come whole leaves the connection ready for another request.
func (b *backend) reusable() bool {
	return b.head.keepAlive && !b.transport.o.Single && len(b.reader.buffered()) == 0 &&
		(b.request == nil || b.last.Load())
}

// lateContent is how long content may still come after the whole of the answer to it, and lateSilence how long nothing
// of it may.
const (
	lateContent = 10 * time.Second
	lateSilence = 2 * time.Second
)

// finishSending lets a request end whose answer came early, so that both connections stay of use.
func (b *backend) finishSending() {
	sent := make(chan struct{})
	go func() {
		b.sender.Wait()
		close(sent)
	}()

	silence := time.NewTicker(lateSilence)
	defer silence.Stop()

	end, came := time.Now().Add(lateContent), b.request.Received()
	for {
		select {
		case <-sent:
			return
		// As long as content flows, finishing is cheaper than two new connections. The end bounds clients that send
		// slowly forever.
		case now := <-silence.C:
			if more := b.request.Received(); more > came && now.Before(end) {
				came = more
				continue
			}

			b.tcp.Close()
			_ = b.request.Close()
			<-sent
			return
		}
	}
}

// backendTunnel is the backend's side after a 101: first what it had sent along, then the connection.
type backendTunnel struct {
	b     *backend
	early []byte
}

func (t *backendTunnel) Read(p []byte) (int, error) {
	if len(t.early) > 0 {
		n := copy(p, t.early)
		t.early = t.early[n:]
		return n, nil
	}
	return t.b.limit.Read(t.b.conn, p)
}

func (t *backendTunnel) Write(p []byte) (int, error) { return t.b.conn.Write(p) }

// CloseWrite passes on an end of stream.
func (t *backendTunnel) CloseWrite() error {
	if half, ok := t.b.conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return t.b.conn.Close()
}

// Until implements message.Tunnel.
func (t *backendTunnel) Until(at time.Time) { t.b.limit.Until(at) }

// Close implements message.Tunnel.
func (t *backendTunnel) Close() error { return t.b.tcp.Close() }

var errStale = errors.New("the connection was closed while it was idle")

// stale reports whether an idle connection has ended, or holds bytes that nobody asked for.
func (b *backend) stale() bool {
	// A new connection is not checked: there has been no time for it to end.
	if b.raw == nil || !b.used {
		return false
	}

	ended, spoke := false, false
	err := b.raw.Control(func(fd uintptr) { ended, spoke = peek(fd) })
	if err != nil || ended {
		return true
	}
	if !spoke {
		return false
	}

	secured, ok := b.conn.(*tls.Conn)
	if !ok {
		return true
	}

	// A session ticket, perhaps: let TLS look. What is there needs no waiting for.
	b.limit.Until(time.Now().Add(time.Millisecond))
	defer b.limit.Until(time.Time{})
	n, err := (&reader{source: secured, limit: &b.limit}).Read(b.room[:1])
	return n > 0 || !deadline.Exceeded(err)
}

// exchangePlainly sends out; the answer is left to readResponse.
func (b *backend) exchangePlainly(r *message.Request) error {
	if b.stale() {
		return errStale
	}
	// The content is read after the check for life: what was read could not be sent on another connection.
	if err := b.appendContent(r); err != nil {
		return err
	}
	b.asked = true
	// The limit starts again, as the check for life had a limit of its own.
	b.limit.Until(time.Now().Add(b.transport.o.ResponseHeader))
	_, err := b.conn.Write(b.out)
	b.written()
	return err
}

// written lets go of what was sent, unless it may have to be sent again as it is: the answer may take long.
func (b *backend) written() {
	if !b.whole {
		b.free()
	}
}

// free gives back the buffer of what is sent.
func (b *backend) free() {
	if b.outRoom != nil {
		exchangeBuffers.Put(b.outRoom)
		b.outRoom, b.out = nil, nil
	}
}
