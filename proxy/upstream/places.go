package upstream

import (
	"net/netip"
	"sync"

	"padlock/internal/fair"
)

// places are those that a target has where a circuit limits them, by client. What a request has begun is never taken
// from it, so a client cannot have all: at most three times as many as it leaves free, and the last one only where it
// has none. A client is an IPv4 address or a network of IPv6, as whoever has one of those has any number of addresses.
// The zero value is ready; it is safe for use from many goroutines.
type places struct {
	mu   sync.Mutex
	held map[netip.Prefix]int64
}

// greed is how many places a client may have for each that it leaves free.
const greed = 3

// client is who a request counts for.
func client(addr string) netip.Prefix {
	parsed, _ := netip.ParseAddr(addr)
	return fair.Network(parsed)
}

// enter takes a place for a request, of as many as the filter says.
func (t *Target) enter(f *filter) bool {
	if f.limit == 0 {
		t.open.Add(1)
		return true
	}

	t.places.mu.Lock()
	defer t.places.mu.Unlock()
	if !t.mayEnter(f) {
		return false
	}
	if t.places.held == nil {
		t.places.held = map[netip.Prefix]int64{}
	}

	t.places.held[f.from]++
	t.open.Add(1)
	return true
}

// mayEnter is called with the lock held.
func (t *Target) mayEnter(f *filter) bool {
	free, own := f.limit-t.open.Load(), t.places.held[f.from]
	return free > 0 && (own == 0 || own < greed*(free-1))
}

// hasPlace reports whether a request could have a place now.
func (t *Target) hasPlace(f *filter) bool {
	if f.limit == 0 {
		return true
	}
	t.places.mu.Lock()
	defer t.places.mu.Unlock()
	return t.mayEnter(f)
}

// leave gives back what enter has taken for the same filter.
func (t *Target) leave(f *filter) {
	t.open.Add(-1)
	if f.limit == 0 {
		return
	}
	t.places.mu.Lock()
	defer t.places.mu.Unlock()
	if t.places.held[f.from]--; t.places.held[f.from] == 0 {
		delete(t.places.held, f.from)
	}
}
