package handshake

import (
	"context"
	"sync"
)

// Recent is a Sink that remembers the last events. It is safe for use from many goroutines.
type Recent struct {
	mu      sync.Mutex
	ring    []*Event
	next    int
	arrived chan struct{} // closed and replaced at each event
}

// NewRecent remembers n events.
func NewRecent(n int) *Recent {
	return &Recent{ring: make([]*Event, n), arrived: make(chan struct{})}
}

// Handshake implements Sink.
func (r *Recent) Handshake(e *Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ring[r.next] = e
	r.next = (r.next + 1) % len(r.ring)
	close(r.arrived)
	r.arrived = make(chan struct{})
}

// Wait returns the event with the id, as soon as it is there. Its error is the context's.
func (r *Recent) Wait(ctx context.Context, id uint64) (*Event, error) {
	for {
		r.mu.Lock()
		arrived := r.arrived
		for _, e := range r.ring {
			if e != nil && e.ID == id {
				r.mu.Unlock()
				return e, nil
			}
		}
		r.mu.Unlock()
		select {
		case <-arrived:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Events lists what is remembered, newest first.
func (r *Recent) Events() []*Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*Event
	for i := range r.ring {
		if e := r.ring[(r.next-1-i+2*len(r.ring))%len(r.ring)]; e != nil {
			out = append(out, e)
		}
	}
	return out
}
