//go:build unix

package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"
)

// Conn is a TCP or unix connection. Reads and writes may come from different goroutines at once, as with any net.Conn.
type Conn struct {
	net.Conn
	raw syscall.RawConn

	read, write direction
	waited      bool            // for what is being read
	eager       int             // reads in a row that did not have to wait
	corked      *[corkSize]byte // nil: writes go out at once
	held        int             // bytes that wait in corked

	Staller Staller // nil: a write ends at its deadline; set while nobody writes
}

// direction is one call at a time, whose parameters the poller's callback finds here: a closure would be an allocation
// for each.
type direction struct {
	mu    sync.Mutex
	p     []byte
	n     int
	err   error
	tried bool // writes: the system was asked
	step  func(fd uintptr) bool
}

// New wraps c, which it must be the only one to use from then on; where c has no descriptor it returns false.
func New(c net.Conn) (*Conn, bool) {
	owner, ok := c.(syscall.Conn)
	if !ok {
		return nil, false
	}
	raw, err := owner.SyscallConn()
	if err != nil {
		return nil, false
	}
	s := &Conn{Conn: c, raw: raw}
	s.read.step, s.write.step = s.tryRead, s.tryWrite
	return s, true
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}

	d := &c.read
	d.mu.Lock()
	defer d.mu.Unlock()
	d.p, d.n, d.err = p, 0, nil
	c.waited = false
	err := c.raw.Read(d.step)
	// The buffer is the caller's again, and may be given back to a pool.
	d.p = nil

	if c.eager++; c.waited {
		c.eager = 0
	} else if c.eager >= maxEager {
		c.eager = 0
		runtime.Gosched()
	}

	switch {
	case err != nil:
		return 0, err
	case d.err != nil:
		return 0, c.fault("read", d.err)
	case d.n == 0:
		return 0, io.EOF
	}

	return d.n, nil
}

// maxEager reads may follow each other before others have their turn: whoever sends faster than it is understood would
// otherwise keep a processor until the scheduler takes it away, which is after ten milliseconds.
const maxEager = 2

func (c *Conn) tryRead(fd uintptr) bool {
	c.read.n, c.read.err = Read(fd, c.read.p)
	if c.read.err == syscall.EAGAIN {
		c.waited = true
		return false
	}
	return true
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	d := &c.write
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.corked != nil {
		return c.hold(p)
	}
	return c.send(p)
}

func (c *Conn) send(p []byte) (int, error) {
	d := &c.write
	d.p, d.n, d.err, d.tried = p, 0, nil, false
	err := c.raw.Write(d.step)
	if d.tried && c.Staller != nil && errors.Is(err, os.ErrDeadlineExceeded) && c.Staller.Stalled() {
		// The step goes on behind what the kernel has taken.
		err = c.raw.Write(d.step)
		c.Staller.Resumed()
	}

	d.p = nil
	switch {
	case err == nil && d.err != nil:
		err = c.fault("write", d.err)
	// The deadline had passed before: nothing was sent, and the client is not to blame.
	case !d.tried && errors.Is(err, os.ErrDeadlineExceeded):
		err = &late{err}
	}

	return d.n, err
}

func (c *Conn) tryWrite(fd uintptr) bool {
	d := &c.write
	d.tried = true
	for d.n < len(d.p) {
		n, err := Write(fd, d.p[d.n:])
		switch err {
		case nil:
			d.n += n
		case syscall.EAGAIN:
			return false
		default:
			d.err = err
			return true
		}
	}

	return true
}

func (c *Conn) fault(op string, err error) error {
	return &net.OpError{Op: op, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// Read reads a socket that does not block; its error is a syscall.Errno, syscall.EAGAIN where there is nothing yet. It
// does not tell Go's scheduler, which pays off for calls of a few microseconds: otherwise it counts each as one that may
// take long, and wakes up to look after it.
func Read(fd uintptr, p []byte) (int, error) {
	for {
		n, errno := receive(fd, unsafe.Pointer(unsafe.SliceData(p)), len(p))
		if errno == syscall.EINTR {
			continue
		}
		return settled(n, errno)
	}
}

// Write writes to one in the same way.
func Write(fd uintptr, p []byte) (int, error) {
	for {
		n, errno := send(fd, unsafe.Pointer(unsafe.SliceData(p)), len(p))
		if errno == syscall.EINTR {
			continue
		}
		return settled(n, errno)
	}
}

func settled(n uintptr, errno syscall.Errno) (int, error) {
	switch errno {
	case 0:
		return int(n), nil
	case syscall.EAGAIN:
		// The usual case costs no allocation.
		return 0, syscall.EAGAIN
	}
	return 0, errno
}
