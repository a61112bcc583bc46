// Package http1 is HTTP/1.1 on the wire, both sides (RFC 9112).
//
//	server := http1.NewServer(http1.ServerOptions{Handler: h})
//	server.ServeConn(conn)   // until the client or Shutdown ends it
//
// The server's side is padlock's own: strict, so that no backend reads a message otherwise than padlock did, and without
// allocations in the steady state. The client's side is adapted from net/http.
package http1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"padlock/proxy/message"
)

// ServerOptions bound what a client may do.
type ServerOptions struct {
	Handler message.Handler
	Header  time.Duration // first byte of a head to its end
	Idle    time.Duration // between requests
	Stall   time.Duration // no progress in a body
	Head    int           // bytes of a head
	Log     *slog.Logger
}

// Server speaks HTTP/1.1 on connections that have finished their handshake. It is safe for use from many goroutines.
type Server struct {
	o       ServerOptions
	closing atomic.Bool

	mu    sync.Mutex
	conns map[*connection]bool // whether it is idle
	empty chan struct{}        // closed when Shutdown has begun and none is left
}

// Conn is a connection with what its requests need to know of it.
type Conn interface {
	net.Conn
	Facts() *message.Conn
}

// NewServer returns a server; Shutdown ends it.
func NewServer(o ServerOptions) *Server {
	return &Server{o: o, conns: map[*connection]bool{}, empty: make(chan struct{})}
}

// ServeConn answers requests until the client or Shutdown ends the connection, and closes it.
func (s *Server) ServeConn(conn Conn) {
	c := &connection{server: s, conn: conn}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	defer c.cancel()
	defer conn.Close()
	if !s.setIdle(c, false) {
		return
	}
	defer s.forget(c)
	defer func() {
		if cause := recover(); cause != nil {
			s.o.Log.Error("request lost", "panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
		}
	}()
	c.serve()
}

// setIdle reports false when the connection has to end instead.
func (s *Server) setIdle(c *connection, idle bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() && (idle || s.conns[c]) {
		return false
	}
	s.conns[c] = idle
	return true
}

func (s *Server) forget(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if s.closing.Load() && len(s.conns) == 0 {
		s.emptied()
	}
}

// emptied is called with the lock held, possibly more than once.
func (s *Server) emptied() {
	select {
	case <-s.empty:
	default:
		close(s.empty)
	}
}

// Shutdown finishes the requests that are open, and closes idle connections and tunnels; when ctx ends first, it closes all.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing.Store(true)
	if len(s.conns) == 0 {
		s.emptied()
	}
	for c, idle := range s.conns {
		if idle {
			c.conn.Close()
		}
	}
	s.mu.Unlock()
	select {
	case <-s.empty:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for c := range s.conns {
		c.cancel()
		c.conn.Close()
	}
	s.mu.Unlock()
	<-s.empty
	return ctx.Err()
}

const (
	bufferSize  = 4 << 10
	writeBuffer = 16 << 10 // what one TLS record holds
)

var (
	readBuffers  = sync.Pool{New: func() any { return new([bufferSize]byte) }}
	writeBuffers = sync.Pool{New: func() any { return new([writeBuffer]byte) }}
)

// connection is one client's. Its exchanges follow each other; what they need is reused.
type connection struct {
	server *Server
	conn   Conn
	ctx    context.Context
	cancel context.CancelFunc

	first   [1]byte // read while idle, without a buffer
	reader  reader
	head    head
	body    body
	writer  writer
	request message.Request

	writeUntil time.Time // the deadline that stands
	watcher    watcher
}

func (c *connection) serve() {
	for {
		if !c.server.setIdle(c, true) || !c.await() {
			return
		}
		if !c.server.setIdle(c, false) {
			return
		}
		again := c.exchange()
		if !again {
			return
		}
		if c.server.closing.Load() {
			return
		}
	}
}

// await waits for the first byte of a request. An idle connection holds no buffer.
func (c *connection) await() bool {
	if c.reader.at < c.reader.end {
		return true // pipelined
	}
	if pooled := c.reader.buf; len(pooled) == bufferSize {
		readBuffers.Put((*[bufferSize]byte)(pooled))
	}
	c.reader = reader{}
	_ = c.conn.SetReadDeadline(time.Now().Add(c.server.o.Idle))
	n, err := c.conn.Read(c.first[:])
	if n == 0 || err != nil {
		return false
	}
	buf := readBuffers.Get().(*[bufferSize]byte)
	buf[0] = c.first[0]
	c.reader = reader{conn: c.conn, buf: buf[:], end: 1, deadline: c.readDeadline}
	return true
}

func (c *connection) readDeadline(d time.Duration) {
	var at time.Time
	if d > 0 {
		at = time.Now().Add(d)
	}
	_ = c.conn.SetReadDeadline(at)
}

// write bounds how long a client may take nothing: between once and twice the stall time, so that not every write sets a timer.
func (c *connection) write(p []byte) error {
	if now := time.Now(); c.writeUntil.Sub(now) < c.server.o.Stall {
		c.writeUntil = now.Add(2 * c.server.o.Stall)
		_ = c.conn.SetWriteDeadline(c.writeUntil)
	}
	_, err := c.conn.Write(p)
	return err
}

// exchange reads one request and answers it. It reports whether another can follow.
func (c *connection) exchange() bool {
	err := c.readHead()
	if err == nil {
		err = c.head.parse(c.reader.buf[:c.reader.pinned])
	}
	var no *refusal
	switch {
	case errors.As(err, &no):
		c.refuse(no)
		return false
	case err != nil:
		return false
	}
	buffer := writeBuffers.Get().(*[writeBuffer]byte)
	defer writeBuffers.Put(buffer)
	c.writer = writer{c: c, buf: buffer[:0]}
	w := &c.writer
	c.prepare()
	c.watch()
	c.server.o.Handler.Serve(c.ctx, &c.request, w)
	c.unwatch()
	whole := w.end()
	if w.tunnelled {
		return false
	}
	readAll := c.request.Body == nil || c.body.finish(c.kick)
	if !whole || w.close || c.ctx.Err() != nil {
		if whole {
			c.linger()
		}
		return false
	}
	if !readAll {
		c.linger()
		return false
	}
	c.compact()
	return true
}

// readHead reads until the empty line, within time and size.
func (c *connection) readHead() error {
	r := &c.reader
	c.readDeadline(c.server.o.Header)
	for looked := 0; ; {
		data := r.buffered()
		for len(data) >= 2 && data[0] == '\r' && data[1] == '\n' { // RFC 9112 section 2.2: left over by some clients after a body
			r.at += 2
			data, looked = r.buffered(), 0
		}
		if end := headEnd(data, looked); end > 0 {
			if end > c.server.o.Head {
				return errHead
			}
			r.buf = r.buf[r.at:] // the head begins the buffer, and stays
			r.end -= r.at
			r.at, r.pinned = end, end
			c.readDeadline(0)
			return nil
		}
		if bareLine(data, looked) {
			return errLine
		}
		if looked = len(data); looked > c.server.o.Head {
			return errHead
		}
		if err := r.fill(); err != nil {
			return err
		}
	}
}

// bareLine notices early a head whose lines do not end in CRLF, which would otherwise be waited for until the timeout.
// from is how much was looked at before: a client that sends byte by byte must not cost more than its bytes.
func bareLine(data []byte, from int) bool {
	for i := from; i < len(data); i++ {
		if data[i] == '\n' && (i == 0 || data[i-1] != '\r') {
			return true
		}
	}
	return false
}

// prepare fills in the request from the parsed head.
func (c *connection) prepare() {
	h := &c.head
	proto := "HTTP/1.1"
	if h.minor == 0 {
		proto = "HTTP/1.0"
	}
	c.request = message.Request{
		Method: h.method, Scheme: "https", Host: h.host, Target: h.target, Proto: proto, Fields: h.fields,
		ContentLength: h.length, Declared: h.declared, Upgrade: h.upgrade, Conn: c.conn.Facts(),
	}
	if h.length == 0 {
		return
	}
	c.body = body{r: &c.reader, stall: c.server.o.Stall, left: max(h.length, 0), chunked: h.length < 0, limit: c.server.o.Head}
	if h.expect {
		c.body.ask = c.writer.proceed
	}
	c.request.Body = &c.body
}

// compact moves what was pipelined to the front for the next head.
func (c *connection) compact() {
	r := &c.reader
	rest := r.buf[r.at:r.end]
	if len(rest) == 0 {
		if full := r.buf[:cap(r.buf)]; len(full) == bufferSize {
			r.buf = full
		} else {
			r.buf = nil // a slice of a larger one, or not from the pool
		}
		r.at, r.end, r.pinned = 0, 0, 0
		return
	}
	fresh := readBuffers.Get().(*[bufferSize]byte)
	buf := fresh[:]
	if len(rest) > len(buf) {
		buf = make([]byte, 2*len(rest))
	}
	*r = reader{conn: c.conn, buf: buf, end: copy(buf, rest), deadline: c.readDeadline}
}

func (c *connection) refuse(no *refusal) {
	text := no.text + "\n"
	_ = c.write(fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		no.status, http.StatusText(no.status), date(), len(text), text))
	c.linger()
}

// kick ends a read that waits for the client.
func (c *connection) kick() { _ = c.conn.SetReadDeadline(time.Unix(1, 0)) }

// linger ends our side and takes what the client still sends, for a moment: closing at once would reset the connection,
// and the client could lose our last response.
func (c *connection) linger() {
	half, ok := c.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.readDeadline(drainTime)
	_, _ = io.CopyN(io.Discard, c.conn, maxDrain)
}

// tunnel is the client's side after a 101: first what it had sent along, then the connection.
type tunnel struct{ c *connection }

func (t *tunnel) Read(p []byte) (int, error) {
	if data := t.c.reader.buffered(); len(data) > 0 {
		n := copy(p, data)
		t.c.reader.at += n
		return n, nil
	}
	return t.c.conn.Read(p)
}

func (t *tunnel) Write(p []byte) (int, error) {
	if err := t.c.write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (t *tunnel) Close() error { return t.c.conn.Close() }

func (t *tunnel) CloseWrite() error {
	if half, ok := t.c.conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return t.c.conn.Close()
}
