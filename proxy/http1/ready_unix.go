//go:build unix

package http1

import (
	"io"
	"syscall"

	"padlock/proxy/deadline"
	"padlock/proxy/message"
	"padlock/proxy/socket"
)

// phase is where an exchange's first system calls are.
type phase int

const (
	checking phase = iota
	waiting
)

// exchange sends out and reads the first bytes of the answer.
//
// A plaintext connection is first read from, in vain: that shows one that has died while idle, and lets the runtime's
// poller wait right after the write. Reading only afterwards would cost the same calls and show nothing.
func (b *backend) exchange(r *message.Request) error {
	if b.raw == nil || b.conn != b.tcp {
		return b.exchangePlainly(r)
	}
	b.phase, b.sent, b.err, b.pending = checking, 0, nil, r
	defer func() { b.pending = nil }()

	for {
		err := b.raw.Read(b.step)
		switch {
		// The deadline that fired was set for an earlier use of the connection. The limit has moved since, so this
		// is no timeout.
		case err != nil && deadline.Exceeded(err) && !b.limit.Expired():
		case err != nil:
			return err
		case b.err != nil:
			return b.err
		case b.sent < len(b.out):
			// The socket's send buffer is full.
			n, err := b.conn.Write(b.out[b.sent:])
			if b.sent += n; err != nil {
				return err
			}
			b.written()
		default:
			return nil
		}
	}
}

// onReady is called until it reports true, and before each further call when there is something to read.
func (b *backend) onReady(fd uintptr) bool {
	if b.phase == checking {
		n, err := socket.Read(fd, b.room[:1])
		// A healthy idle connection has nothing to read. The end, an error or unasked bytes all make it useless.
		if err != syscall.EAGAIN {
			b.err = errStale
			if n > 0 && !b.used {
				b.err = errUnsolicited
			}
			return true
		}

		if b.err = b.appendContent(b.pending); b.err != nil {
			return true
		}

		// From here on, the backend may have acted on the request, which decides about a second attempt.
		b.phase, b.asked = waiting, true
		b.sent, b.err = socket.Write(fd, b.out)
		if b.err == syscall.EAGAIN {
			b.err = nil
		}

		if b.err != nil || b.sent < len(b.out) {
			return true
		}
		b.written()
		// Reporting false lets the poller wait for the answer without another visit here.
		return false
	}

	n, err := socket.Read(fd, b.room[:])
	switch {
	case err == syscall.EAGAIN:
		return false
	case err != nil:
		b.err = err
	case n == 0:
		b.err = io.ErrUnexpectedEOF
	}

	// The reader continues with these bytes, as if it had read them itself.
	b.reader.end, b.reader.came = max(n, 0), n > 0
	return true
}

// peek looks whether a connection has ended, or has something to read.
func peek(fd uintptr) (ended, spoke bool) {
	var p [1]byte
	n, _, err := syscall.Recvfrom(int(fd), p[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	switch {
	case n > 0:
		return false, true
	case err == syscall.EAGAIN, err == syscall.EINTR:
		return false, false
	}
	return true, false
}
