package http2

import (
	"fmt"
	"net"
	"runtime"
	"sync"
	"time"

	"padlock/internal/pool"
	"padlock/proxy/deadline"
	"padlock/traffic"
)

// outBuffer is how much may wait to be written: four TLS records and their frames' headers.
const outBuffer = 64<<10 + 256

var outBuffers = pool.Of(func(b *[outBuffer]byte) []byte { return b[:] })

// output is what is to be written to a connection. Whoever has something to say appends it under the lock, which
// guards the rest of the connection too, and one goroutine at a time writes.
type output struct {
	mu      sync.Mutex
	changed sync.Cond // flushing, out or err; the owner's state as well

	out      []byte
	flushing bool
	rounds   int       // how often out was taken, to be written
	until    time.Time // the write deadline that stands
	err      error     // the connection has failed, or ended
}

// buffer is where output is appended to. It is called with the lock held.
func (o *output) buffer() []byte {
	if o.out == nil {
		o.out = outBuffers.Get()[:0]
	}
	return o.out
}

// write writes until there is nothing left to write, or the other side has taken nothing for as long as it may; failed
// is called, with the lock held, where a write fails.
func (o *output) write(conn net.Conn, stall time.Duration, failed func(error)) {
	// Other streams may be about to write as well. After a yield, all of it leaves in one call.
	runtime.Gosched()
	o.mu.Lock()
	defer o.mu.Unlock()

	for len(o.out) > 0 && o.err == nil {
		// The buffer is taken over, so that streams can fill the next one while this one is written without the
		// lock.
		out := o.out
		o.out = nil
		o.rounds++
		if now := time.Now(); o.until.Sub(now) < stall {
			// The deadline is a quarter longer than needed, so that not every write sets a timer.
			o.until = now.Add(stall + stall/4)
			_ = conn.SetWriteDeadline(o.until)
		}

		o.mu.Unlock()
		_, err := conn.Write(out)
		if cap(out) == outBuffer {
			outBuffers.Put((*[outBuffer]byte)(out[:outBuffer]))
		}

		o.mu.Lock()
		if err != nil {
			failed(err)
		}
		o.changed.Broadcast()
	}

	o.flushing = false
	o.changed.Broadcast()
}

// wake sees to it that out is written. It is called with the lock held.
func (c *connection) wake() {
	if !c.flushing && c.err == nil {
		c.flushing = true
		c.hand((*flush)(c))
	}
}

// flush is the job of writing what a connection has to say.
type flush connection

func (f *flush) do() { (*connection)(f).flush() }

// flush writes what a connection has to say.
func (c *connection) flush() {
	c.write(c.conn, c.server.o.BodyIdle, func(err error) {
		if deadline.Exceeded(err) {
			c.report(traffic.SlowReader)
		}
		c.fail(fmt.Errorf("writing: %w", err))
		// Closing ends the reading goroutine too.
		c.conn.Close()
	})
}
