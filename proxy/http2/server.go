// Package http2 is the HTTP/2 front (RFC 9113): streams, flow control and limits of our own on x/net's framer and HPACK
// decoder.
//
//	server := http2.NewServer(http2.ServerOptions{Handler: h})
//	server.ServeConn(conn)   // until the client or Shutdown ends it
//
// A connection has one goroutine that reads frames, one for each stream, and one while there is something to write:
// what several streams have to say meanwhile goes out with it, in one write.
package http2

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"padlock/internal/fair"
	"padlock/proxy/conns"
	"padlock/proxy/message"
	"padlock/proxy/park"
	"padlock/traffic"
)

// ServerOptions bound what a client may do.
type ServerOptions struct {
	Handler message.Handler
	// First byte of a request's fields to their end, or of any other frame but DATA.
	Header time.Duration
	Idle   time.Duration // without an open stream
	// No progress in a body; first byte of a DATA frame to its end.
	BodyIdle time.Duration
	// No progress in a response, where Pause lets the client.
	Send time.Duration
	// Bytes a second that a body must bring on average, after the first stall; 0: any.
	Rate    int
	Head    int // bytes of a request's fields, decoded
	Fields  int // in a request; 0: 200
	Streams int // at once; 0: 100
	// Of streams in 10 s, the client's and those that it makes us send; 0: 1,000.
	Resets     int
	NoopFrames int // in 10 s that nothing comes of; 0: 10,000
	// Is called for clients that are rejected, and what was wrong in particular, or ""; may be nil.
	Rejected func(why traffic.Reason, client netip.Addr, what string)

	// Pause lets a client take nothing of a response for longer than BodyIdle, until resume is called; nil: none may.
	Pause func(client netip.Addr) (resume func(), ok bool)

	// Memory is for what connections may hold of content that no handler has read, and Heads for what they may hold of the
	// fields of requests that are not answered, beyond what each always may; nil: all may.
	Memory, Heads *fair.Memory

	Log  *slog.Logger
	Park *park.Lot // nil: idle connections keep their goroutine and buffers
}

// Server speaks HTTP/2 on connections that have agreed on h2. It is safe for use from many goroutines.
type Server struct {
	o         ServerOptions
	parkAfter time.Duration
	linger    time.Duration

	open *conns.Set[*connection]
}

// Conn is a connection with what its requests need to know of it.
type Conn interface {
	net.Conn
	Facts() *message.Conn
}

// NewServer returns a server; Shutdown ends it.
func NewServer(o ServerOptions) *Server {
	o.Fields, o.Streams = cmp.Or(o.Fields, maxFields), cmp.Or(o.Streams, maxStreams)
	o.Resets, o.NoopFrames = cmp.Or(o.Resets, maxResets), cmp.Or(o.NoopFrames, maxPointless)
	return &Server{o: o, parkAfter: parkAfter, linger: lingerStream, open: conns.New[*connection]()}
}

// ServeConn takes a connection over: it answers requests until the client or Shutdown ends the connection, and closes
// it. It returns earlier when the connection is parked.
func (s *Server) ServeConn(conn Conn) {
	c := newConnection(s, conn)
	// What the client has sent by now is still answered.
	begin := func(p conns.Phase) { c.draining = p == conns.Draining }
	if s.open.Add(c, begin) == conns.Over {
		conn.Close()
		return
	}
	if err := c.greet(); err != nil {
		c.end(err)
		return
	}
	c.serve()
}

// Drain asks clients to go, and finishes the streams and tunnels that are open, until all have ended or ctx has.
func (s *Server) Drain(ctx context.Context) error { return s.open.Drain(ctx, (*connection).drain) }

// Shutdown is Drain; when ctx ends first, it closes all.
func (s *Server) Shutdown(ctx context.Context) error {
	return s.open.Shutdown(ctx, (*connection).drain, (*connection).cut)
}
