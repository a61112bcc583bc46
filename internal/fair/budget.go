package fair

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// Budget is what each source may spend in a span of time, all at once or bit by bit; a network of several sources
// (the /48 of IPv6) may spend several times as much. What it remembers is bounded: where there are too many sources,
// those are forgotten that have spent nothing for the longest. It is safe for use from many goroutines.
type Budget struct {
	limit int
	span  time.Duration

	mu     sync.Mutex
	spent  map[netip.Prefix]*list.Element
	recent list.List // of *account, the one that has spent last in front
}

type account struct {
	prefix netip.Prefix
	free   time.Time // when nothing of it will be used up any more
}

const (
	maxAccounts  = 20_000
	networkShare = 4 // times as much as a source's
)

// NewBudget gives each source limit in a span.
func NewBudget(limit int, span time.Duration) *Budget {
	return &Budget{limit: limit, span: span, spent: map[netip.Prefix]*list.Element{}}
}

// Spend counts one, and reports whether the source had it to spend; if not, nothing is counted.
func (b *Budget) Spend(from netip.Prefix) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	own, ok := b.after(from, b.limit, now)
	if !ok {
		return false
	}

	network := site(from)
	if network == from || !network.IsValid() {
		b.note(from, own, now)
		return true
	}

	shared, ok := b.after(network, networkShare*b.limit, now)
	if !ok {
		return false
	}

	b.note(from, own, now)
	b.note(network, shared, now)
	return true
}

// after is when an account would be free again if one more was spent, and whether it may be.
func (b *Budget) after(prefix netip.Prefix, limit int, now time.Time) (free time.Time, ok bool) {
	free = now
	if e := b.spent[prefix]; e != nil && e.Value.(*account).free.After(now) {
		free = e.Value.(*account).free
	}
	free = free.Add(b.span / time.Duration(limit))
	return free, free.Sub(now) <= b.span
}

func (b *Budget) note(prefix netip.Prefix, free, now time.Time) {
	if e := b.spent[prefix]; e != nil {
		e.Value.(*account).free = free
		b.recent.MoveToFront(e)
		return
	}

	for oldest := b.recent.Back(); oldest != nil; oldest = b.recent.Back() {
		if a := oldest.Value.(*account); b.recent.Len() < maxAccounts && a.free.After(now) {
			break
		}
		b.recent.Remove(oldest)
		delete(b.spent, oldest.Value.(*account).prefix)
	}
	b.spent[prefix] = b.recent.PushFront(&account{prefix, free})
}
