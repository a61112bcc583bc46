package http2

import (
	"errors"
	"io"
	"os"
	"time"

	"padlock/internal/pool"
	"padlock/proxy/deadline"
	"padlock/proxy/message"
)

var errBodyClosed = errors.New("the exchange has ended")

// body streams a request's content. It is guarded by the connection's lock.
type body struct {
	s        *stream
	queue    queue
	trailers message.Fields
	ask      func() error  // sends 100 Continue; nil once it was sent or is not wanted. The reader's.
	waited   time.Duration // for the client
	received int64
	closed   bool
}

// Read implements io.Reader. io.EOF comes only when the content is whole.
func (b *body) Read(p []byte) (int, error) {
	if b.ask != nil {
		if err := b.ask(); err != nil {
			return 0, err
		}
		b.ask = nil
	}

	s := b.s
	s.c.mu.Lock()
	defer s.c.mu.Unlock()

	for b.queue.n == 0 {
		switch {
		case b.closed:
			return 0, errBodyClosed
		case s.err != nil:
			return 0, s.err
		case s.remoteEnded:
			return 0, io.EOF
		case len(p) == 0:
			return 0, nil
		case !b.patiently():
			return 0, os.ErrDeadlineExceeded
		}
	}

	n := b.queue.take(p)
	b.received += int64(n)
	s.c.giveBack(int64(n))
	s.giveBack(int64(n))
	if b.queue.n == 0 && s.remoteEnded {
		return n, io.EOF
	}

	return n, nil
}

// patiently waits for the client, and limits only that: a slow backend does not count. It reports false when the time
// is over.
func (b *body) patiently() bool {
	s := b.s
	// The response has begun: the two sides may be talking, at whatever pace.
	if s.writer.sent || s.writer.tunnelled {
		return s.wait(s.readLimit)
	}
	o := &s.c.server.o
	began := time.Now()
	patience := deadline.Patience(o.BodyIdle, o.Rate, b.received, b.waited)
	if patience <= 0 {
		return false
	}

	come := b.queue.n
	for limit := began.Add(patience); b.queue.n == come && !b.closed && s.err == nil && !s.remoteEnded && !s.writer.sent; {
		if !s.wait(limit) {
			return false
		}
	}

	b.waited += time.Since(began)
	return true
}

// Trailers implements message.Body.
func (b *body) Trailers() message.Fields {
	b.s.c.mu.Lock()
	defer b.s.c.mu.Unlock()
	return b.trailers
}

// Buffered implements message.Body.
func (b *body) Buffered() int {
	b.s.c.mu.Lock()
	defer b.s.c.mu.Unlock()
	if b.ask != nil {
		return 0
	}
	return b.queue.n
}

// Received implements message.Body.
func (b *body) Received() int64 {
	b.s.c.mu.Lock()
	defer b.s.c.mu.Unlock()
	return b.received
}

// Close implements message.Body.
func (b *body) Close() error {
	c := b.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	b.closed = true
	c.giveBack(int64(b.queue.drop()))
	b.s.changed.Broadcast()
	return nil
}

// queue holds what has come and was not yet read, in pooled blocks.
type queue struct {
	blocks []*room
	first  int // bytes of the first block that were taken
	last   int // bytes of the last block that are used
	n      int
}

type room [16 << 10]byte

var rooms = pool.Of(func(r *room) []byte { return r[:] })

func (q *queue) put(p []byte) {
	q.n += len(p)
	for len(p) > 0 {
		if len(q.blocks) == 0 || q.last == len(room{}) {
			q.blocks = append(q.blocks, rooms.Get())
			q.last = 0
		}
		n := copy(q.blocks[len(q.blocks)-1][q.last:], p)
		q.last, p = q.last+n, p[n:]
	}
}

func (q *queue) take(p []byte) (taken int) {
	for q.n > 0 && taken < len(p) {
		end := len(room{})
		if len(q.blocks) == 1 {
			end = q.last
		}
		n := copy(p[taken:], q.blocks[0][q.first:end])
		q.first, q.n, taken = q.first+n, q.n-n, taken+n
		if q.first == end {
			rooms.Put(q.blocks[0])
			q.blocks = append(q.blocks[:0], q.blocks[1:]...)
			q.first = 0
		}
	}
	return taken
}

// drop empties the queue, and returns how much was in it.
func (q *queue) drop() int {
	n := q.n
	for _, block := range q.blocks {
		rooms.Put(block)
	}
	q.blocks, q.first, q.last, q.n = q.blocks[:0], 0, 0, 0
	return n
}
