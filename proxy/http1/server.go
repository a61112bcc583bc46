// Package http1 is HTTP/1.1 on the wire, both sides (RFC 9112).
//
//	server := http1.NewServer(http1.ServerOptions{Handler: h})
//	server.ServeConn(conn)   // until the client or Shutdown ends it
//
// Both sides are strict, so that no backend reads a message otherwise than padlock did, and no client its response. The
// head of a message becomes one string, of which its names and values are parts.
package http1

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"padlock/internal/pool"
	"padlock/proxy/conns"
	"padlock/proxy/deadline"
	"padlock/proxy/message"
	"padlock/proxy/socket"
	"padlock/traffic"
)

// ServerOptions bound what a client may do.
type ServerOptions struct {
	Handler  message.Handler
	Header   time.Duration // first byte of a head to its end
	Idle     time.Duration // between requests
	BodyIdle time.Duration // no progress in a body
	// Bytes a second that a body must bring on average, after the first stall; 0: any.
	Rate   int
	Head   int // bytes of a head
	Fields int // in a head; 0: 200
	// Is called for clients that are rejected, and what was wrong in particular, or ""; may be nil.
	Rejected func(why traffic.Reason, client netip.Addr, what string)
	Log      *slog.Logger
	Park     Parker // nil: idle connections keep their goroutine and buffer
	Scheme   string // of requests; "": https
	Once     bool   // a connection has one response, and ends with it

	Keeps func(*message.Request) bool // requests after which a connection of Once goes on; nil: none
	First time.Duration               // until the first request; 0: Idle
}

// Parker waits for connections on which nothing happens.
type Parker interface {
	// Park calls wake once, from a goroutine of its own: when c can be read, has failed, or the idle time is over,
	// which expired tells. It reports false, and does nothing, where c cannot be parked. Nobody closes a parked
	// connection.
	Park(c net.Conn, idle time.Duration, wake func(expired bool)) bool
	// Unpark takes c back; it reports false when c is not parked, or wake is on its way.
	Unpark(c net.Conn) bool
}

// Server speaks HTTP/1.1 on connections that have finished their handshake. It is safe for use from many goroutines.
type Server struct {
	o         ServerOptions
	parkAfter time.Duration
	closing   atomic.Int32 // serving, draining, shut or over

	open *conns.Set[*connection]
}

// Conn is a connection with what its requests need to know of it.
type Conn interface {
	net.Conn
	Facts() *message.Conn
	Cork()         // holds back what is written, until Uncork or CloseWrite
	Uncork() error // sends what was held back
}

// Rejecter is a Conn that gets to know itself why its client is rejected, in the place of ServerOptions.Rejected.
type Rejecter interface {
	Rejected(why traffic.Reason, what string)
}

// NewServer returns a server; Shutdown ends it.
func NewServer(o ServerOptions) *Server {
	if o.Fields == 0 {
		o.Fields = maxFields
	}
	o.Scheme = cmp.Or(o.Scheme, "https")
	return &Server{o: o, parkAfter: parkAfter, open: conns.New[*connection]()}
}

// ServeConn takes a connection over: it answers requests until the client or Shutdown ends the connection, and closes
// it. It returns earlier when the connection is parked.
func (s *Server) ServeConn(conn Conn) {
	c := &connection{server: s, conn: conn, began: time.Now()}
	c.limit.Init(conn.SetReadDeadline)
	if s.open.Add(c, nil) == conns.Over {
		conn.Close()
		return
	}
	c.serve()
}

// States of a server. While it drains, responses close their connections, and no other is closed: a request may be on
// its way there. Once it is shut, only a new connection is left open for its first request. When the time for all that
// is over, so is the server.
const (
	serving int32 = iota
	draining
	shut
	over
)

// Drain lets connections end with their next request, or by themselves, until all have ended or ctx has.
func (s *Server) Drain(ctx context.Context) error {
	s.closing.Store(draining)
	return s.open.Drain(ctx, nil)
}

// Shutdown finishes the requests and tunnels that are open, and closes idle connections: one that has had no request
// yet, when it is five seconds old, as its client may have sent the first. When ctx ends first, Shutdown closes all.
func (s *Server) Shutdown(ctx context.Context) error {
	// The flag is set before any connection is looked at: those that become idle later end by themselves.
	s.closing.Store(shut)
	err := s.open.Drain(ctx, (*connection).leave)
	if err == nil {
		return nil
	}

	// The time for finishing is over. From here on, idle() lets no connection begin another request, so the set
	// below is complete.
	s.closing.Store(over)
	s.open.Close(func(c *connection) {
		c.leave()
		c.ctx.Cancel()
		// A proper TLS close would wait for a client that reads nothing.
		c.cut()
	})
	return err
}

// once reports whether a connection ends with a request.
func (s *Server) once(r *message.Request) bool {
	return s.o.Once && (s.o.Keeps == nil || !s.o.Keeps(r))
}

// leave ends the connection if nothing happens on it.
func (c *connection) leave() {
	if c.retire() {
		go c.end()
	}
}

const (
	readBuffer  = 4 << 10
	writeBuffer = 32 << 10 // two TLS records; larger ones gained nothing
	parkAfter   = time.Second
)

var (
	readBuffers  = pool.Of(func(b *[readBuffer]byte) []byte { return b[:] })
	writeBuffers = pool.Of(func(b *[writeBuffer]byte) []byte { return b[:] })
)

// Phases of a connection. A request makes an idle one busy; Shutdown makes an idle or parked one end. There is no phase
// between idle and parked: a connection goes to the lot and comes back under its lock.
const (
	busy int32 = iota
	idle
	parked
	ending
)

// connection is one client's: all that is left of it while it is parked.
type connection struct {
	server *Server
	conn   Conn
	ctx    message.Context
	limit  deadline.Deadline
	until  time.Time // the write deadline that stands
	*engine

	began time.Time

	mu      sync.Mutex
	phase   int32
	used    bool // a request has come
	leaving bool // a timer ends it if none comes
}

// engine is what a connection needs while requests come.
type engine struct {
	reader  reader
	room    *[readBuffer]byte
	watcher watcher
}

// exchange is one request with its response. It is never used again, so that whoever holds a part of it holds its own.
type exchange struct {
	c       *connection
	head    head
	body    body
	writer  writer
	request message.Request
	content bool // the request has a body, whatever the handler makes of it

	room [14]message.Field // of the request's fields, if they are not more
}

// serve answers requests until the connection ends or is parked.
func (c *connection) serve() {
	away := false
	defer func() {
		if cause := recover(); cause != nil {
			c.server.o.Log.Error("request lost", "panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
			// The buffer is not reused, as somebody may still read from it.
			c.engine = nil
		}
		if !away {
			c.end()
		}
	}()

	// After the deferred end, so that a panic in here ends the connection as well.
	c.acquireBuffers()
	for c.idle() {
		if err := c.await(); err != nil {
			if deadline.Exceeded(err) {
				// Only a timeout means that the client is idle. Any other error is the end of the connection.
				away = c.park()
			}
			return
		}
		// Shutdown may have chosen this connection to end while its first byte arrived. The client then sends the
		// request again elsewhere (RFC 9112 section 9.3.1).
		if !c.enter(idle, busy) || !c.serveOne() {
			return
		}
	}
}

// enter goes from one phase to another. It reports false where the connection is in neither.
func (c *connection) enter(from, to int32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != from {
		return false
	}
	c.phase = to
	c.used = c.used || to == busy
	return true
}

// idle makes the connection idle. It reports false when it has to end instead.
func (c *connection) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	// Shutdown sets the flag before it takes the lock, so a connection that becomes idle now sees it.
	if c.phase == ending || c.server.closing.Load() >= shut && !c.spared() {
		c.phase = ending
		return false
	}
	c.phase = idle
	return true
}

// retire ends the connection if no request is open, or on its way. It reports true where the caller has to call end;
// otherwise somebody else does.
func (c *connection) retire() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.phase != idle && c.phase != parked, c.spared():
	case c.phase == idle:
		c.phase = ending
		// The goroutine in await wakes and ends the connection itself, as it owns the buffers.
		c.limit.Interrupt()
	default:
		c.phase = ending
		// If it cannot be unparked, it is about to wake anyway.
		return c.server.o.Park.Unpark(c.conn)
	}
	return false
}

// spared reports whether the first request may be on its way. The connection is then ended later if none has come. A
// client sends a request again that finds an old connection closed (RFC 9112 section 9.3.1), but takes a new one that
// is closed for a broken server. It is called with the lock held, once the server is shut.
func (c *connection) spared() bool {
	left := message.FirstRequest - time.Since(c.began)
	if c.used || left <= 0 || c.server.closing.Load() == over {
		return false
	}

	if !c.leaving {
		c.leaving = true
		// One timer for each connection, however often Shutdown looks at it.
		time.AfterFunc(left, func() {
			if c.retire() {
				c.end()
			}
		})
	}

	return true
}

func (c *connection) end() {
	// The order matters: requests to targets end before the socket, and the connection stays in the set until its
	// buffers are back, as the set's end is the server's.
	c.ctx.Cancel()
	c.conn.Close()
	c.conn.Facts().End()
	c.releaseBuffers()
	c.server.open.Remove(c)
}

func (c *connection) acquireBuffers() {
	if c.engine == nil {
		c.engine = &engine{room: readBuffers.Get()}
		c.reader = reader{source: c.conn, limit: &c.limit, buf: c.room[:]}
	}
}

// releaseBuffers gives back what only requests need.
func (c *connection) releaseBuffers() {
	if c.engine == nil {
		return
	}
	c.watcher.stop()
	if c.room != nil {
		readBuffers.Put(c.room)
	}
	c.engine = nil
}

// await waits for the first byte of a request: until the client has been idle for too long or, where it can be parked,
// idle at all.
func (c *connection) await() error {
	if c.reader.at < c.reader.end {
		return nil // pipelined
	}

	wait := c.server.o.Idle
	// Only the owner of the connection changes used, so it is read without a lock.
	if !c.used && c.server.o.First > 0 {
		wait = c.server.o.First
	}
	if c.server.o.Park != nil {
		wait = min(wait, c.server.parkAfter)
	}

	// With a lot, the goroutine and its buffer are kept for a second only. A keep-alive client sends its next
	// request within that time, or not for long.
	c.limit.Until(time.Now().Add(wait))
	return c.reader.fill()
}

// park gives the buffers and, by the caller's return, the goroutine back. It reports false when the connection has to
// end.
func (c *connection) park() bool {
	wait := c.server.o.Idle - c.server.parkAfter
	if c.server.o.Park == nil || wait <= 0 {
		return false
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != idle {
		return false
	}

	// The buffers go back before Park: from then on wake may run in another goroutine, and acquire its own.
	c.releaseBuffers()
	c.limit.Clear()
	if !c.server.o.Park.Park(c.conn, wait, c.wake) {
		return false
	}
	c.phase = parked
	return true
}

// wake is called by the lot.
func (c *connection) wake(expired bool) {
	// Shutdown may have taken the connection between the event and this call.
	if !c.enter(parked, idle) || expired {
		c.end()
		return
	}
	c.serve()
}

// write bounds how long a client may take nothing: not exactly, so that not every write sets a timer.
func (c *connection) write(p []byte) error {
	stall := c.server.o.BodyIdle
	if now := time.Now(); c.until.Sub(now) < stall {
		c.until = now.Add(stall + stall/4)
		_ = c.conn.SetWriteDeadline(c.until)
	}
	_, err := c.conn.Write(p)
	if deadline.Exceeded(err) {
		// The error itself reaches the handler. The reason is reported here, as only this place knows that it was the
		// client's fault.
		c.report(traffic.SlowReader)
	}
	return err
}

// report says why the client is rejected.
func (c *connection) report(why traffic.Reason) { c.reportDetail(why, "") }

// reportDetail is report with what was wrong in particular.
func (c *connection) reportDetail(why traffic.Reason, what string) {
	if own, ok := c.conn.(Rejecter); ok {
		own.Rejected(why, what)
		return
	}
	if cut := c.server.o.Rejected; cut != nil {
		cut(why, c.conn.Facts().Addr, what)
	}
}

// serveOne reads one request and answers it. It reports whether another can follow.
func (c *connection) serveOne() bool {
	text, err := c.readHead()
	x := &exchange{c: c}
	if err == nil {
		err = x.head.parse(text, x.room[:0], c.server.o.Fields)
	}

	if err != nil {
		var no *statusError
		// Any other error is the end of the connection: nobody would read an answer.
		switch {
		case errors.As(err, &no):
			c.refuse(no)
		case deadline.Exceeded(err):
			c.report(traffic.SlowHeader)
		}
		return false
	}

	// The buffer is taken only now, so that connections that wait for a request hold none.
	buffer := writeBuffers.Get()
	x.writer.x, x.writer.room, x.writer.buf = x, buffer, buffer[:0]
	x.prepare()
	// Watching starts after the body is set up, as it reads ahead only behind the request's own content.
	c.watch(x)
	c.server.o.Handler.Serve(&c.ctx, &x.request, &x.writer)
	c.unwatch()
	again := x.settle()
	x.writer.release()
	return again
}

// settle ends an exchange, and reports whether another can follow.
func (x *exchange) settle() bool {
	c := x.c
	if x.writer.tunnelled {
		return false
	}
	if x.writer.close && (!x.content || x.body.whole()) {
		// Hold the bytes back: the end of the connection goes out in one packet with the end of the response.
		c.conn.Cork()
	}

	// The response ends before the rest of the request is read: the client may send the rest only after it has seen
	// the answer.
	whole := x.writer.end()
	if x.content {
		_ = x.body.Close()
	}
	switch {
	case !whole:
		// An orderly end would make an incomplete response look complete to the client.
		if x.writer.unbounded {
			c.disrupt()
		}
		c.cut()
		return false
	case c.ctx.Err() != nil:
		_ = c.conn.Uncork()
		return false
	case x.writer.close || !x.drain():
		// Unread bytes in the socket would turn the close into a reset, which can destroy the response before the
		// client has read it (RFC 9112 section 9.6).
		socket.Linger(c.conn, lingerTime, lingerBytes)
		return false
	}

	c.compact()
	return true
}

// drain reads what is left of the content, and reports whether another request can follow. Meanwhile the connection is
// idle: the client has its response, so that Shutdown need not wait.
func (x *exchange) drain() bool {
	return !x.content || x.body.whole() || x.c.idle() && x.body.finish()
}

// maxEmptyLines may stand before a request: some clients leave one behind a body (RFC 9112 section 2.2).
const maxEmptyLines = 4

// readHead skips empty lines.
func (c *connection) readHead() ([]byte, error) {
	r := &c.reader
	// Most heads arrive as a whole, so this is checked first.
	if !bytes.HasSuffix(r.buffered(), []byte("\r\n\r\n")) {
		c.limit.Until(time.Now().Add(c.server.o.Header))
	}

	for empty := 0; empty <= maxEmptyLines; empty++ {
		// Two bytes decide between an empty line and a request.
		for r.end-r.at < 2 {
			if err := r.fill(); err != nil {
				return nil, err
			}
		}

		switch first := r.buf[r.at]; {
		case !message.TokenByte(first) && first != '\r':
			// It may be TLS, whose client waits for an answer before it sends more.
			return nil, errLine
		case first != '\r' || r.buf[r.at+1] != '\n':
			return r.head(c.server.o.Head)
		}
		r.at += 2
	}

	return nil, errLine
}

// prepare fills in the request from the parsed head.
func (x *exchange) prepare() {
	c, h := x.c, &x.head
	proto := "HTTP/1.1"
	if h.minor == 0 {
		proto = "HTTP/1.0"
	}
	x.request = message.Request{
		Method: h.method, Scheme: c.server.o.Scheme, Host: h.host, Target: h.target, Proto: proto, Fields: h.fields,
		ContentLength: h.length, Declared: h.declared, Upgrade: h.upgrade, Conn: c.conn.Facts(),
	}
	if x.content = h.length != 0; !x.content {
		return
	}

	// The limit of the head must not end the content, which has its own limits in body.
	c.limit.Until(time.Time{})
	x.body.content = content{r: &c.reader, left: max(h.length, 0), chunked: h.length < 0, limit: c.server.o.Head}
	x.body.stall, x.body.rate, x.body.answered = c.server.o.BodyIdle, c.server.o.Rate, &x.writer.sent
	if h.expect {
		x.request.Expect = true
		x.body.ask, x.body.expect = x.writer.proceed, true
	}

	x.request.Body = &x.body
}

// compact gives up a buffer that had to grow, once what was pipelined fits into the usual one.
func (c *connection) compact() {
	r := &c.reader
	// One large head would otherwise hold a large buffer for as long as the client keeps the connection.
	if rest := r.buffered(); len(r.buf) > len(c.room) && len(rest) < len(c.room) {
		r.buf, r.at, r.end = c.room[:], 0, copy(c.room[:], rest)
	}
}

func (c *connection) refuse(no *statusError) {
	why := traffic.Malformed
	if no.status == http.StatusRequestHeaderFieldsTooLarge {
		why = traffic.HeaderSize
	}
	c.reportDetail(why, no.text)
	// The response is written by hand: the head could not be parsed, so there is no exchange whose writer could do
	// it.
	text := no.text + "\n"
	_ = c.write(fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		no.status, http.StatusText(no.status), message.Date(), len(text), text))
	// The client may still be sending. A reset would destroy the explanation before it is read.
	socket.Linger(c.conn, lingerTime, lingerBytes)
}

// disrupt has the connection end with a reset. Content that ends with the connection is cut visibly by nothing else: plain
// HTTP has no close_notify, and many clients do without it.
func (c *connection) disrupt() {
	var below net.Conn = c.conn
	for {
		wrapped, ok := below.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		below = wrapped.NetConn()
	}
	if tcp, ok := below.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
}

// cut ends the connection below TLS: a close_notify would tell the client that the response is whole (RFC 9112 section
// 9.8).
func (c *connection) cut() {
	if below, ok := c.conn.(interface{ NetConn() net.Conn }); ok {
		below.NetConn().Close()
		return
	}
	c.conn.Close()
}

const (
	lingerBytes = 64 << 20
	lingerTime  = 2 * time.Second
)

// tunnel is the client's side after a 101: first what it had sent along, then the connection.
type tunnel struct {
	c     *connection
	early []byte
}

func (t *tunnel) Read(p []byte) (int, error) {
	if len(t.early) > 0 {
		n := copy(p, t.early)
		t.early = t.early[n:]
		return n, nil
	}
	return t.c.limit.Read(t.c.conn, p)
}

func (t *tunnel) Write(p []byte) (int, error) {
	if err := t.c.write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Until implements message.Tunnel.
func (t *tunnel) Until(at time.Time) { t.c.limit.Until(at) }

// Close implements message.Tunnel.
func (t *tunnel) Close() error { return t.c.conn.Close() }

func (t *tunnel) CloseWrite() error {
	if half, ok := t.c.conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	// Without half-close, an end of stream can only be passed on as the end of all.
	return t.c.conn.Close()
}
