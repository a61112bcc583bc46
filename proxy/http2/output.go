package http2

import (
	"fmt"
	"runtime"
	"time"

	"padlock/internal/pool"
	"padlock/proxy/deadline"
	"padlock/traffic"
)

// outBuffer is how much may wait to be written: four TLS records and their frames' headers.
const outBuffer = 64<<10 + 256

var outBuffers = pool.Of(func(b *[outBuffer]byte) []byte { return b[:] })

// buffer is where output is appended to. It is called with the lock held.
func (c *connection) buffer() []byte {
	if c.out == nil {
		c.out = outBuffers.Get()[:0]
	}
	return c.out
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

// flush writes until there is nothing left to write.
func (c *connection) flush() {
	// Other streams may be about to write as well. After a yield, all of it leaves in one call.
	runtime.Gosched()
	c.mu.Lock()
	defer c.mu.Unlock()

	for len(c.out) > 0 && c.err == nil {
		// The buffer is taken over, so that streams can fill the next one while this one is written without the
		// lock.
		out := c.out
		c.out = nil
		stall := c.server.o.BodyIdle
		if now := time.Now(); c.until.Sub(now) < stall {
			// The deadline is a quarter longer than needed, so that not every write sets a timer.
			c.until = now.Add(stall + stall/4)
			_ = c.conn.SetWriteDeadline(c.until)
		}

		c.mu.Unlock()
		_, err := c.conn.Write(out)
		if cap(out) == outBuffer {
			outBuffers.Put((*[outBuffer]byte)(out[:outBuffer]))
		}

		c.mu.Lock()
		if err != nil {
			if deadline.Exceeded(err) {
				c.report(traffic.SlowReader)
			}
			c.fail(fmt.Errorf("writing: %w", err))
			// Closing ends the reading goroutine too.
			c.conn.Close()
		}

		c.changed.Broadcast()
	}

	c.flushing = false
	c.changed.Broadcast()
}
