//go:build !unix

package socket

import (
	"net"
	"sync"
)

// Conn is a connection.
type Conn struct {
	net.Conn
	write  struct{ mu sync.Mutex }
	corked *[corkSize]byte
	held   int
}

// New wraps c, which it must be the only one to use from then on.
func New(c net.Conn) (*Conn, bool) { return &Conn{Conn: c}, true }

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	c.write.mu.Lock()
	defer c.write.mu.Unlock()
	if c.corked != nil {
		return c.hold(p)
	}
	return c.send(p)
}

func (c *Conn) send(p []byte) (int, error) { return c.Conn.Write(p) }
