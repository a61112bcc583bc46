// Package socket reads and writes connections at less cost than package net does.
//
//	s, ok := socket.New(conn)
//	s.Cork(); …; err := s.Uncork()   // what is written between goes out together
package socket

import (
	"io"
	"net"
	"time"

	"padlock/internal/pool"
)

// late is a write whose limit had passed before it began.
type late struct{ error }

func (e *late) Unwrap() error   { return e.error }
func (e *late) Timeout() bool   { return true }
func (e *late) Temporary() bool { return true }

// Late reports whether nothing was written as a limit had passed before: one that an earlier write has left behind.
func Late(err error) bool {
	_, ok := err.(*late)
	return ok
}

// Staller decides about a write that has waited until its deadline for the other side to take something. Its methods
// are called by whoever writes.
type Staller interface {
	// Stalled reports whether the write goes on, until another deadline that it has set.
	Stalled() bool
	// Resumed is called when a write that went on has ended, however it did.
	Resumed()
}

const corkSize = 40 << 10 // two full TLS records, and the rest of a third

var corks = pool.Of(func(c *[corkSize]byte) []byte { return c[:] })

// Cork holds back what is written until Uncork, or until it is too much.
func (c *Conn) Cork() {
	c.write.mu.Lock()
	defer c.write.mu.Unlock()
	if c.corked == nil {
		c.corked = corks.Get()
	}
}

// Uncork sends what was held back.
func (c *Conn) Uncork() error {
	c.write.mu.Lock()
	defer c.write.mu.Unlock()
	if c.corked == nil {
		return nil
	}
	err := c.flush()
	corks.Put(c.corked)
	c.corked = nil
	return err
}

func (c *Conn) hold(p []byte) (int, error) {
	if c.held+len(p) > corkSize {
		if err := c.flush(); err != nil {
			return 0, err
		}
		if len(p) > corkSize {
			// Copying more than the buffer holds would gain nothing.
			return c.send(p)
		}
	}
	c.held += copy(c.corked[c.held:], p)
	return len(p), nil
}

func (c *Conn) flush() error {
	if c.held == 0 {
		return nil
	}
	_, err := c.send(c.corked[:c.held])
	c.held = 0
	return err
}

// NetConn is the connection that is wrapped, for what it can do beyond net.Conn.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// CloseWrite ends our side and leaves the other open.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Conn.Close()
}

// Linger ends our side and takes what the other still sends, within limits: closing at once while something is unread
// would reset the connection, and the other side could lose what we sent last. What comes is read below TLS, and not
// decrypted any more. The caller closes c.
func Linger(c net.Conn, limit time.Duration, bytes int64) {
	half, ok := c.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	// Decrypting what is thrown away would only give the client a way to cost us time.
	if below, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = below.NetConn()
	}
	_ = c.SetReadDeadline(time.Now().Add(limit))
	_, _ = io.CopyN(io.Discard, c, bytes)
}
