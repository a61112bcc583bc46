// Package outbound connects to one target, wherever its name leads.
//
//	d := &outbound.Dialer{Network: "tcp", Address: "app.internal:3000", Timeout: 5 * time.Second}
//	conn, err := d.Dial(ctx)
package outbound

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// Dialer connects to one address. Its fields are set before use; it is safe for use from many goroutines.
type Dialer struct {
	Network, Address string        // tcp and host:port, or unix and a path
	Timeout          time.Duration // to look the name up and to connect
	Resolver         *net.Resolver // nil: the system's

	last atomic.Pointer[string] // where the name led when it was last looked up
}

// Dial connects. While the name cannot be looked up, though it is not said that it does not exist, it leads where it
// led before.
func (d *Dialer) Dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	if port, ok := d.own(); ok {
		return d.dialOwn(ctx, port)
	}

	last := d.last.Load()
	if last == nil {
		return d.dial(ctx, d.Address)
	}

	// Half of the time is left for the addresses that are remembered.
	first, giveUp := context.WithTimeout(ctx, d.Timeout/2)
	defer giveUp()
	conn, err := d.dial(first, d.Address)
	var lookup *net.DNSError
	// A DNS server that is away must not take down targets whose addresses are known. A name that does not exist
	// any more is another matter.
	if errors.As(err, &lookup) && !lookup.IsNotFound {
		return d.dial(ctx, *last)
	}
	if err != nil && first.Err() != nil && ctx.Err() == nil {
		// The name was found quickly, so it gets the whole timeout.
		return d.dial(ctx, d.Address)
	}

	return conn, err
}

// own is the port of this machine's own name (RFC 6761 section 6.3).
func (d *Dialer) own() (port string, ok bool) {
	host, port, err := net.SplitHostPort(d.Address)
	return port, err == nil && d.Network != "unix" && host == "localhost"
}

// dialOwn tries both loopback addresses, whatever the system makes of localhost: a container may know one of them
// alone, or none, and a server may listen on the other. The system's choice comes first, as with other clients, unless
// there are other DNS servers, which are not asked.
func (d *Dialer) dialOwn(ctx context.Context, port string) (conn net.Conn, err error) {
	addresses := []string{net.JoinHostPort("127.0.0.1", port), net.JoinHostPort("::1", port)}
	if d.Resolver == nil {
		addresses = append([]string{d.Address}, addresses...)
	}

	for _, address := range addresses {
		conn, failed := d.dial(ctx, address)
		if failed == nil {
			return conn, nil
		}
		if better(failed, err) {
			err = failed
		}
		if ctx.Err() != nil {
			break
		}
	}

	return nil, err
}

// better reports whether an error says more than an earlier one: a name or an address that does not exist here tells
// nothing of who listens.
func better(err, than error) bool {
	var lookup *net.DNSError
	return than == nil || errors.As(than, &lookup) || errors.Is(than, syscall.EADDRNOTAVAIL) || errors.Is(than, syscall.ENETUNREACH)
}

func (d *Dialer) dial(ctx context.Context, address string) (net.Conn, error) {
	dialer := net.Dialer{KeepAlive: 15 * time.Second, Resolver: d.Resolver}
	conn, err := dialer.DialContext(ctx, d.Network, address)
	if err != nil || d.Network == "unix" {
		return conn, err
	}
	if at := conn.RemoteAddr().String(); at != d.Address {
		if last := d.last.Load(); last == nil || *last != at {
			d.last.Store(&at)
		}
	}
	return conn, nil
}

const queryTimeout = time.Second

// Resolver asks these DNS servers (host:port), one after the other; nil, which is the system's, where there are none.
func Resolver(servers []string) *net.Resolver {
	if len(servers) == 0 {
		return nil
	}
	var next atomic.Uint32

	return &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			// The resolver dials again after a failure, and so comes to the next server.
			server := servers[int(next.Add(1)-1)%len(servers)]
			conn, err := (&net.Dialer{}).DialContext(ctx, network, server)
			if err != nil {
				return nil, err
			}
			if datagrams, ok := conn.(*net.UDPConn); ok {
				return &impatientDatagrams{datagrams}, nil
			}
			return conn, nil
		},
	}
}

// impatientDatagrams ask a silent server for a second, not for the five of the resolver: package net takes the deadline
// from /etc/resolv.conf, which is not about these servers. It has to be a net.PacketConn, by which the resolver knows
// datagrams.
type impatientDatagrams struct{ *net.UDPConn }

func (c *impatientDatagrams) SetDeadline(t time.Time) error {
	if soon := time.Now().Add(queryTimeout); t.After(soon) {
		t = soon
	}
	return c.UDPConn.SetDeadline(t)
}
