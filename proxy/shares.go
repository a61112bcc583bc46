package proxy

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"padlock/internal/fair"
	"padlock/proxy/park"
)

// shares are the slots of open connections, by source. While there are free ones, a source may have any number. Where
// there are none, a connection of the source with the most makes room for one of a source with fewer, so that nobody
// keeps others out. It is safe for use from many goroutines.
type shares struct {
	limit  int
	turns  *fair.Turns
	exempt func(netip.Prefix) bool // proxies, which come for many clients: only what is idle makes room
	lot    *park.Lot               // nil where connections cannot be parked
	ending context.Context
	full   func(netip.Prefix) // is called where there is no slot

	mu      sync.Mutex
	sources map[netip.Prefix]*share
	loads   fair.Tally // of slots, but those of proxies
	open    int
}

// share is what one source has.
type share struct {
	from    netip.Prefix
	held    []*slot
	counted int // of held, in loads
}

// slot is a connection's.
type slot struct {
	share *share
	place int // in share.held
	done  func()
	conn  evictable
}

// evictable is a connection that can be asked to go.
type evictable interface {
	// evict ends the connection where it is parked or, with active, in any case. It reports whether it will end.
	evict(active bool) bool
}

const (
	knocking   = 256                    // connections that wait for a slot
	retryEvery = 100 * time.Millisecond // after which another connection is asked to make room
	lookFor    = 64                     // connections are looked at for one that is idle
)

func newShares(limit int) *shares {
	return &shares{
		limit: limit, sources: map[netip.Prefix]*share{}, exempt: fair.Nobody,
		turns: fair.NewTurns(fair.Limits{AtOnce: limit, Each: limit, PerSource: knocking, Waiting: knocking}),
		full:  func(netip.Prefix) {}, ending: context.Background(),
	}
}

// now is a context for who does not wait.
var now = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// try takes a slot if there is one, else it returns nil.
func (s *shares) try(from netip.Prefix, conn evictable) *slot {
	done, err := s.turns.Take(now, from)
	if err != nil {
		return nil
	}
	return s.note(from, conn, done)
}

// take waits for a slot for as long as the patience lasts, and has others make room for it. It returns nil where there
// is none.
func (s *shares) take(from netip.Prefix, conn evictable, patience time.Duration) *slot {
	s.makeRoom(from)
	return s.await(from, conn, patience)
}

// await is take after makeRoom. Another connection is asked only when the first has had time to go: one that is going
// still counts.
func (s *shares) await(from netip.Prefix, conn evictable, patience time.Duration) *slot {
	ctx, cancel := context.WithTimeout(s.ending, patience)
	defer cancel()
	s.full(from)
	// The first connection that was asked may take its time to go, or not go at all.
	go s.press(ctx, from)
	done, err := s.turns.Take(ctx, from)
	if err != nil {
		return nil
	}
	return s.note(from, conn, done)
}

// press has others make room, until ctx ends.
func (s *shares) press(ctx context.Context, from netip.Prefix) {
	again := time.NewTicker(retryEvery)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			s.makeRoom(from)
		case <-ctx.Done():
			return
		}
	}
}

func (s *shares) note(from netip.Prefix, conn evictable, done func()) *slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := s.sources[from]
	if own == nil {
		own = &share{from: from}
		s.sources[from] = own
	}

	taken := &slot{share: own, place: len(own.held), done: done, conn: conn}
	own.held = append(own.held, taken)
	if !s.exempt(from) {
		own.counted++
		s.loads.Add(from, 1)
	}

	s.open++
	return taken
}

// leave gives a slot back, once; it may be nil.
func (s *shares) leave(taken *slot) {
	if taken == nil {
		return
	}

	s.mu.Lock()
	own := taken.share
	last := len(own.held) - 1
	// The order does not matter, so the last one fills the gap without moving the others.
	own.held[taken.place] = own.held[last]
	own.held[taken.place].place = taken.place
	own.held[last] = nil
	if own.held = own.held[:last]; last == 0 {
		delete(s.sources, own.from)
	}

	// A reload may have made the source a trusted proxy, or the opposite.
	if own.counted > 0 {
		own.counted--
		s.loads.Add(own.from, -1)
	}

	s.open--
	// Giving the turn back may wake another goroutine that takes the lock.
	s.mu.Unlock()
	taken.done()
}

func (s *shares) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// swap takes the slot of a connection of a source with more, which is asked to end: for who cannot wait until it has.
// It returns nil where there is none.
func (s *shares) swap(from netip.Prefix, conn evictable, patience time.Duration) *slot {
	s.full(from)
	if !s.makeRoom(from) {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.ending, patience)
	ended := make(chan func(), 1)
	// The caller has its slot at once. The turn that belongs to it comes when the other connection has ended.
	go func() {
		done, err := s.turns.Take(ctx, from)
		if err != nil {
			done = func() {}
		}
		ended <- done
	}()

	return s.note(from, conn, func() { cancel(); (<-ended)() })
}

// makeRoom asks a connection to end, so that one of this source has its slot: one of the source with the most if that
// has more, else one that is idle; its own, where it has more than its share. It reports whether one of another source
// will end.
func (s *shares) makeRoom(from netip.Prefix) bool {
	s.mu.Lock()
	most, own := s.sources[s.loads.Most(s.exempt)], s.sources[from]
	above, heavier := false, most != nil && most.from != from
	switch {
	// A proxy speaks for many clients, so it is compared by what it has and not by what one client may have.
	case s.exempt(from) && own != nil:
		heavier = heavier && s.loads.Load(most.from) >= int64(len(own.held))+2
	case !s.exempt(from):
		heavier = heavier && s.loads.Exceeds(most.from, from)
		above = own != nil && s.loads.Load(from)*int64(len(s.sources)) > int64(s.limit)
	}

	if !heavier {
		most = own
	}

	var idle, newest []*slot
	if heavier || above {
		held := most.held
		// The oldest connections come first in the list, and are the likeliest to be idle. Looking at all of them
		// would take too long under the lock.
		idle = append(idle, held[:min(len(held), lookFor)]...)
		newest = append(newest, held[len(held)-1])
	}

	// evict may close a connection, whose end takes the lock.
	s.mu.Unlock()

	for _, one := range idle {
		if one.conn.evict(false) {
			return heavier
		}
	}

	switch {
	case heavier:
		return newest[0].conn.evict(true)
	case !above && s.lot != nil:
		// Several at a time, so that a rush of new clients does not wait for one idle connection after the other.
		s.lot.Expire(1 + s.limit/200)
	}

	return false
}
