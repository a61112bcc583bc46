package upstream

import (
	"crypto/tls"
	"errors"
	"sync/atomic"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"padlock/proxy/http1"
	"padlock/proxy/http2"
	"padlock/proxy/message"
)

// pool is a transport that keeps connections which serve one request at a time.
type pool interface {
	Idle() int
	Owns(c *message.Conn) bool
}

// newTransport chooses how a target is spoken to: by what the configuration says, or else by its scheme and, over TLS,
// by what is agreed on.
func newTransport(protocol, scheme string, one http1.TransportOptions, two http2.TransportOptions) transport {
	switch {
	case scheme == "h2c", protocol == "http2":
		return http2.NewTransport(two)
	case protocol == "http1", two.TLS == nil:
		return http1.NewTransport(one)
	}

	n := &negotiated{one: http1.NewTransport(one)}
	two.TLS.NextProtos = []string{"h2", "http/1.1"}
	two.Other = func(conn *tls.Conn) { n.one.Adopt(conn) }
	n.two = http2.NewTransport(two)
	return n
}

// negotiated speaks HTTP/2 to an https target that takes it (RFC 7301), and HTTP/1.1 to others and for what belongs to
// one connection.
type negotiated struct {
	one *http1.Transport
	two *http2.Transport
	// When a target that takes HTTP/1.1 alone is offered HTTP/2 again, in nanoseconds of the clock; 0: it takes both, or
	// nothing is known.
	again atomic.Int64
}

// askAgain is how long a target is taken for one that speaks HTTP/1.1 alone.
const askAgain = 10 * time.Minute

// RoundTrip implements message.RoundTripper.
func (n *negotiated) RoundTrip(ctx *message.Context, r *message.Request, interim message.Interim) (*message.Response, error) {
	if n.needsOne(r) || n.knownOne() {
		return n.one.RoundTrip(ctx, r, interim)
	}

	response, err := n.two.RoundTrip(ctx, r, interim)
	switch {
	case err == nil:
		if n.again.Load() != 0 {
			n.again.Store(0)
		}
		return response, nil
	case errors.Is(err, http2.ErrOther):
		n.again.Store(time.Now().Add(askAgain).UnixNano())
		// Content that a connection over HTTP/2 refused cannot be read again.
		if r.Spent {
			return nil, err
		}
	case errors.Is(err, http2.ErrUpgrade):
	case required(err) && !r.Spent:
	default:
		return nil, err
	}
	return n.one.RoundTrip(ctx, r, interim)
}

// needsOne reports whether a request belongs on a connection of its own: its credentials authenticate one, or have
// done so. A connection of HTTP/2 is everybody's.
func (n *negotiated) needsOne(r *message.Request) bool {
	return r.Upgrade != "" && r.Upgrade != "websocket" || r.Fields.AuthenticatesConnection() ||
		r.Conn != nil && r.Conn.Bound() && n.one.Owns(r.Conn)
}

// knownOne reports whether the target is known to take HTTP/1.1 alone. One request asks again after a while.
func (n *negotiated) knownOne() bool {
	again := n.again.Load()
	if again == 0 {
		return false
	}
	now := time.Now()
	return now.UnixNano() < again || !n.again.CompareAndSwap(again, now.Add(askAgain).UnixNano())
}

// required reports whether a target wants a request by HTTP/1.1 (RFC 9113 section 7), on which it has not acted.
func required(err error) bool {
	var reset *message.ResetError
	return errors.As(err, &reset) && xhttp2.ErrCode(reset.Code) == xhttp2.ErrCodeHTTP11Required
}

// Idle implements pool.
func (n *negotiated) Idle() int { return n.one.Idle() }

// Owns implements pool.
func (n *negotiated) Owns(c *message.Conn) bool { return n.one.Owns(c) }

// Close implements transport.
func (n *negotiated) Close() {
	n.one.Close()
	n.two.Close()
}
