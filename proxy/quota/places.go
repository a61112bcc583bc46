package quota

import (
	"hash/maphash"
	"sync"
)

// Places limits how many things each of many clients does at the same time. Only clients that do something now take
// memory. It is safe for use from many goroutines.
//
//	if place, ok := downloads.Enter("192.0.2.1"); ok { defer downloads.Leave(place) }
type Places struct {
	limit  int
	seed   maphash.Seed
	shards [shards]placeShard
}

type placeShard struct {
	mu     sync.Mutex
	inside map[uint64]int
}

// NewPlaces gives each client a number of places.
func NewPlaces(limit int) *Places { return &Places{limit: limit, seed: maphash.MakeSeed()} }

// Enter takes a place, which Leave gives back. ok is false where the client has none left.
func (p *Places) Enter(client string) (place uint64, ok bool) {
	// The seed is random, so nobody can choose names that collide.
	place = maphash.String(p.seed, client)
	s := &p.shards[place%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inside[place] >= p.limit {
		return 0, false
	}
	if s.inside == nil {
		s.inside = map[uint64]int{}
	}
	s.inside[place]++
	return place, true
}

// Leave gives a place back.
func (p *Places) Leave(place uint64) {
	s := &p.shards[place%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inside[place]--; s.inside[place] <= 0 {
		delete(s.inside, place)
	}
}

// Clients is how many do something now.
func (p *Places) Clients() (n int) {
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.Lock()
		n += len(s.inside)
		s.mu.Unlock()
	}
	return n
}
