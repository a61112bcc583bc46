// Package http3 is the HTTP/3 front (RFC 9114): frames, fields and limits of our own on quic-go's streams.
//
//	server := http3.NewServer(http3.ServerOptions{Handler: h})
//	server.ServeConn(conn, facts, each)   // until the client or Shutdown ends it
//
// A connection has a goroutine that accepts streams, one for each request, and one for each stream that is not for
// requests.
package http3

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/quic-go/quic-go"

	"padlock/internal/fair"
	"padlock/proxy/conns"
	"padlock/proxy/message"
	"padlock/traffic"
)

// ServerOptions bound what a client may do.
type ServerOptions struct {
	Handler message.Handler
	Idle    time.Duration // without a request
	// A stream's beginning to the end of its head, and to what tells whether there is content.
	Header   time.Duration
	BodyIdle time.Duration // no progress in a body
	// No progress in a response, where Pause lets the client.
	Send time.Duration
	// Bytes a second that a body must bring on average, after the first stall; 0: any.
	Rate   int
	Head   int // bytes of a request's fields, decoded
	Fields int // in a request; 0: 200
	// Of streams in 10 s, the client's and those that it makes us send; 0: 1,000.
	Resets     int
	NoopFrames int // in 10 s that nothing comes of; 0: 10,000
	// Is told of clients that are cut, and what was wrong in particular, or ""; may be nil.
	Rejected func(why traffic.Reason, client netip.Addr, what string)

	// Pause lets a client take nothing of a response for longer than BodyIdle, until resume is called; nil: none may.
	Pause func(client netip.Addr) (resume func(), ok bool)

	// Heads is for what connections may hold of the fields of requests that are not answered, beyond what each always may;
	// nil: all may. What they may hold of content Configure says.
	Heads *fair.Memory

	Log *slog.Logger
}

// Where nothing else is said.
const (
	maxFields    = 200
	maxResets    = 1000
	maxPointless = 10_000
)

// Protocol is what TLS negotiates for HTTP/3.
const Protocol = "h3"

// Configure has QUIC keep to what this package counts on: streams requests at most are answered at once on a
// connection, as its client may open another only when the handler of one has returned. Whether a connection may hold
// more than baseWindow of what nobody has read, widen decides.
func Configure(c *quic.Config, streams int, widen func(conn *quic.Conn, more uint64) bool) {
	c.MaxIncomingStreams, c.MaxIncomingUniStreams, c.RequireStreamCreditRelease = int64(streams), maxUni, true
	// One that nobody reads does not hold up the others.
	c.InitialStreamReceiveWindow, c.MaxStreamReceiveWindow = baseWindow/2, streamWindow
	c.InitialConnectionReceiveWindow, c.MaxConnectionReceiveWindow = baseWindow, connWindow
	c.AllowConnectionWindowIncrease = widen
}

// What a client may send before it is read: on a stream, and on all together. Both begin with little, and grow as what
// comes is read.
const (
	baseWindow   = 128 << 10
	streamWindow = 512 << 10
	connWindow   = 1 << 20
)

// maxUni streams that are not for requests may be open at once: three that HTTP/3 has (RFC 9114 section 6.2), and some
// that it ignores.
const maxUni = 10

// Server speaks HTTP/3 on connections of QUIC. It is safe for use from many goroutines.
type Server struct {
	o    ServerOptions
	open *conns.Set[*connection]
}

// NewServer returns a server; Shutdown ends it.
func NewServer(o ServerOptions) *Server {
	o.Fields, o.Resets, o.NoopFrames = cmp.Or(o.Fields, maxFields), cmp.Or(o.Resets, maxResets), cmp.Or(o.NoopFrames, maxPointless)
	return &Server{o: o, open: conns.New[*connection]()}
}

// ServeConn answers requests until the client or Shutdown ends the connection. The connection's configuration has gone
// through Configure; each is called with each request, and returns what is known of the connection then: its client may
// have moved to another address.
func (s *Server) ServeConn(conn *quic.Conn, facts *message.Conn, each func() *message.Conn) {
	c := &connection{server: s, conn: conn, facts: facts, each: each, streams: map[quic.StreamID]*stream{}, began: time.Now()}
	// Two of the largest, whatever others hold.
	c.asked = fair.NewShare(s.o.Heads, facts.Addr, 2*int64(s.o.Head))
	if err := c.greet(); err != nil {
		c.close(codeInternal)
		return
	}

	switch s.open.Add(c, nil) {
	case conns.Over:
		c.timer.Stop()
		c.close(codeNone)
		return
	case conns.Draining:
		c.drain()
	}

	defer s.open.Remove(c)
	c.serve()
}

// Shutdown tells clients to go, and finishes the requests that are open; when ctx ends first, it closes all.
func (s *Server) Shutdown(ctx context.Context) error {
	return s.open.Shutdown(ctx, (*connection).drain, func(c *connection) { c.close(codeNone) })
}
