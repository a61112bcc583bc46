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

// Dial connects to a target of the group for a request of which only the client counts, and to another where that
// fails. Its errors are those of RoundTrip. The connection's Close does not end the attempt.
func (g *Group) Dial(ctx *message.Context, r *message.Request, a *Attempt) (conn net.Conn, err error) {
	always := func(*Error) bool { return true }
	err = g.try(ctx, r, a, always, func(m *member, _ time.Time) (err error) {
		conn, err = m.target.dialer.dial(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// dialer connects to one target that is not spoken to by HTTP.
type dialer struct {
	outbound.Dialer
	tls *tls.Config // nil: plaintext
}

func newDialer(u *config.Upstream, target config.Target, address string, timeout time.Duration, trust trust, resolver *net.Resolver) *dialer {
	d := &dialer{Dialer: outbound.Dialer{Network: target.Network, Address: address, Timeout: timeout, Resolver: resolver}}
	if target.Scheme == "tls" {
		// The bytes are the client's protocol, which padlock does not know. Offering one could make the target refuse
		// it.
		d.tls = clientTLS(u, target, trust)
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
			// crypto/tls reports only "context deadline exceeded", which does not say what took so long.
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
