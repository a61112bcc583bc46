// Package fair shares what is scarce among sources: each gets its turn, however much another asks for.
//
//	turns := fair.NewTurns(fair.Limits{AtOnce: 2, Each: 1, PerSource: 16, Waiting: 1024})
//	done, err := turns.Take(ctx, fair.Source(addr))
//	if err != nil { … }   // ErrSource, ErrAll, or ctx's
//	defer done()
package fair

import (
	"container/list"
	"context"
	"errors"
	"net/netip"
	"sync"
)

// Limits of Turns. None may be 0.
type Limits struct {
	AtOnce    int // turns that are taken at the same time
	Each      int // of them by one source; a network of several sources may have four times as many
	PerSource int // of one source that wait
	Waiting   int // of all sources that wait
}

// Why there is no turn.
var (
	ErrSource = errors.New("as many of this client wait as may")
	ErrAll    = errors.New("as many clients wait as may")
)

// Turns lets a few work at once, and the others wait. The source with the fewest turns is the next, and sources that
// have as many take turns; so do the IPv6 networks of 48 bits that they are in. Within a source, who came first goes
// first. It is safe for use from many goroutines.
type Turns struct {
	limits Limits

	mu      sync.Mutex
	taken   int
	waiting int
	sources map[netip.Prefix]*source
	sites   map[netip.Prefix]*network
	ring    list.List // of *network with sources that wait: who has waited longest for a turn is in front
}

// network has the sources of one site.
type network struct {
	prefix  netip.Prefix
	sources int // that there are
	taken   int
	waiting int
	ring    list.List // of *source that wait
	place   *list.Element
}

type source struct {
	prefix  netip.Prefix
	network *network
	taken   int
	queue   list.List // of *waiter
	place   *list.Element
}

type waiter struct {
	source *source
	place  *list.Element
	turn   chan error // has nil when it is its turn; has room for one
}

// NewTurns returns turns of which none is taken.
func NewTurns(limits Limits) *Turns {
	return &Turns{limits: limits, sources: map[netip.Prefix]*source{}, sites: map[netip.Prefix]*network{}}
}

// Take waits for a turn, which ends with done; done is called once. It waits until ctx ends, and not at all where too
// many do: then the error is ErrSource or, if it is not this source that has most of those who wait, ErrAll.
func (t *Turns) Take(ctx context.Context, from netip.Prefix) (done func(), err error) {
	w := t.join(from)
	select {
	case err = <-w.turn:
	case <-ctx.Done():
		if t.leave(w) {
			return nil, ctx.Err()
		}
		// The turn came at the same time: it must be taken, or nobody would ever give it back.
		err = <-w.turn
	}

	if err != nil {
		return nil, err
	}
	return func() { t.end(w.source) }, nil
}

// join lets one more wait, if only for a moment.
func (t *Turns) join(from netip.Prefix) *waiter {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := &waiter{source: t.source(from), turn: make(chan error, 1)}
	t.push(w)
	t.dispatch()

	switch {
	case w.place == nil:
	case w.source.queue.Len() > t.limits.PerSource:
		t.refuse(w, ErrSource)
	case t.waiting > t.limits.Waiting:
		// Not who came last, but who takes most of the room: else one source could shut the others out.
		t.refuse(t.last(w), ErrAll)
	}

	return w
}

// leave reports whether a turn is no longer waited for: false if it has come.
func (t *Turns) leave(w *waiter) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w.place == nil {
		return false
	}
	t.remove(w)
	t.forget(w.source)
	return true
}

func (t *Turns) end(s *source) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.taken--
	s.network.taken--
	t.taken--
	t.dispatch()
	t.forget(s)
}

// dispatch gives turns while there are any. It is called with the lock held, as are those below.
func (t *Turns) dispatch() {
	for t.taken < t.limits.AtOnce {
		s := t.next()
		if s == nil {
			return
		}
		w := s.queue.Front().Value.(*waiter)
		t.remove(w)
		s.taken++
		s.network.taken++
		t.taken++
		// Whoever had a turn goes behind the others that have as many.
		if s.place != nil {
			s.network.ring.MoveToBack(s.place)
		}

		if s.network.place != nil {
			t.ring.MoveToBack(s.network.place)
		}

		w.turn <- nil
	}
}

// next is the source whose turn it is, nil if there is none that may have one: of those with the fewest turns, in the
// networks with the fewest, the one that has waited longest.
func (t *Turns) next() (next *source) {
	for e := t.ring.Front(); e != nil; e = e.Next() {
		n := e.Value.(*network)
		if next != nil && n.taken >= next.network.taken || n.taken >= networkShare*t.limits.Each {
			continue
		}
		if s := n.next(t.limits.Each); s != nil {
			next = s
		}
	}
	return next
}

func (n *network) next(each int) (next *source) {
	for e := n.ring.Front(); e != nil; e = e.Next() {
		if s := e.Value.(*source); s.taken < each && (next == nil || s.taken < next.taken) {
			next = s
		}
	}
	return next
}

// last is who has to go where too many wait: the newest of the source with the most in the network with the most,
// which may be w.
func (t *Turns) last(w *waiter) *waiter {
	largest := w.source.network
	for e := t.ring.Front(); e != nil; e = e.Next() {
		if n := e.Value.(*network); n.waiting > largest.waiting {
			largest = n
		}
	}

	// The newcomer is the one to go among equals, as the others have waited already.
	longest := w.source
	if largest != longest.network {
		longest = largest.ring.Front().Value.(*source)
	}

	for e := largest.ring.Front(); e != nil; e = e.Next() {
		if s := e.Value.(*source); s.queue.Len() > longest.queue.Len() {
			longest = s
		}
	}

	return longest.queue.Back().Value.(*waiter)
}

func (t *Turns) refuse(w *waiter, err error) {
	t.remove(w)
	t.forget(w.source)
	w.turn <- err
}

func (t *Turns) source(from netip.Prefix) *source {
	s := t.sources[from]
	if s != nil {
		return s
	}

	// One site has 65,536 networks of 64 bits, and would otherwise count as as many sources.
	prefix := site(from)
	n := t.sites[prefix]
	if n == nil {
		n = &network{prefix: prefix}
		t.sites[prefix] = n
	}

	n.sources++
	s = &source{prefix: from, network: n}
	t.sources[from] = s
	return s
}

func (t *Turns) push(w *waiter) {
	s := w.source
	n := s.network
	w.place = s.queue.PushBack(w)
	if s.place == nil {
		s.place = n.ring.PushBack(s)
	}
	if n.place == nil {
		n.place = t.ring.PushBack(n)
	}
	n.waiting++
	t.waiting++
}

func (t *Turns) remove(w *waiter) {
	s := w.source
	n := s.network
	s.queue.Remove(w.place)
	w.place = nil
	n.waiting--
	t.waiting--

	if s.queue.Len() == 0 {
		n.ring.Remove(s.place)
		s.place = nil
	}

	if n.waiting == 0 {
		t.ring.Remove(n.place)
		n.place = nil
	}
}

// forget drops a source, and its network, that neither wait nor have a turn.
func (t *Turns) forget(s *source) {
	if s.taken > 0 || s.queue.Len() > 0 {
		return
	}
	delete(t.sources, s.prefix)
	if s.network.sources--; s.network.sources == 0 {
		delete(t.sites, s.network.prefix)
	}
}
