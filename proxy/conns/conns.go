// Package conns keeps the open connections of a server, so that it can finish: what is open ends by itself, or is
// closed when time is up.
//
//	open := conns.New[*connection]()
//	if open.Add(c, nil) == conns.Over { c.Close() }
//	defer open.Remove(c)
//	err := open.Shutdown(ctx, (*connection).drain, (*connection).cut)
package conns

import (
	"context"
	"sync"
)

// Phase of a server's life.
type Phase int

// The phases, each for good.
const (
	Serving  Phase = iota
	Draining       // what is open, and what still comes, is finished
	Over           // the time for that has passed: nothing more is taken in
)

// Set holds open connections. It is safe for use from many goroutines.
type Set[C comparable] struct {
	mu    sync.Mutex
	open  map[C]struct{}
	phase Phase
	empty chan struct{} // closed as soon as the server drains and nothing is open
}

// New returns a Set of a server that serves.
func New[C comparable]() *Set[C] { return &Set[C]{open: map[C]struct{}{}, empty: make(chan struct{})} }

// Add takes a connection in unless the phase, which it returns, is Over. begin, which may be nil, is called with the
// phase before anybody else sees the connection.
func (s *Set[C]) Add(c C, begin func(Phase)) Phase {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == Over {
		return Over
	}
	if begin != nil {
		begin(s.phase)
	}
	s.open[c] = struct{}{}
	return s.phase
}

// AddServing takes a connection in, and reports true, only while the server neither drains nor is over.
func (s *Set[C]) AddServing(c C) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == Serving {
		s.open[c] = struct{}{}
	}
	return s.phase == Serving
}

// Remove takes a connection out that has ended.
func (s *Set[C]) Remove(c C) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
	s.settle()
}

// settle is called with the lock held.
func (s *Set[C]) settle() {
	if s.phase == Serving || len(s.open) > 0 {
		return
	}
	select {
	case <-s.empty:
		// The set was empty before, and one connection came late.
	default:
		close(s.empty)
	}
}

// All are the connections that are open now.
func (s *Set[C]) All() []C {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]C, 0, len(s.open))
	for c := range s.open {
		all = append(all, c)
	}
	return all
}

// Drain calls leave, which may be nil, for each open connection, and waits until none is open, or ctx ends: then it
// returns ctx's error. leave must not wait.
func (s *Set[C]) Drain(ctx context.Context, leave func(C)) error {
	s.enter(Draining)
	if leave != nil {
		for _, c := range s.All() {
			leave(c)
		}
	}

	select {
	case <-s.empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close calls cut for each open connection, and waits until none is open.
func (s *Set[C]) Close(cut func(C)) {
	s.enter(Over)
	for _, c := range s.All() {
		cut(c)
	}
	<-s.empty
}

// Shutdown is Drain and, when ctx ends first, Close; then it returns ctx's error.
func (s *Set[C]) Shutdown(ctx context.Context, leave, cut func(C)) error {
	err := s.Drain(ctx, leave)
	if err != nil {
		s.Close(cut)
	}
	return err
}

func (s *Set[C]) enter(p Phase) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase = max(s.phase, p)
	s.settle()
}
