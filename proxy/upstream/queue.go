package upstream

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
)

// queue holds requests that wait for a place. Clients take turns, and where the queue is full, the newest of the client
// with the most gives way to one of a client with fewer.
type queue struct {
	mu      sync.Mutex
	line    []*waiting                   // the next in front
	lines   map[netip.Prefix]*clientLine // of the clients that wait
	total   int
	virtual uint64 // the number of the last that went on

	count atomic.Int32 // that wait
}

// waiting is a request. Those of a client are numbered one after the other, beginning with the number that is served:
// the lowest number of all goes on (start-time fair queueing).
type waiting struct {
	from   netip.Prefix
	fits   func() bool // whether there is a place for it
	number uint64
	turn   chan struct{} // closed when it may look for a place, or is refused
	inLine bool
	out    bool
}

type clientLine struct {
	requests int
	last     uint64
}

// join takes a number. It returns nil where the queue is full.
func (q *queue) join(from netip.Prefix, limit int, fits func() bool) *waiting {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.lines == nil {
		q.lines = map[netip.Prefix]*clientLine{}
	}

	own := q.lines[from]
	if own == nil {
		own = &clientLine{}
	}
	if q.total >= limit && !q.giveWay(own.requests) {
		return nil
	}

	q.lines[from] = own
	own.requests++
	// A client that was idle starts at the number that is served now. Its idle time saves nothing up.
	own.last = max(own.last, q.virtual) + 1
	q.total++
	q.count.Add(1)
	return &waiting{from: from, fits: fits, number: own.last}
}

// giveWay refuses the newest request of the client with the most, if that has more than another that has some.
func (q *queue) giveWay(some int) bool {
	var last *waiting
	// Equal clients do not push each other out: at most one more than the newcomer's is left alone.
	most := some + 1
	for _, w := range q.line {
		// Among requests of the same client, the last in line is the newest.
		if n := q.lines[w.from].requests; n > most || last != nil && n == most {
			last, most = w, n
		}
	}

	if last == nil {
		return false
	}

	q.remove(last)
	last.out = true
	q.drop(last)
	close(last.turn)
	return true
}

// stand lets a request wait, at the place that its number has.
func (q *queue) stand(w *waiting) <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	w.turn, w.inLine = make(chan struct{}), true
	at, _ := slices.BinarySearchFunc(q.line, w, func(a, b *waiting) int { return cmp.Or(cmp.Compare(a.number, b.number), -1) })
	q.line = slices.Insert(q.line, at, w)
	return w.turn
}

func (q *queue) refused(w *waiting) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return w.out
}

// wake lets the next request go on for which there is a place.
func (q *queue) wake() {
	if q.count.Load() == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.next()
}

func (q *queue) next() {
	for _, w := range q.line {
		if w.fits() {
			q.remove(w)
			q.virtual = max(q.virtual, w.number)
			close(w.turn)
			return
		}
	}
}

// leave ends the wait, and passes a turn on that came in the meantime.
func (q *queue) leave(w *waiting) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case w.out:
		return
	case w.inLine:
		q.remove(w)
	default:
		// The turn came while the request was leaving. Dropping it would leave a place unused.
		q.next()
	}
	q.drop(w)
}

func (q *queue) remove(w *waiting) {
	if at := slices.Index(q.line, w); at >= 0 {
		q.line = slices.Delete(q.line, at, at+1)
	}
	w.inLine = false
}

func (q *queue) drop(w *waiting) {
	q.total--
	q.count.Add(-1)
	own := q.lines[w.from]
	if own.requests--; own.requests == 0 {
		delete(q.lines, w.from)
	}
}

// queues are those in which somebody waits: a place that comes free may be at a target that several groups share, as
// those of before and after a reload do.
type queues struct {
	some atomic.Int32 // who wait in any
	mu   sync.Mutex
	of   map[*queue]int
}

// add notes how many more wait, or fewer.
func (s *queues) add(q *queue, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = map[*queue]int{}
	}
	if s.of[q] += n; s.of[q] == 0 {
		delete(s.of, q)
	}
	s.some.Add(int32(n))
}

// wake lets the next of each go on.
func (s *queues) wake() {
	if s.some.Load() == 0 {
		return
	}
	// The lock is released before the queues take theirs, as their requests call add.
	s.mu.Lock()
	all := slices.Collect(maps.Keys(s.of))
	s.mu.Unlock()
	for _, q := range all {
		q.wake()
	}
}
