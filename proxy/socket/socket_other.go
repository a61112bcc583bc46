//go:build !unix

package socket

import (
	"errors"
	"net"
	"os"
	"sync"
)

// Conn is a connection.
type Conn struct {
	net.Conn
	write  struct{ mu sync.Mutex }
	corked *[corkSize]byte
	held   int

	Staller Staller // nil: a write ends at its deadline; set while nobody writes
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

func (c *Conn) send(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if c.Staller != nil && errors.Is(err, os.ErrDeadlineExceeded) && c.Staller.Stalled() {
		var more int
		more, err = c.Conn.Write(p[n:])
		n += more
		c.Staller.Resumed()
	}
	return n, err
}
