package http2

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/net/http2"

	"padlock/proxy/message"
)

// errUnwanted ends content of which the target wants no more.
var errUnwanted = errors.New("the target wants no more of the content")

// stream sends the content of a request while the answer is waited for: it may come early.
func (x *exchange) stream() {
	err := x.upload()
	b := x.b
	b.mu.Lock()
	defer b.mu.Unlock()
	x.sending = false
	if err != nil && x.err == nil && !x.closed && b.streams[x.id] == x {
		b.reset(x, http2.ErrCodeCancel, err)
	}
	// The time for an answer begins when the request is complete.
	if err == nil {
		x.limitBy(b.t.o.ResponseHeader)
	}
}

// upload sends what was read before, and then what is read.
func (x *exchange) upload() error {
	u := x.u
	if !x.wanted() {
		return nil
	}
	if u.held > 0 || u.whole {
		if err := x.send(u.content(), u.whole, u.trailers); err != nil || u.whole {
			return err
		}
	}

	buffer := rooms.Get()
	defer rooms.Put(buffer)
	for {
		n, err := u.r.Body.Read(buffer[:])
		last := errors.Is(err, io.EOF)
		if err != nil && !last {
			return x.unread(err)
		}

		var trailers message.Fields
		if last {
			trailers = u.r.Body.Trailers()
			if err := trailers.Writable(); err != nil {
				return &message.BodyError{Err: err}
			}
		}
		if n > 0 || last {
			if err := x.send(buffer[:n], last, trailers); err != nil || last {
				return err
			}
		}
	}
}

// unread is why the content could not be read: if the exchange is over, by our own doing.
func (x *exchange) unread(err error) error {
	x.b.mu.Lock()
	defer x.b.mu.Unlock()
	if x.closed || x.err != nil {
		return errBodyClosed
	}
	return &message.BodyError{Err: err}
}

// wanted waits until the content may be sent, and reports whether it is to be.
func (x *exchange) wanted() bool {
	x.b.mu.Lock()
	defer x.b.mu.Unlock()
	for !x.proceed && !x.headed && x.err == nil && !x.closed {
		x.changed.Wait()
	}
	if !x.proceed || x.err != nil || x.closed {
		return false
	}

	x.limit = time.Time{}
	// From here on settle closes the content. Before that, another target can have it.
	x.u.begun = true
	return true
}

// send hands content over to the connection, as its windows allow.
func (x *exchange) send(content []byte, end bool, trailers message.Fields) error {
	b := x.b
	b.mu.Lock()
	defer b.mu.Unlock()
	// Another stream can have what this one has left, or has not taken, of the connection's window.
	defer func() { b.turns.next(b.sendWindow) }()
	for len(content) > 0 {
		n, err := x.grant(len(content))
		if err != nil {
			return err
		}
		last := end && n == len(content) && len(trailers) == 0
		b.appendContent(x, content[:n], last)
		b.wake()
		if last {
			return nil
		}
		content = content[n:]
	}

	switch {
	case x.err != nil:
		return x.err
	case x.localEnded:
		return errUnwanted
	case !end:
		return nil
	case len(trailers) > 0:
		b.appendTrailers(x, trailers)
	default:
		b.appendContent(x, nil, true)
	}
	b.wake()
	return nil
}

// grant waits until some content may be sent: at most a frame's, so that all streams have their turn. It is called with
// the lock held.
func (x *exchange) grant(wanted int) (int, error) {
	b := x.b
	defer b.turns.leave(&x.changed)
	for {
		switch {
		case x.err != nil:
			return 0, x.err
		case x.localEnded:
			return 0, errUnwanted
		case len(b.out) > outBuffer-maxFrame-frameHeader:
			b.wake()
			x.crowded = true
			b.changed.Wait()
			x.crowded = false
		case x.mayGo():
			return int(min(int64(wanted), maxFrame, x.sendWindow, b.sendWindow)), nil
		default:
			if err := x.starve(); err != nil {
				return 0, err
			}
		}
	}
}

// mayGo reports whether the windows let content be sent, and it is this stream's turn. It is called with the lock held.
func (x *exchange) mayGo() bool {
	return x.sendWindow > 0 && x.b.sendWindow > 0 && x.b.turns.isFor(&x.changed)
}

// starve waits for the target to take content, as long as it may take to answer. It is called with the lock held.
func (x *exchange) starve() error {
	b := x.b
	late := false
	// What goes through a tunnel is limited by who uses it.
	if patience := b.t.o.ResponseHeader; patience != endless && x.response.Tunnel == nil {
		defer time.AfterFunc(patience, func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			late = true
			x.changed.Broadcast()
		}).Stop()
	}

	for x.err == nil && !x.localEnded && !late && !x.mayGo() {
		if x.sendWindow > 0 {
			b.turns.join(&x.changed, &x.sendWindow)
		}
		b.turns.next(b.sendWindow)
		x.changed.Wait()
	}
	if late {
		return os.ErrDeadlineExceeded
	}
	return nil
}
