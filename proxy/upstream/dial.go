package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"padlock/config"
	"padlock/proxy/message"
	"padlock/proxy/outbound"
	"padlock/proxy/socket"
)

// Dial connects to a target of the group for a request of which only the client counts, and to another where that fails. Its errors are
// those of RoundTrip. The connection's Close does not end the attempt.
func (g *Group) Dial(ctx *message.Context, r *message.Request, a *Attempt) (net.Conn, error) {
	g.budget.request(g.o.Retry.Budget)
	f := g.filter(r)
	start := time.Now()
	for {
		m, err := g.acquire(ctx, r, f)
		placed := time.Now()
		a.Wait += placed.Sub(start)
		if err != nil {
			return nil, err
		}
		a.hold(g, m, &f)
		conn, err := m.target.dialer.dial(ctx)
		start = time.Now()
		a.Answer = start.Sub(placed)
		if err == nil {
			m.target.report(nil, a.Answer)
			return conn, nil
		}
		a.End()
		failure := &Error{Target: m.target.target, Err: err}
		if ctx.Err() != nil {
			return nil, failure
		}
		m.target.report(failure, a.Answer)
		f.tried[a.Retries] = m
		if a.Retries+1 >= min(g.o.Retry.Attempts, len(g.current.Load().members), maxAttempts) || !g.budget.retry() {
			return nil, failure
		}
		a.Retries++
	}
}

// dialer connects to one target that is not spoken to by HTTP.
type dialer struct {
	outbound.Dialer
	tls *tls.Config // nil: plaintext
}

func newDialer(u *config.Upstream, target config.Target, address string, timeout time.Duration, trust trust, resolver *net.Resolver) *dialer {
	d := &dialer{Dialer: outbound.Dialer{Network: target.Network, Address: address, Timeout: timeout, Resolver: resolver}}
	if target.Scheme == "tls" {
		d.tls = clientTLS(u, target, trust)
		d.tls.NextProtos = nil
	}
	return d
}

func (d *dialer) dial(ctx *message.Context) (net.Conn, error) {
	limited, cancel := context.WithTimeout(context.Background(), d.Timeout)
	defer cancel()
	if !ctx.Hold(message.Closer(cancel)) {
		return nil, ctx.Err()
	}
	defer ctx.Release()
	conn, err := d.Dial(limited)
	if err != nil {
		return nil, err
	}
	if faster, ok := socket.New(conn); ok {
		conn = faster
	}
	if d.tls == nil {
		return conn, nil
	}
	secured := tls.Client(conn, d.tls)
	if err := secured.HandshakeContext(limited); err != nil {
		conn.Close()
		if limited.Err() != nil && ctx.Err() == nil {
			err = &net.OpError{Op: "dial", Net: d.Network, Addr: conn.RemoteAddr(), Err: errors.New("TLS handshake timeout")}
		}
		return nil, err
	}
	return secured, nil
}

// probe asks whether connections are accepted.
func (d *dialer) probe(ctx *message.Context) error {
	conn, err := d.dial(ctx)
	if err != nil {
		return err
	}
	return conn.Close()
}
