// Package message is one HTTP message, whatever its protocol: the middle that three fronts and two backs share.
//
//	handler.Serve(ctx, request, writer)   // a front calls it once per request
//
// Routing, field rules, forwarding, limits and logs are written against this package and know no wire protocol.
// Strings in a message are its own: whoever keeps one keeps it safely.
package message

import (
	"context"
	"crypto/tls"
	"io"
	"net/netip"
	"sync/atomic"
	"time"
)

// Conn is what a request needs to know of the connection that it came by. But for First and what is bound to it, it
// never changes after the handshake.
type Conn struct {
	Remote    string     // client's host:port
	Client    string     // client's address alone
	Addr      netip.Addr // the same, parsed; the zero Addr where it is none
	Local     string     // host:port that accepted the connection
	TLS       *tls.ConnectionState
	Handshake uint64 // id of the recorded handshake, 0 when handshakes are off
	JA4       string // fingerprint of the client's hello; only where a route needs it
	AltSvc    string // Alt-Svc that tells of HTTP/3 on the same port (RFC 7838); "" where there is none
	Listener  string // address of the listener, as the configuration has it
	Plain     bool   // it has no TLS: only sites that are served over plain HTTP can be reached
	Policy    any    // the TLS policy that the connection was made under; compared by identity
	Identity  Fields // fields that tell a target of the client's certificate; only where the site asks for one

	Until    time.Time       // when the client's certificate is no longer good; zero: there is none, or it never was
	Standing context.Context // ends when the client would not get in any more; nil: the site asks for no certificate

	used  atomic.Bool
	bound bindings
	past  atomic.Pointer[Conn]
}

// From is the same connection of a client that has moved to another address, as QUIC's may (RFC 9000 section 9); ""
// where nobody knows to which.
func (c *Conn) From(remote string) *Conn {
	moved := &Conn{
		Remote: remote, Local: c.Local, Plain: c.Plain, TLS: c.TLS, Handshake: c.Handshake, JA4: c.JA4, AltSvc: c.AltSvc, Listener: c.Listener,
		Policy: c.Policy, Identity: c.Identity, Until: c.Until, Standing: c.Standing,
	}
	moved.Client, moved.Addr = ClientAddr(remote)
	return moved
}

// Past is the connection for those who remember it longer than it lasts: what is bound to it, which is its alone, is not
// kept alive. It is the same for every request of the connection.
func (c *Conn) Past() *Conn {
	if past := c.past.Load(); past != nil {
		return past
	}
	past := c.From(c.Remote)
	// Of several at once, each is as good.
	c.past.Store(past)
	return past
}

// FirstRequest is how old a connection is when its client has sent its first request, or is not about to; net/http
// takes the same.
const FirstRequest = 5 * time.Second

// First reports whether no request has asked before: true once.
func (c *Conn) First() bool { return !c.used.Load() && c.used.CompareAndSwap(false, true) }

// Request is a request head with its body.
type Request struct {
	Method string
	Scheme string // http | https
	Host   string // as the client sent it: Host or :authority, port included
	Target string // origin form, the bytes that the client sent; "*" for OPTIONS *
	Proto  string // HTTP/1.0, HTTP/1.1, HTTP/2.0, HTTP/3.0
	Fields Fields // without Host

	ContentLength int64    // -1: unknown until the end (chunked, or a stream)
	Body          Body     // nil: none
	Declared      []string // names of the trailers that the head announces
	// The client waits for 100 (Continue), which the first Read of Body sends (RFC 9110 section 10.1.1).
	Expect bool
	// The protocol that the client asks to go over to, such as "websocket" (RFC 6455 section 4.1, RFC 8441); of
	// HTTP/1.1 a list (RFC 9110 section 7.8) until one is chosen; else empty.
	Upgrade string

	Conn   *Conn
	Client string // the client's address: the connection's, or the one that trusted proxies tell
	Shared bool   // the connection is a trusted proxy's, which sends requests of several clients on it

	// The content cannot be read again, whatever was read of it; set by the RoundTripper that has begun to.
	Spent      bool
	Connecting time.Duration // that the backend's connection took to make; set by the RoundTripper, which may have had one
	Securing   time.Duration // of that, what TLS took
}

// Response is a response head with its body. Its head stays valid when the body has been closed.
type Response struct {
	Status        int
	Fields        Fields
	ContentLength int64  // -1: unknown
	Trailing      bool   // trailers are sure to follow the content, whose length may be known
	Body          Body   // never nil but with Tunnel; whoever reads it closes it
	Tunnel        Tunnel // set on a 101: the bytes that follow in both directions; whoever uses it closes it
}

// Body streams a message's content. One goroutine reads. Close may come from another: it ends a Read that waits, and
// later ones fail.
type Body interface {
	io.ReadCloser
	// Trailers are complete once Read has returned io.EOF (RFC 9110 section 6.5).
	Trailers() Fields
	// Buffered is how much of the content Read returns without waiting.
	Buffered() int
	// Received is how much of the content Read has returned; any goroutine may ask.
	Received() int64
}

// BodyError is a request whose content could not be read from the client.
type BodyError struct{ Err error }

func (e *BodyError) Unwrap() error { return e.Err }
func (e *BodyError) Error() string { return "reading the request's content: " + e.Err.Error() }

// InterimError is an interim response that could not be sent to the client, which has gone.
type InterimError struct{ Err error }

func (e *InterimError) Unwrap() error { return e.Err }
func (e *InterimError) Error() string {
	return "sending an interim response to the client: " + e.Err.Error()
}

// ResetError is the end of a stream of HTTP/2 by the target, such as a gRPC server's whose deadline has passed.
type ResetError struct {
	Code uint32 // RFC 9113 section 7
	Err  error
}

func (e *ResetError) Unwrap() error { return e.Err }
func (e *ResetError) Error() string { return e.Err.Error() }

// Writer sends the response of one request. One goroutine calls it, in this order:
// any Interim, then Head once, then any Write and Flush, then Trailers at most once; or Tunnel instead of Head.
// The front ends the message when the handler returns, unless Abort was called.
type Writer interface {
	// Interim sends a 1xx response other than 101 (RFC 9110 section 15.2).
	Interim(status int, fields Fields) error
	// Head sends status and fields; it may wait for the first Write or Flush. The length rules framing: -1 is streamed.
	Head(status int, fields Fields, length int64) error
	io.Writer
	// Flush sends what has been written so far to the client.
	Flush() error
	// Room is where the next content may be read to; the Write that follows, of its beginning, then copies nothing.
	Room() []byte
	// Trailers are sent after the last byte of content, which they say is complete. There may be none. They are not kept.
	Trailers(Fields)
	// Abort ends the response so that the client sees it cut short, never a complete-looking one.
	Abort()
	// Fallback ends the exchange, before Head, so that the client asks again over HTTP/1.1 (RFC 9113 section 7, RFC
	// 9114 section 8.1). Over HTTP/1.1 it is Abort.
	Fallback()
	// Reset is Abort for a target that has reset its stream, with its code of HTTP/2 (RFC 9113 section 7). Where the
	// client's protocol has such a code, and it is about the request alone, the client gets it.
	Reset(code uint32)
	// Tunnel answers an upgrade with 101 (or 200, RFC 8441) and hands over the bytes in both directions.
	// The caller closes the tunnel.
	Tunnel(fields Fields) (Tunnel, error)
}

// Tunnel is one side of an upgraded connection. One goroutine reads, another writes, and Close may come from anywhere,
// more than once: it ends what waits.
type Tunnel interface {
	io.ReadWriteCloser
	// CloseWrite passes on an end of stream.
	CloseWrite() error
	// Until limits the reads that follow; the zero time lifts the limit. It is called by the goroutine that reads.
	Until(time.Time)
}

// Moving is a Tunnel whose client may move to another address while it is open.
type Moving interface {
	// Where is what is known of its connection now. It may be called from anywhere.
	Where() *Conn
}

// Handler answers requests. It is called from many goroutines; the context ends when the client goes away.
type Handler interface {
	Serve(ctx *Context, r *Request, w Writer)
}

// Interim takes the interim responses of a backend, in order; its fields are not kept. Its errors are *InterimError, so
// that no backend is blamed for them.
type Interim interface {
	Interim(status int, fields Fields) error
}

// RoundTripper sends a request to a backend and returns the head of its final response.
// Interim responses come before RoundTrip returns.
type RoundTripper interface {
	RoundTrip(ctx *Context, r *Request, interim Interim) (*Response, error)
}
