package conns

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// conn is a connection that ends a while after it is told to leave, or at once when it is cut; 0: it never leaves.
type conn struct {
	leaves time.Duration
	ended  chan struct{}
	once   sync.Once
	cuts   atomic.Int32
}

func newConn(leaves time.Duration) *conn { return &conn{leaves: leaves, ended: make(chan struct{})} }

func (c *conn) leave() {
	if c.leaves > 0 {
		time.AfterFunc(c.leaves, func() { c.once.Do(func() { close(c.ended) }) })
	}
}

func (c *conn) cut() { c.cuts.Add(1); c.once.Do(func() { close(c.ended) }) }

func (c *conn) serve(s *Set[*conn]) { <-c.ended; s.Remove(c) }

// Shutdown returns when all have left, and not later; what does not leave in time is cut, once, and waited for.
func TestShutdownWaitsForAllAndCutsTheRest(t *testing.T) {
	for _, test := range []struct {
		leaves []time.Duration
		limit  time.Duration
		takes  time.Duration
		cut    int32
	}{
		{nil, time.Minute, 0, 0},
		{[]time.Duration{time.Second, 3 * time.Second}, time.Minute, 3 * time.Second, 0},
		{[]time.Duration{time.Second, 0, 0}, 10 * time.Second, 10 * time.Second, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := New[*conn]()
			var all []*conn
			for _, leaves := range test.leaves {
				c := newConn(leaves)
				all = append(all, c)
				if s.Add(c, func(p Phase) {
					if p != Serving {
						t.Error(p)
					}
				}) != Serving {
					t.Error("not taken in")
				}
				go c.serve(s)
			}
			ctx, cancel := context.WithTimeout(t.Context(), test.limit)
			defer cancel()
			began := time.Now()
			err := s.Shutdown(ctx, (*conn).leave, (*conn).cut)
			if took := time.Since(began); took != test.takes || errors.Is(err, context.DeadlineExceeded) != (test.cut > 0) {
				t.Errorf("%v after %s", err, took)
			}
			cut := int32(0)
			for _, c := range all {
				cut += c.cuts.Load()
			}
			if cut != test.cut || len(s.All()) > 0 {
				t.Errorf("%d cut, and %d are open", cut, len(s.All()))
			}
		})
	}
}

// Who comes while a server drains is finished too; who comes when it is over is not taken in. Draining twice is no mistake.
func TestWhoComesLateIsFinishedOrNotTakenIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New[*conn]()
		if err := s.Drain(t.Context(), nil); err != nil {
			t.Error(err)
		}
		late := newConn(0)
		if s.AddServing(newConn(0)) {
			t.Error("taken in for service")
		}
		if s.Add(late, nil) != Draining {
			t.Error("not taken in")
		}
		go late.serve(s)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Shutdown(ctx, (*conn).leave, (*conn).cut); err != nil {
			t.Error(err) // it has been empty
		}
		s.Close((*conn).cut)
		<-late.ended
		if s.Add(newConn(0), nil) != Over || late.cuts.Load() != 1 {
			t.Error("it goes on")
		}
	})
}

// Whatever comes and goes while it ends, nobody is left.
func TestNobodyIsLeft(t *testing.T) {
	s := New[*conn]()
	var serving sync.WaitGroup
	for range 200 {
		serving.Go(func() {
			c := newConn(time.Millisecond)
			switch s.Add(c, nil) {
			case Over:
				return
			case Draining:
				c.leave()
			}
			c.serve(s)
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	_ = s.Shutdown(ctx, (*conn).leave, (*conn).cut)
	s.Close((*conn).cut)
	for _, c := range s.All() {
		c.cut()
	}
	serving.Wait()
	if n := len(s.All()); n > 0 {
		t.Errorf("%d are left", n)
	}
}
