//go:build !race

package quota

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// These tests count to a million in one goroutine. The race detector finds nothing in that, and makes it ten times as
// slow, so they are left out where it is: internal/testrun runs this package with it and without.

// Memory is bounded, and those who are held back stay so while others that have waited can be forgotten.
func TestARateRemembersABoundedNumberOfClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRate(1, time.Hour, 1)
		short := NewRate(1000, time.Second, 1)
		for i := range MaxClients + 200_000 {
			name := fmt.Sprint(i)
			r.Take(name)
			short.Take(name)
			if i%MaxClients == MaxClients/2 {
				time.Sleep(2 * time.Second)
			}
		}
		for _, rate := range []*Rate{r, short} {
			n := 0
			for i := range rate.shards {
				n += len(rate.shards[i].due)
			}
			if n > MaxClients {
				t.Errorf("%d are remembered", n)
			}
		}
	})
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
