package http1

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// patience is how long a handler may take before anybody looks whether the client is still there. Most are done
// earlier, and cost neither a goroutine nor a read.
const patience = 20 * time.Millisecond

// watcher notices a client that goes away while a handler works, by reading ahead. What it reads is the next request.
type watcher struct {
	mu      sync.Mutex
	timer   *time.Timer // runs on from one exchange to the next: stopping it each time would cost more
	running bool
	began   time.Time
	watched *exchange     // nil: none
	reading chan struct{} // closed when reading ahead has ended; nil while nobody does
}

// watch begins with an exchange.
func (c *connection) watch(x *exchange) {
	e := c.engine
	w := &e.watcher
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watched, w.began = x, time.Now()
	// The timer runs on from request to request. Only a timer that has fired without finding anything is started
	// again.
	switch {
	case w.timer == nil:
		w.timer = time.AfterFunc(patience, func() { e.look(c) })
	case !w.running:
		w.timer.Reset(patience)
	}
	w.running = true
}

// unwatch ends reading ahead, before anybody else reads. It may be called more than once.
func (c *connection) unwatch() {
	if c.engine == nil { // a tunnel
		return
	}

	w := &c.watcher
	w.mu.Lock()
	// From here on, look neither starts to read nor cancels the next exchange.
	w.watched = nil
	reading := w.reading
	w.mu.Unlock()
	if reading == nil {
		return
	}

	// The read must have ended before anybody else touches the buffer.
	c.limit.Interrupt()
	<-reading
	c.limit.Release()
}

// stop ends watching for good.
func (w *watcher) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watched = nil
	if w.timer != nil {
		w.timer.Stop()
	}
}

// look reads ahead once the request's own content has come whole.
func (e *engine) look(c *connection) {
	w := &e.watcher
	w.mu.Lock()
	x := w.watched
	if x == nil || w.reading != nil {
		w.running = false
		w.mu.Unlock()
		return
	}

	if wait := patience - time.Since(w.began); wait > 0 || x.content && !x.body.whole() {
		// The handler has not had its time, or the content has not come whole: what would be read ahead is the
		// handler's.
		w.timer.Reset(max(wait, patience/4))
		w.mu.Unlock()
		return
	}

	// The lock is not held while reading, as the read may last as long as the handler.
	w.reading, w.running = make(chan struct{}), false
	w.mu.Unlock()

	var err error
	// Reading ahead has no limit of its own: it ends with the exchange.
	c.limit.Until(time.Time{})
	// Anything read already is the next request, so the client is there.
	if r := &e.reader; r.at == r.end {
		err = r.fill()
		if errors.Is(err, io.EOF) {
			err = c.awaitFIN()
		}
	}

	w.mu.Lock()
	defer w.mu.Unlock()
	// Without a watched exchange, the error is that of unwatch's interruption, and says nothing about the client.
	if err != nil && w.watched != nil {
		c.ctx.Cancel()
	}

	close(w.reading)
	w.reading = nil
}

// awaitFIN waits, after the client's close_notify, for the end of TCP: a client that only has nothing more to say
// (RFC 8446 section 6.1) still wants its answer.
func (c *connection) awaitFIN() error {
	below, ok := c.conn.(interface{ NetConn() net.Conn })
	if !ok {
		return io.EOF
	}
	for {
		// Bytes behind close_notify are dropped: TLS would not deliver them either.
		if _, err := below.NetConn().Read(make([]byte, 1)); err != nil {
			return err
		}
	}
}
