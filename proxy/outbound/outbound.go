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
	"time"
)

// Dialer connects to one address. Its fields are set before use; it is safe for use from many goroutines.
type Dialer struct {
	Network, Address string        // tcp and host:port, or unix and a path
	Timeout          time.Duration // to look the name up and to connect
	Resolver         *net.Resolver // nil: the system's

	last atomic.Pointer[string] // where the name led when it was last looked up
}

// Dial connects. While the name cannot be looked up, though it is not said that it does not exist, it leads where it led before.
func (d *Dialer) Dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	last := d.last.Load()
	if last == nil {
		return d.dial(ctx, d.Address)
	}
	first, giveUp := context.WithTimeout(ctx, d.Timeout/2) // so that time is left
	defer giveUp()
	conn, err := d.dial(first, d.Address)
	var lookup *net.DNSError
	if errors.As(err, &lookup) && !lookup.IsNotFound {
		return d.dial(ctx, *last)
	}
	if err != nil && first.Err() != nil && ctx.Err() == nil {
		return d.dial(ctx, d.Address) // it was not the name that took so long
	}
	return conn, err
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

// impatientDatagrams ask a silent server for a second, not for the five of the resolver: package net takes the deadline from
// /etc/resolv.conf, which is not about these servers. It has to be a net.PacketConn, by which the resolver knows datagrams.
type impatientDatagrams struct{ *net.UDPConn }

func (c *impatientDatagrams) SetDeadline(t time.Time) error {
	if soon := time.Now().Add(queryTimeout); t.After(soon) {
		t = soon
	}
	return c.UDPConn.SetDeadline(t)
}
