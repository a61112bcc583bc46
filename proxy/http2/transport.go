package http2

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"padlock/proxy/message"
	"padlock/proxy/outbound"
	"padlock/proxy/socket"
)

// TransportOptions say how a backend is reached.
type TransportOptions struct {
	Network        string          // tcp or unix; "": tcp
	Address        string          // host:port, or a path
	TLS            *tls.Config     // nil: without, with prior knowledge (RFC 9113 section 3.3)
	Other          func(*tls.Conn) // takes a connection by TLS for which HTTP/1.1 was agreed on; nil: it is closed
	Connect        time.Duration   // to connect, TLS included
	Resolver       *net.Resolver   // of names; nil: the system's
	ResponseHeader time.Duration   // request sent to response head; 0: however long it takes
	Idle           time.Duration   // connections without a request are kept for; 0: 90s
	Single         bool            // each request has a connection of its own
}

// Transport speaks HTTP/2 to one backend. Requests share its connections, as few as the backend lets hold them. It is
// safe for use from many goroutines.
type Transport struct {
	o      TransportOptions
	dialer outbound.Dialer
	scheme byte

	pingAfter  time.Duration // of silence
	pongWithin time.Duration

	mu       sync.Mutex
	backends []*backend
	dialing  *attempt // that others can join
	seats    int      // how many streams a new connection is expected to take
	closed   bool
}

var _ message.RoundTripper = (*Transport)(nil)

var (
	// ErrUpgrade is given for protocols that a backend is asked for by HTTP/1.1 only, or this one is.
	ErrUpgrade = errors.New("the upgrade is not forwarded by HTTP/2")
	// ErrOneConnection is given for credentials that authenticate a connection, as those of HTTP/2 are shared.
	ErrOneConnection = errors.New("NTLM is not forwarded by HTTP/2")
	// ErrNotSpoken is wrapped by the errors that a backend gives which speaks something else.
	ErrNotSpoken = errors.New("HTTP/2 is not spoken there")
	// ErrOther is given for a backend that speaks HTTP/1.1, by a connection that Other has.
	ErrOther = errors.New("HTTP/1.1 was agreed on")
	// ErrMalformed is wrapped by the errors that a backend's malformed response gives.
	ErrMalformed = errors.New("malformed HTTP/2 response")
	// ErrUnprocessed is wrapped by the errors of requests on which the backend has surely not acted: it said so, or
	// nothing of them was sent.
	ErrUnprocessed = errors.New("the request was not processed")
)

const (
	maxResponseHead   = 256 << 10
	maxResponseFields = 1000
	maxInterim        = 10
	idleTime          = 90 * time.Second
	endless           = 10 * 365 * 24 * time.Hour
	maxTries          = 4
	pingAfter         = 30 * time.Second
	pongWithin        = 15 * time.Second
)

// NewTransport dials nothing yet.
func NewTransport(o TransportOptions) *Transport {
	o.Network, o.Idle = cmp.Or(o.Network, "tcp"), cmp.Or(o.Idle, idleTime)
	o.ResponseHeader = cmp.Or(o.ResponseHeader, endless)
	t := &Transport{o: o, scheme: schemeHTTP, pingAfter: pingAfter, pongWithin: pongWithin, seats: firstStreams}
	t.dialer = outbound.Dialer{Network: o.Network, Address: o.Address, Timeout: o.Connect, Resolver: o.Resolver}
	if o.TLS != nil {
		t.scheme = schemeHTTPS
	}
	return t
}

// RoundTrip implements message.RoundTripper. A request goes out again where the backend surely has not acted on it, or
// where it is idempotent and its connection, which had served others, ended without a byte of an answer.
func (t *Transport) RoundTrip(ctx *message.Context, r *message.Request, interim message.Interim) (*message.Response, error) {
	switch {
	case r.Upgrade != "" && (r.Upgrade != "websocket" || r.Body != nil):
		return nil, ErrUpgrade
	case r.Fields.NeedsOneConnection():
		return nil, ErrOneConnection
	}
	if err := r.Writable(); err != nil {
		return nil, err
	}

	u := &upload{r: r}
	fresh := false
	for n := 1; ; n++ {
		response, f := t.try(ctx, u, interim, fresh)
		if f == nil {
			return response, nil
		}
		again := n < maxTries && ctx.Err() == nil && (!u.begun || u.whole)
		if again && errors.Is(f.err, ErrUnprocessed) {
			continue
		}
		if again && n == 1 && f.stale && message.Idempotent(r.Method) {
			// The connection may have been closed while nothing was open on it, and others with it.
			fresh = true
			continue
		}

		// The caller must know this before it tries another target.
		r.Spent = r.Spent || u.begun
		u.release()
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return nil, f.err
	}
}

// failure is why a request got no answer.
type failure struct {
	err   error
	stale bool // its connection had served others, and ended without a byte of an answer
}

// try sends a request once.
func (t *Transport) try(ctx *message.Context, u *upload, interim message.Interim, fresh bool) (*message.Response, *failure) {
	b, err := t.acquire(ctx, u.r, fresh)
	if err != nil {
		return nil, &failure{err: err}
	}

	used := b.used()
	u.head = appendRequest(make([]byte, 0, usualHead), u.r, t.scheme, t.o.Address)
	x, err := b.start(ctx, u)
	if err != nil {
		return nil, &failure{err: err}
	}
	response, err := x.answer(interim)
	if err != nil {
		return nil, &failure{err, used && !x.answered && errors.Is(err, errEnded)}
	}
	return response, nil
}

// usualHead is the size of most requests' heads.
const usualHead = 1 << 10

// attempt is one to connect, which several requests wait for.
type attempt struct {
	done    chan struct{} // closed when it has ended
	cancel  context.CancelFunc
	seats   int // how many may still join
	waiting int
	b       *backend
	err     error
}

// acquire returns a connection with a place for a stream, which begin takes.
func (t *Transport) acquire(ctx *message.Context, r *message.Request, fresh bool) (*backend, error) {
	t.mu.Lock()
	if !t.o.Single && !fresh {
		for _, b := range t.backends {
			if b.reserve() {
				t.mu.Unlock()
				return b, nil
			}
		}
	}
	d := t.join()
	t.mu.Unlock()

	start := time.Now()
	defer func() { r.Connecting += time.Since(start) }()
	gone := make(chan struct{})
	if !ctx.Hold(message.Closer(func() { close(gone) })) {
		t.leave(d)
		return nil, ctx.Err()
	}
	select {
	case <-d.done:
		// The place is taken, whether or not the client has gone: begin finds out.
		ctx.Release()
		return d.b, d.err
	case <-gone:
		t.leave(d)
		return nil, ctx.Err()
	}
}

// leave gives back the place of a request that does not wait for its connection any more.
func (t *Transport) leave(d *attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-d.done:
		if d.b != nil {
			d.b.unreserve()
		}
	default:
		d.seats++
		// Clients that leave at once would have us dial a silent target over and over.
		if d.waiting--; d.waiting == 0 {
			d.cancel()
			if t.dialing == d {
				t.dialing = nil
			}
		}
	}
}

// join takes part in an attempt to connect that is under way, or begins one. It is called with the lock held.
func (t *Transport) join() *attempt {
	d := t.dialing
	if d == nil || d.seats == 0 {
		ctx, cancel := context.WithTimeout(context.Background(), t.o.Connect)
		d = &attempt{done: make(chan struct{}), cancel: cancel, seats: t.seats}
		if t.o.Single {
			d.seats = 1
		}
		t.dialing = d
		// It ends with the connection, which Close ends.
		go t.connect(ctx, d)
	}
	d.seats--
	d.waiting++
	return d
}

// connect makes a connection, hands it to those who wait for it, and serves it until it ends.
func (t *Transport) connect(ctx context.Context, d *attempt) {
	conn, err := t.open(ctx)
	d.cancel()
	if b := t.arrive(d, conn, err); b != nil {
		b.serve()
	}
}

// arrive ends an attempt.
func (t *Transport) arrive(d *attempt, conn net.Conn, err error) *backend {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer close(d.done)
	if t.dialing == d {
		t.dialing = nil
	}
	if d.err = err; err != nil {
		return nil
	}

	// Until it has said its limit, that of the connection before is the best guess.
	d.b = newBackend(t, conn, d.waiting, min(firstStreams, t.seats))
	if t.o.Single || t.closed {
		d.b.retire()
	} else {
		t.backends = append(t.backends, d.b)
	}
	return d.b
}

// open makes a connection that speaks HTTP/2.
func (t *Transport) open(ctx context.Context) (net.Conn, error) {
	conn, err := t.dialer.Dial(ctx)
	if err != nil {
		return nil, err
	}
	if faster, ok := socket.New(conn); ok {
		conn = faster
	}
	if t.o.TLS == nil {
		return conn, nil
	}

	secured := tls.Client(conn, t.o.TLS)
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		if ctx.Err() != nil {
			// crypto/tls reports only "context deadline exceeded", which does not say what took so long.
			err = &net.OpError{Op: "dial", Net: t.o.Network, Addr: conn.RemoteAddr(), Err: errors.New("TLS handshake timeout")}
		}
		return nil, err
	}

	switch protocol := secured.ConnectionState().NegotiatedProtocol; {
	case protocol == "h2":
		return secured, nil
	case t.o.Other == nil || protocol != "" && protocol != "http/1.1":
		conn.Close()
		return nil, fmt.Errorf("%w: ALPN gave %q", ErrNotSpoken, protocol)
	}
	t.o.Other(secured)
	return nil, ErrOther
}

// forget takes a connection out that has ended.
func (t *Transport) forget(b *backend) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.backends, b); i >= 0 {
		t.backends = slices.Delete(t.backends, i, i+1)
	}
}

// expect notes how many streams the backend takes on a connection.
func (t *Transport) expect(streams int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seats = max(streams, 1)
}

// Close closes idle connections and waits for their end, which is near. Others end with their last request.
func (t *Transport) Close() {
	t.mu.Lock()
	t.closed = true
	var idle []*backend
	for _, b := range t.backends {
		if b.retire() {
			idle = append(idle, b)
		}
	}
	// Connections that end are forgotten, which takes the lock.
	t.mu.Unlock()
	for _, b := range idle {
		<-b.ended
	}
}
