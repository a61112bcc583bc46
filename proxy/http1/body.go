package http1

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"padlock/proxy/deadline"
	"padlock/proxy/message"
)

var errBodyClosed = errors.New("the exchange has ended")

// body streams a request's content.
type body struct {
	mu sync.Mutex // held by whoever reads
	content
	stall    time.Duration // without a byte
	rate     int           // bytes a second, on average, beyond the first stall
	waited   time.Duration // for the client
	answered *atomic.Bool  // the response has begun: the two may be talking, at whatever pace
	ask      func() error  // sends 100 Continue, if the response has not begun; nil once it was called, or without an Expect
	expect   bool          // the client waits for 100 Continue
	invited  atomic.Bool   // it was sent, and so will the content be: written under the writer's lock, before the response begins
	err      error
	closed   atomic.Bool
	received atomic.Int64
}

// Read implements io.Reader. io.EOF comes only when the content is whole.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()

	switch {
	case b.closed.Load():
		return 0, errBodyClosed
	case b.err != nil:
		return 0, b.err
	case b.done:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}

	if b.ask != nil {
		// The client sends its content only after a 100, and gets that only when somebody really wants the content.
		if err := b.ask(); err != nil {
			return 0, b.fail(err)
		}
		b.ask = nil
	}

	n, err := b.patiently(p)
	b.received.Add(int64(n))
	if err != nil && deadline.Exceeded(err) && b.closed.Load() {
		return n, errBodyClosed // by Close, which says nothing about the content
	}
	if err != nil {
		return n, b.fail(err)
	}
	if b.done && n == 0 {
		return 0, io.EOF
	}

	return n, nil
}

// patiently limits only the time in which we wait for the client: a slow backend does not count against it.
func (b *body) patiently(p []byte) (int, error) {
	// After the response has begun, the content may be a conversation, in which silence is normal.
	if b.answered.Load() || b.buffered() > 0 {
		return b.read(p)
	}
	return b.await(p)
}

// await waits for content for as long as a client may need to send it.
func (b *body) await(p []byte) (int, error) {
	began := time.Now()
	patience := deadline.Patience(b.stall, b.rate, b.received.Load(), b.waited)
	if patience <= 0 {
		return 0, os.ErrDeadlineExceeded
	}
	b.r.limit.Until(began.Add(patience))
	n, err := b.read(p)
	b.r.limit.Until(time.Time{})
	b.waited += time.Since(began)
	return n, err
}

func (b *body) fail(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	b.err = err
	return err
}

// Trailers implements message.Body.
func (b *body) Trailers() message.Fields { return b.trailers }

// Buffered implements message.Body.
func (b *body) Buffered() int {
	if b.ask != nil {
		return 0
	}
	return b.buffered()
}

// Received implements message.Body.
func (b *body) Received() int64 { return b.received.Load() }

// Close implements message.Body. What has not come is taken care of when the exchange ends.
func (b *body) Close() error {
	b.closed.Store(true)
	// Taking the lock waits until no Read is under way, as the connection's buffer belongs to the next request
	// afterwards.
	b.lock()
	b.mu.Unlock()
	return nil
}

// lock ends a Read that waits for the client.
func (b *body) lock() {
	if !b.mu.TryLock() {
		b.r.limit.Interrupt()
		b.mu.Lock()
		b.r.limit.Release()
	}
}

// maxDrain is how much content is read after the response, so that the connection can be used again.
const maxDrain = 64 << 10

// finish reports whether the next request can follow: all of the content was read, or the little that was left is now.
// Where the response has promised that the connection goes on, the client may take as long as for any other content.
func (b *body) finish() bool {
	b.lock()
	defer b.mu.Unlock()
	if b.uncertain() {
		return b.done && b.err == nil
	}

	// Reading a short rest is cheaper than a new connection with its handshake. A long rest is not.
	scratch := make([]byte, 4096)
	for total := 0; !b.done && b.err == nil && total < maxDrain; {
		n, err := b.await(scratch)
		if err != nil {
			return false
		}
		b.received.Add(int64(n))
		total += n
	}

	return b.done && b.err == nil
}

// uncertain reports whether the client may send its content or leave it out, as it has its response instead of the 100
// Continue that it asked for: nothing says where the next request begins (RFC 9110 section 10.1.1).
func (b *body) uncertain() bool { return b.expect && !b.invited.Load() }

// finishable tells, when the response begins, whether finish is going to find the end of the content: else the response
// says that the connection ends with it. length is what was announced.
func (b *body) finishable(length int64) bool {
	short := !b.uncertain() && length >= 0 && length-b.received.Load() <= maxDrain
	// Somebody who waits for content holds the lock, perhaps for long.
	if !b.mu.TryLock() {
		return short
	}
	defer b.mu.Unlock()
	return b.done || short && b.err == nil
}

// whole reports whether all of the content was read, and nobody is reading.
func (b *body) whole() bool {
	if !b.mu.TryLock() {
		return false
	}
	defer b.mu.Unlock()
	return b.done && b.err == nil
}
