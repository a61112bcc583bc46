package handshake

import (
	"cmp"
	"context"
	"slices"
	"sync"
)

// Recent is a Sink that remembers the last events, and beside them the last failures, which a busy server would else
// push out. It is safe for use from many goroutines.
type Recent struct {
	mu      sync.Mutex
	all     ring
	failed  ring          // that a person should look at
	arrived chan struct{} // closed and replaced at each event
}

// ring has the last events of some kind.
type ring struct {
	events []*Event
	count  uint64 // events so far
}

func (r *ring) add(e *Event) {
	r.events[r.count%uint64(len(r.events))] = e
	r.count++
}

// since lists what came after the first seen events, oldest first, as far as it is remembered.
func (r *ring) since(seen uint64) []*Event {
	n := min(r.count-min(seen, r.count), uint64(len(r.events)))
	out := make([]*Event, 0, n)
	for i := r.count - n; i < r.count; i++ {
		out = append(out, r.events[i%uint64(len(r.events))])
	}
	return out
}

// NewRecent remembers n events, and as many failures.
func NewRecent(n int) *Recent {
	return &Recent{all: ring{events: make([]*Event, n)}, failed: ring{events: make([]*Event, n)}, arrived: make(chan struct{})}
}

// Handshake implements Sink.
func (r *Recent) Handshake(e *Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all.add(e)
	if e.Outcome != Complete && e.Noise == "" {
		r.failed.add(e)
	}
	close(r.arrived)
	r.arrived = make(chan struct{})
}

// Wait returns the event with the id, as soon as it is there. Its error is the context's.
func (r *Recent) Wait(ctx context.Context, id uint64) (*Event, error) {
	for {
		r.mu.Lock()
		arrived := r.arrived
		e := r.find(id)
		r.mu.Unlock()
		if e != nil {
			return e, nil
		}

		select {
		case <-arrived:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Find returns the event with the id, nil if it is not remembered.
func (r *Recent) Find(id uint64) *Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.find(id)
}

func (r *Recent) find(id uint64) *Event {
	for _, events := range [...][]*Event{r.all.events, r.failed.events} {
		for _, e := range events {
			if e != nil && e.ID == id {
				return e
			}
		}
	}
	return nil
}

// Events lists what is remembered, newest first: the last events, and older failures.
func (r *Recent) Events() []*Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.all.since(0)
	for _, e := range r.failed.since(0) {
		if !slices.Contains(out, e) {
			out = append(out, e)
		}
	}
	slices.SortStableFunc(out, func(a, b *Event) int { return cmp.Compare(b.ID, a.ID) })
	return out
}

// Failures lists the failures that are remembered, newest first.
func (r *Recent) Failures() []*Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.failed.since(0)
	slices.Reverse(out)
	return out
}

// Since lists what came after the first seen events, oldest first, and how many there have been. Of more than are
// remembered, the oldest are missing.
func (r *Recent) Since(seen uint64) (events []*Event, count uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all.since(seen), r.all.count
}

// Follow calls f with each event from now on, in the order in which they came, until ctx ends or f fails; it returns
// that error. A caller that cannot keep up misses events.
func (r *Recent) Follow(ctx context.Context, f func(*Event) error) error {
	r.mu.Lock()
	seen := r.all.count
	r.mu.Unlock()
	for {
		r.mu.Lock()
		arrived, events := r.arrived, r.all.since(seen)
		seen = r.all.count
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
