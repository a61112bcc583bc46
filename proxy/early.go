package proxy

import (
	"context"
	"sync"
)

// early are the connections that no front has yet, or that a front has not parked. It is safe for use from many goroutines.
type early struct {
	mu     sync.Mutex
	conns  map[*clientConn]struct{}
	empty  chan struct{} // closed when shutdown has begun and none is left
	ending bool
}

func newEarly() early { return early{conns: map[*clientConn]struct{}{}, empty: make(chan struct{})} }

func (e *early) add(c *clientConn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.conns[c] = struct{}{}
}

func (e *early) remove(c *clientConn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.conns, c)
	if e.ending && len(e.conns) == 0 {
		close(e.empty)
	}
}

// shutdown waits until all have gone on, and interrupts them when ctx ends. No more are added.
func (e *early) shutdown(ctx context.Context) error {
	e.mu.Lock()
	e.ending = true
	none := len(e.conns) == 0
	e.mu.Unlock()
	if none {
		return nil
	}
	select {
	case <-e.empty:
		return nil
	case <-ctx.Done():
	}
	e.mu.Lock()
	for c := range e.conns {
		c.interrupt()
	}
	e.mu.Unlock()
	<-e.empty
	return ctx.Err()
}
