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
)

// ErrIdle is given where nothing has passed for too long.
var ErrIdle = errors.New("nothing has passed for too long")

// Join copies what client sends to target and the other way round, until both have ended, either has failed, or nothing has passed for
// idle. An end of one side is passed on, and the other may go on sending. Both are closed when it returns; in and out are the bytes that
// client and target have sent.
func Join(client, target net.Conn, idle time.Duration) (in, out int64, err error) {
	j := &joint{client: client, target: target}
	j.idle = NewIdle(idle, j.expire)
	defer j.idle.Stop()
	defer j.close()
	sent := make(chan error, 1)
	go func() {
		var err error
		if in, err = j.copy(target, client); err != nil {
			j.cut()
		}
		sent <- err
	}()
	out, err = j.copy(client, target)
	if err != nil {
		j.cut()
	}
	if first := <-sent; err == nil || errors.Is(err, net.ErrClosed) {
		err = first
	}
	if j.expired.Load() {
		err = ErrIdle
	}
	return in, out, err
}

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
			_ = below.NetConn().Close() // without TLS's close_notify
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

// A connection that waits keeps a small buffer; one that fills it gets a large one.
const (
	small = 4 << 10
	large = 64 << 10
)

var larges = sync.Pool{New: func() any { return new([large]byte) }}

// copy passes on what src sends until it ends, and then the end.
func (j *joint) copy(dst, src net.Conn) (n int64, err error) {
	buffer := make([]byte, small)
	var borrowed *[large]byte
	defer func() {
		if borrowed != nil {
			larges.Put(borrowed)
		}
	}()
	for {
		room := buffer
		if borrowed != nil {
			room = borrowed[:]
		}
		read, err := src.Read(room)
		if read > 0 {
			j.idle.Touch()
			n += int64(read)
			if _, err := dst.Write(room[:read]); err != nil {
				return n, err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return n, closeWrite(dst)
		case err != nil:
			return n, err
		case borrowed == nil && read == small:
			borrowed = larges.Get().(*[large]byte)
		case borrowed != nil && read < small:
			larges.Put(borrowed)
			borrowed = nil
		}
	}
}

// closeWrite ends one direction, or all where that cannot be done.
func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}
