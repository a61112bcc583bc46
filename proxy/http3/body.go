package http3

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"padlock/proxy/deadline"
	"padlock/proxy/message"
)

// body streams a request's content.
type body struct {
	s        *stream
	ask      func() error // sends 100 Continue; nil once it was sent or is not wanted
	waited   time.Duration
	trailers message.Fields
	received atomic.Int64
}

var errBodyClosed = errors.New("the exchange has ended")

// Read implements io.Reader. io.EOF comes only when the content is whole.
func (b *body) Read(p []byte) (int, error) {
	if b.ask != nil {
		if err := b.ask(); err != nil {
			return 0, err
		}
		b.ask = nil
	}

	s := b.s
	began := time.Now()
	o := &s.c.server.o
	if !s.limit(began.Add(deadline.Patience(o.BodyIdle, o.Rate, b.received.Load(), b.waited))) {
		return 0, errBodyClosed
	}

	n, err := s.read(p)
	b.waited += time.Since(began)
	b.received.Add(int64(n))
	if deadline.Exceeded(err) && !s.limit(time.Time{}) {
		err = errBodyClosed
	}

	return n, err
}

// limit has reading end at a time, unless the final response has begun: then the two may be talking, at whatever pace.
// It reports false when nothing more is to be read.
func (s *stream) limit(at time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.final {
		at = time.Time{}
	}
	_ = s.q.SetReadDeadline(at)
	return true
}

// read takes content.
func (s *stream) read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}

	n, err := 0, error(nil)
	if s.in.left == 0 {
		err = s.next()
	}

	if err == nil {
		n, err = s.in.payload(p)
		s.came += int64(n)
	}

	if err != nil && !deadline.Exceeded(err) {
		err = s.broken(err)
		s.err = err
	}

	return n, err
}

// broken acts on what has ended the content, and says what it means to whoever reads it.
func (s *stream) broken(err error) error {
	var odd streamError
	var reset *quic.StreamError
	switch {
	case errors.Is(err, io.EOF):
	case s.c.fail(err):
		return errBroken
	case errors.As(err, &odd):
		s.provoked = true
		s.reject(odd)
	case errors.As(err, &reset):
		return errGone
	}

	return err
}

// reject ends a request whose content or trailers are malformed: with 400, where the response has not begun.
func (s *stream) reject(odd streamError) {
	// With the lock held, whoever would begin the response waits, and then finds the stream at its end.
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.final {
		cancel(s.q, odd.code)
		return
	}
	s.final, s.rejected = true, true
	s.respond(400, s.request.Method, malformed(odd.what), odd.code)
}

// Trailers implements message.Body.
func (b *body) Trailers() message.Fields { return b.trailers }

// Buffered implements message.Body.
func (b *body) Buffered() int {
	if b.ask != nil {
		return 0
	}
	return b.s.in.buffered()
}

// Received implements message.Body.
func (b *body) Received() int64 { return b.received.Load() }

// Close implements message.Body.
func (b *body) Close() error {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	b.s.closed = true
	return b.s.q.SetReadDeadline(time.Unix(1, 0))
}
