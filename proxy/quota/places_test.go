package quota

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// A client has its places and no more, however many come at once, and all of them again when it has given them back;
// who does nothing takes no memory.
func TestPlacesAreThoseOfOneClient(t *testing.T) {
	p := NewPlaces(3)
	var inside, most atomic.Int32
	var coming sync.WaitGroup
	for range 20 {
		coming.Go(func() {
			for range 200 {
				place, ok := p.Enter("a")
				if !ok {
					continue
				}
				if n := inside.Add(1); n > most.Load() {
					most.Store(n)
				}
				runtime.Gosched()
				inside.Add(-1)
				p.Leave(place)
			}
		})
	}
	coming.Wait()
	if n := most.Load(); n < 1 || n > 3 {
		t.Errorf("%d were inside", n)
	}
	for i := range 3 {
		if _, ok := p.Enter("a"); !ok {
			t.Errorf("place %d is taken", i)
		}
	}
	if _, ok := p.Enter("a"); ok {
		t.Error("a fourth place")
	}
	if place, ok := p.Enter("b"); !ok || p.Clients() != 2 {
		t.Errorf("%d clients", p.Clients())
	} else if p.Leave(place); p.Clients() != 1 {
		t.Errorf("%d clients", p.Clients())
	}
}
