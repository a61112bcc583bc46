// Package relay joins two connections, whatever their bytes mean.
//
//	in, out, err := relay.Join(client, target, time.Hour)
package relay

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"padlock/internal/pool"
	"padlock/proxy/deadline"
)

// ErrIdle is given where nothing has passed for too long.
var ErrIdle = errors.New("nothing has passed for too long")

// Join copies what client sends to target and the other way round, until both have ended, either has failed, or nothing
// has passed for idle. An end of one side is passed on, and the other may go on sending. Both are closed when it
// returns; in and out are the bytes that client and target have sent.
func Join(client, target net.Conn, idle time.Duration) (in, out int64, err error) {
	j := &joint{client: client, target: target}
	j.idle = NewIdle(idle, j.expire)
	defer j.idle.Stop()
	defer j.close()
	sent := make(chan error, 1)
	go func() {
		var err error
		if in, err = Copy(target, newSource(client), j.idle); err != nil {
			j.cut()
		}
		sent <- err
	}()

	out, err = Copy(client, newSource(target), j.idle)
	if err != nil {
		j.cut()
	}
	// An error of a connection that the other direction has closed is a consequence. The first one is the cause.
	if first := <-sent; err == nil || errors.Is(err, net.ErrClosed) {
		err = first
	}
	if j.expired.Load() {
		err = ErrIdle
	}

	return in, out, err
}

// source limits the reads of a connection.
type source struct {
	net.Conn
	limit deadline.Deadline
}

func newSource(c net.Conn) *source {
	s := &source{Conn: c}
	s.limit.Init(c.SetReadDeadline)
	return s
}

func (s *source) Read(p []byte) (int, error) { return s.limit.Read(s.Conn, p) }
func (s *source) Until(at time.Time)         { s.limit.Until(at) }

// joint is a pair of connections that Join has joined.
type joint struct {
	client, target net.Conn
	idle           *Idle
	expired        atomic.Bool
	once           sync.Once
}

func (j *joint) expire() {
	j.expired.Store(true)
	j.cut()
}

// close ends both; after a failure so that neither takes it for the other's proper end.
func (j *joint) close() { j.end(net.Conn.Close) }

func (j *joint) cut() {
	j.end(func(c net.Conn) error {
		if below, ok := c.(interface{ NetConn() net.Conn }); ok {
			// The end comes without close_notify, so that the other side sees a cut as a cut.
			_ = below.NetConn().Close()
		}
		return c.Close()
	})
}

func (j *joint) end(how func(net.Conn) error) {
	j.once.Do(func() {
		_ = how(j.client)
		_ = how(j.target)
	})
}

// Source is what Copy reads from. Until limits the reads that follow, at the cost of a comparison; the zero time lifts
// the limit.
type Source interface {
	io.Reader
	Until(time.Time)
}

// WriteError is the failure of the side that takes what is copied.
type WriteError struct{ Err error }

func (e *WriteError) Unwrap() error { return e.Err }
func (e *WriteError) Error() string { return e.Err.Error() }

// A source that waits keeps a small buffer; one that fills it gets a large one, until it says less or nothing for a
// while.
const (
	small   = 1 << 10
	large   = 64 << 10
	silence = time.Second
)

var larges = pool.Of(func(b *[large]byte) []byte { return b[:] })

// Copy passes on what src sends until it ends, and then the end; idle is touched whenever something has come. Where dst
// fails and not src, the error is a WriteError. n is what dst has taken.
func Copy(dst io.WriteCloser, src Source, idle *Idle) (n int64, err error) {
	waiting := make([]byte, small)
	var borrowed *[large]byte
	giveBack := func() {
		if borrowed != nil {
			larges.Put(borrowed)
			borrowed = nil
			src.Until(time.Time{})
		}
	}
	defer giveBack()

	for {
		room := waiting
		if borrowed != nil {
			room = borrowed[:]
			// A large buffer is lent for as long as it is used, and given back after a second without bytes.
			src.Until(time.Now().Add(silence))
		}

		read, err := src.Read(room)
		if read > 0 {
			idle.Touch()
			written, err := dst.Write(room[:read])
			if n += int64(written); err != nil {
				return n, &WriteError{err}
			}
		}

		switch {
		case errors.Is(err, io.EOF):
			idle.Touch()
			// One side's end is passed on, and the other may go on: some protocols end one direction before the other.
			if err := closeWrite(dst); err != nil {
				return n, &WriteError{err}
			}
			return n, nil
		case borrowed != nil && (err == nil && read < small || deadline.Exceeded(err)):
			giveBack()
		case err != nil:
			return n, err
		case borrowed == nil && read == small:
			borrowed = larges.Get()
		}
	}
}

// closeWrite ends one direction, or all where that cannot be done.
func closeWrite(c io.Closer) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}
