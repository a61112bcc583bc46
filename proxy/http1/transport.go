package http1

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"padlock/proxy/deadline"
	"padlock/proxy/message"
	"padlock/proxy/outbound"
	"padlock/proxy/socket"
)

// TransportOptions say how a backend is reached.
type TransportOptions struct {
	Network, Address string        // tcp and host:port, or unix and a path
	TLS              *tls.Config   // nil: plaintext
	Connect          time.Duration // to connect, TLS included
	ResponseHeader   time.Duration // request sent to response head; 0: however long it takes
	Idle             time.Duration // connections without a request are kept for; 0: 90s
	Connections      int           // that are kept; 0: 256
	Single           bool          // each request has a connection of its own
	Resolver         *net.Resolver // of names; nil: the system's
}

const (
	maxResponseHead = 256 << 10
	maxInterim      = 10
	maxIdle         = 256
	idleTime        = 90 * time.Second
	endless         = 10 * 365 * 24 * time.Hour
	reapAtLeast     = time.Second // between looks for what has been idle for too long
	expectContinue  = time.Second // for a backend's 100, which it may never send (RFC 9110 section 10.1.1)
)

// Transport is a pool of connections to one backend. It is safe for use from many goroutines.
type Transport struct {
	o      TransportOptions
	dialer outbound.Dialer

	mu     sync.Mutex
	idle   []*backend                 // the one used last is used next, so that the others can age
	owned  map[*message.Conn]*backend // idle, and kept for the client's connection that they belong to
	reaper *time.Timer
	reapAt time.Time // when reaper fires
	closed bool
}

var _ message.RoundTripper = (*Transport)(nil)

// NewTransport dials nothing yet.
func NewTransport(o TransportOptions) *Transport {
	if o.ResponseHeader == 0 {
		o.ResponseHeader = endless
	}
	o.Idle, o.Connections = cmp.Or(o.Idle, idleTime), cmp.Or(o.Connections, maxIdle)
	return &Transport{o: o, dialer: outbound.Dialer{Network: o.Network, Address: o.Address, Timeout: o.Connect, Resolver: o.Resolver}}
}

// RoundTrip implements message.RoundTripper. A request goes out again, on another connection, where the backend surely
// has not acted on it: its connection was dead before anything was sent, or died without a byte of an answer to an
// idempotent request.
func (t *Transport) RoundTrip(ctx *message.Context, r *message.Request, interim message.Interim) (*message.Response, error) {
	if err := r.Writable(); err != nil {
		return nil, err
	}
	fresh := false
	var again []byte
	for {
		b, err := t.connection(ctx, r, fresh)
		if err != nil {
			return nil, err
		}
		reused := b.used
		response, err := b.roundTrip(ctx, r, interim, again)
		if err == nil {
			return response, nil
		}

		// Keep what was sent: content that came from the client cannot be read a second time.
		var sent []byte
		// If the content was not sent whole, a sender may still be at work on the buffer.
		if b.whole {
			// A copy, as destroy gives the buffer back.
			sent = bytes.Clone(b.out)
		}

		b.destroy()
		// The caller must know this before it tries another target.
		r.Spent = r.Spent || b.consumed
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		// Servers with a single worker wait on a kept connection for its next request, and answer no other
		// meanwhile. The error says so.
		case !reused && !b.answered && deadline.Exceeded(err) && t.Idle() > 0:
			return nil, fmt.Errorf("%w: %w", ErrOthersIdle, err)
		// A new connection failed by itself, an answer had begun, or content is gone: the request cannot be
		// repeated safely.
		case !reused || b.answered || b.consumed && !b.whole:
			return nil, err
		// Nothing was sent, so any request may be sent again.
		case !b.asked:
		case message.Idempotent(r.Method) && !deadline.Exceeded(err):
			// The pool may hold more connections that died together with this one.
			// RFC 9110 section 9.2.2: a method that may be repeated, on a connection that has most likely been
			// closed while it was idle.
			fresh = true
			if b.whole {
				again = sent
			}
		default:
			return nil, err
		}
	}
}

// connection takes the client's own connection, or the one that was used last, or dials.
func (t *Transport) connection(ctx *message.Context, r *message.Request, fresh bool) (*backend, error) {
	// A connection that has authenticated for this client comes first: NTLM and Negotiate tie the user to it.
	if !fresh {
		if b := t.takeOwned(r.Conn); b != nil {
			if time.Now().Before(b.until) {
				return b, nil
			}
			b.destroy()
		}
		if b := t.takeIdle(); b != nil {
			return b, nil
		}
	}

	// Only dialing counts as connecting. A connection from the pool costs nothing.
	start := time.Now()
	defer func() { r.Connecting += time.Since(start) }()
	b, err := t.dial(ctx)
	if err == nil {
		r.Securing += b.securing
	}
	return b, err
}

// takeIdle returns the connection that was used last, if one is idle and its time is not over.
func (t *Transport) takeIdle() *backend {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := len(t.idle) - 1; n >= 0; n-- {
		b := t.idle[n]
		// The slot is cleared, or the array would keep the connection and its buffers alive.
		t.idle[n] = nil
		t.idle = t.idle[:n]
		if time.Now().Before(b.until) {
			return b
		}
		b.destroy()
	}
	return nil
}

// Idle is how many connections are kept for anybody's request.
func (t *Transport) Idle() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.idle)
}

// ErrOthersIdle is wrapped by the timeout of a request on a new connection to a backend that had another one idle: it
// may serve only one at a time, and wait there for the next request.
var ErrOthersIdle = errors.New("another connection was idle")

func (t *Transport) dial(ctx *message.Context) (*backend, error) {
	// The client's context is no context.Context: Hold makes its end cancel this one.
	limited, cancel := context.WithTimeout(context.Background(), t.o.Connect)
	defer cancel()
	if !ctx.Hold(message.Closer(cancel)) {
		return nil, ctx.Err()
	}
	defer ctx.Release()
	conn, err := t.dialer.Dial(limited)
	if err != nil {
		return nil, err
	}

	b := &backend{transport: t}
	if raw, ok := conn.(syscall.Conn); ok {
		b.raw, _ = raw.SyscallConn()
	}
	// Reads and writes go past the runtime's system call bookkeeping where the platform allows it.
	if faster, ok := socket.New(conn); ok {
		conn = faster
	}

	b.tcp, b.conn = conn, conn
	if t.o.TLS != nil {
		connected := time.Now()
		secured := tls.Client(conn, t.o.TLS)
		if err := secured.HandshakeContext(limited); err != nil {
			conn.Close()
			if limited.Err() != nil && ctx.Err() == nil {
				// crypto/tls reports only "context deadline exceeded", which does not say what took so long.
				err = &net.OpError{Op: "dial", Net: t.o.Network, Addr: conn.RemoteAddr(), Err: errors.New("TLS handshake timeout")}
			}
			return nil, err
		}
		b.conn, b.securing = secured, time.Since(connected)
	}

	b.limit.Init(conn.SetReadDeadline)
	b.step = b.onReady
	return b, nil
}

// Adopt takes a connection that somebody else has made to the same backend, and on which nothing was said.
func (t *Transport) Adopt(secured *tls.Conn) {
	tcp := secured.NetConn()
	b := &backend{transport: t, tcp: tcp, conn: secured, until: time.Now().Add(t.o.Idle)}
	if below, ok := tcp.(interface{ NetConn() net.Conn }); ok {
		tcp = below.NetConn()
	}
	if raw, ok := tcp.(syscall.Conn); ok {
		b.raw, _ = raw.SyscallConn()
	}
	b.limit.Init(b.tcp.SetReadDeadline)
	b.step = b.onReady
	if t.o.Single {
		b.destroy()
		return
	}
	t.put(b)
}

// put takes a connection back on which nothing is open any more.
func (t *Transport) put(b *backend) {
	b.used = true
	t.mu.Lock()
	if t.closed || len(t.idle) >= t.o.Connections {
		// Destroying waits for the sender, which must not happen under the lock.
		t.mu.Unlock()
		b.destroy()
		return
	}
	defer t.mu.Unlock()
	t.idle = append(t.idle, b)
	t.reapBy(b.until)
}

// reapBy looks at idle connections at this time or before. It is called with the lock held.
func (t *Transport) reapBy(at time.Time) {
	switch wait := max(time.Until(at), reapAtLeast); {
	case t.reaper == nil:
		t.reaper = time.AfterFunc(wait, t.reap)
	case at.Before(t.reapAt):
		t.reaper.Reset(wait)
	// The timer fires early enough. It looks at all connections then, and sets itself again.
	default:
		return
	}
	t.reapAt = at
}

// keep holds a connection back for the client's connection that it belongs to. Nobody else gets it.
func (t *Transport) keep(b *backend) {
	b.used = true
	t.mu.Lock()
	before := t.owned[b.owner]
	// Bind fails when the client's connection has ended meanwhile: nobody would ever close this one.
	kept := !t.closed && b.owner.Bind(t)
	if kept {
		if t.owned == nil {
			t.owned = map[*message.Conn]*backend{}
		}
		t.owned[b.owner] = b
	}

	t.mu.Unlock()

	// Two requests of the same client may each have had a connection. Only the latest one is kept.
	if !kept {
		b.destroy()
	} else if before != nil {
		before.destroy()
	}
}

// takeOwned returns the connection that belongs to a client's, if there is one.
func (t *Transport) takeOwned(c *message.Conn) *backend {
	if c == nil || !c.Bound() {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.owned[c]
	delete(t.owned, c)
	return b
}

// Owns reports whether a connection is kept for a client's.
func (t *Transport) Owns(c *message.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.owned[c] != nil
}

// Unbind implements message.Holder.
func (t *Transport) Unbind(c *message.Conn) {
	if b := t.takeOwned(c); b != nil {
		b.destroy()
	}
}

// reap closes what has been idle for too long.
func (t *Transport) reap() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reaper = nil
	if t.closed {
		return
	}

	now, kept, next := time.Now(), t.idle[:0], time.Time{}
	for _, b := range t.idle {
		if !now.Before(b.until) {
			b.destroy()
			continue
		}
		kept = append(kept, b)
		if next.IsZero() || b.until.Before(next) {
			next = b.until
		}
	}

	// The rest of the array still refers to connections that are closed.
	clear(t.idle[len(kept):])
	if t.idle = kept; len(kept) > 0 {
		t.reapBy(next)
	}
}

// Close closes idle connections, and open ones when their exchange ends.
func (t *Transport) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, b := range t.idle {
		b.destroy()
	}

	for _, b := range t.owned {
		b.destroy()
	}

	t.idle, t.owned = nil, nil
	if t.reaper != nil {
		t.reaper.Stop()
	}
}
