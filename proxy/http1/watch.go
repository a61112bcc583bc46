package http1

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// patience is how long a handler may take before anybody looks whether the client is still there. Most are done earlier,
// and cost neither a goroutine nor a read.
const patience = 20 * time.Millisecond

// watcher notices a client that goes away while a handler works, by reading ahead. What it reads is the next request.
type watcher struct {
	mu      sync.Mutex
	timer   *time.Timer
	over    bool          // the exchange has ended
	reading chan struct{} // closed when reading ahead has ended; nil while nobody does
}

// watch begins with an exchange.
func (c *connection) watch() {
	w := &c.watcher
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = false
	if w.timer == nil {
		w.timer = time.AfterFunc(patience, c.look)
		return
	}
	w.timer.Reset(patience)
}

// unwatch ends reading ahead, before anybody else reads. It may be called more than once.
func (c *connection) unwatch() {
	w := &c.watcher
	w.mu.Lock()
	w.over = true
	w.timer.Stop()
	reading := w.reading
	w.mu.Unlock()
	if reading == nil {
		return
	}
	c.kick()
	<-reading
	c.readDeadline(0)
}

// look reads ahead once the request's own content has come whole.
func (c *connection) look() {
	w := &c.watcher
	w.mu.Lock()
	if w.over || w.reading != nil {
		w.mu.Unlock()
		return
	}
	if c.request.Body != nil && !c.body.whole() {
		w.timer.Reset(patience)
		w.mu.Unlock()
		return
	}
	w.reading = make(chan struct{})
	w.mu.Unlock()
	var err error
	if c.reader.at == c.reader.end { // else the next request has begun, and the client is there
		err = c.reader.fill()
		if errors.Is(err, io.EOF) {
			err = c.awaitFIN()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil && !w.over {
		c.cancel()
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
		if _, err := below.NetConn().Read(make([]byte, 1)); err != nil {
			return err
		}
	}
}
