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
	count   uint64        // events so far
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
	r.count++
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

// Follow calls f with each event from now on, in the order in which they came, until ctx ends or f fails; it returns that error.
// A caller that cannot keep up misses events.
func (r *Recent) Follow(ctx context.Context, f func(*Event) error) error {
	r.mu.Lock()
	seen := r.count
	r.mu.Unlock()
	for {
		r.mu.Lock()
		arrived, missed := r.arrived, r.count-seen
		var events []*Event
		for i := min(missed, uint64(len(r.ring))); i > 0; i-- {
			events = append(events, r.ring[(r.next-int(i)+2*len(r.ring))%len(r.ring)])
		}
		seen = r.count
		r.mu.Unlock()
		for _, e := range events {
			if err := f(e); err != nil {
				return err
			}
		}
		if len(events) > 0 {
			continue
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
