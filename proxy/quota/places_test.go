package quota

import (
	"fmt"
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

// A million clients take some tens of bytes each, in a rate and in places, and those that have left nothing.
func TestAMillionClientsTakeBoundedMemory(t *testing.T) {
	const clients = 1_000_000
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	r, p := NewRate(1, 1<<50, 1), NewPlaces(1)
	places := make([]uint64, 0, clients)
	for i := range clients {
		name := fmt.Sprint("address ", i)
		r.Take(name)
		place, ok := p.Enter(name)
		if !ok {
			continue // two names with one hash are one client
		}
		places = append(places, place)
	}
	if n := p.Clients(); n < clients-10 {
		t.Errorf("%d clients are inside", n)
	}

	took := heap() - before
	t.Logf("%d bytes for each of %d clients", took/clients, clients)
	if took > 160<<20 {
		t.Errorf("%d MiB", took>>20)
	}
	for _, place := range places {
		p.Leave(place)
	}
	if p.Clients() != 0 {
		t.Errorf("%d clients are left", p.Clients())
	}
	runtime.KeepAlive(r)
}
