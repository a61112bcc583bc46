// Package inspect remembers the requests of sites that ask for it, with all that people look at when they test: both
// heads as they came and as they went on, content, targets, timings, and what passed through a WebSocket.
//
//	store := inspect.NewStore(64<<20, "X-Token")
//	record := store.Begin(&inspect.Limits{Requests: 200, Body: 64 << 10}, &inspect.Request{Site: "app.test", Method: "GET"}, inspect.LinesOf(fields), nil)
//	record.Content(inspect.Client, chunk)
//	record.End(inspect.Outcome{Status: 200})
//	for _, r := range store.Recent() { … }
//
// Everything is in memory, in bounded room, and nothing in it is shared with a request that is under way.
package inspect

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Limits are what a site asks for.
type Limits struct {
	Site     string   // whose they are
	Requests int      // that are remembered
	Body     int      // bytes of a request's content, and of its response's
	Redact   bool     // secrets are not kept
	Secret   []string // fields that are secret here
}

// Store has the records of all sites, in room that they share. It is safe for use from many goroutines.
type Store struct {
	room    int64
	secret  names
	changes atomic.Uint64 // of all records

	mu    sync.Mutex
	last  uint64 // id
	used  int64
	all   series
	sites map[string]*shelf
	ruled bool // Keep has said which sites there are; else each request comes with its limits

	inflating allowance
}

// shelf has the records of a site.
type shelf struct {
	limits  *Limits // what holds now; nil: what each request comes with
	records series
}

// NewStore makes a store of so many bytes. Values of the secret fields, beside those that are always secret, are shown
// only to who asks for them.
func NewStore(room int64, secret ...string) *Store {
	return &Store{room: room, secret: newNames(secret), sites: map[string]*shelf{}}
}

// overhead is how many bytes a record takes beside its log: itself, its places in the store, and what the request's
// connection leaves behind.
const overhead = 1 << 10

// Begin remembers a request of l.Site that has begun at start. Of its texts and fields it makes copies; origin is kept
// with it.
func (s *Store) Begin(l *Limits, start time.Time, a *Arrival, fields Lines, origin any) *Record {
	c := &Record{store: s, limits: l, start: start, origin: origin}
	c.log.turn()
	c.mu.Lock()
	defer c.close()
	if !s.admit(c) {
		return c
	}

	target := a.Target
	if c.limits.Redact {
		// A copy: else the compiler has whoever calls make each text in the heap.
		target = s.masking(Redacted).query(strings.Clone(target))
	}
	c.log.add(arrived, func(to []byte) []byte { return a.append(to, target) })
	c.log.add(received, c.redacted(fields).append)
	c.settle()
	return c
}

// admit gives a record its place, and makes room for it. It is called with the record's lock held; whoever finds the
// record meanwhile waits.
func (s *Store) admit(c *Record) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	on := s.sites[c.limits.Site]
	if s.ruled {
		// The request was let in before a reload, whose rules hold for what is remembered from then on.
		if on == nil {
			c.forgotten.Store(true)
			return false
		}
		c.limits = on.limits
	} else if on == nil {
		on = &shelf{}
		s.sites[c.limits.Site] = on
	}

	s.last++
	c.id, c.shelf = s.last, on
	s.all.add(c)
	on.records.add(c)
	if on.records.live > c.limits.Requests {
		s.forget(on.records.oldest())
	}
	s.charge(c, overhead+c.log.owed)
	c.log.owed = 0
	// Who has counted this change already looks for the record when the store's lock is free.
	c.change.Store(s.changes.Add(1))
	return true
}

// charge is called with the lock held. What is too much is taken from the oldest.
func (s *Store) charge(c *Record, n int64) {
	if c.forgotten.Load() {
		return
	}
	c.size += n
	s.used += n
	for s.used > s.room && s.all.live > 0 {
		s.forget(s.all.oldest())
	}
}

// forget is called with the lock held. A record that is under way is written to no more.
func (s *Store) forget(c *Record) {
	s.used -= c.size
	s.all.remove(c.id)
	c.shelf.records.remove(c.id)
	c.leave()
}

// Keep has other rules hold from now on, by site. It forgets the requests of sites that have none, those that are too
// many, and those with secrets where these are not kept any more.
func (s *Store) Keep(sites map[string]*Limits) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ruled = true
	for name, on := range s.sites {
		l := sites[name]
		for _, c := range on.records.after(0) {
			if l == nil || on.records.live > l.Requests || l.Redact && !c.limits.Redact {
				s.forget(c)
			}
		}
		if l == nil {
			delete(s.sites, name)
		}
	}
	for name, l := range sites {
		if s.sites[name] == nil {
			s.sites[name] = &shelf{}
		}
		s.sites[name].limits = l
	}
}

// Clear forgets everything.
func (s *Store) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.all.live > 0 {
		s.forget(s.all.oldest())
	}
	s.changes.Add(1)
}

// Recent are all requests, newest first. They are summaries: without fields, content and messages.
func (s *Store) Recent() []*Request {
	all := s.changedAfter(0)
	slices.Reverse(all)
	return summaries(all)
}

// Since are the requests that have changed after so many changes, oldest first, and how many changes there are now.
func (s *Store) Since(changes uint64) (changed []*Request, now uint64) {
	if now = s.changes.Load(); now == changes {
		return nil, now
	}
	return summaries(s.changedAfter(changes)), now
}

func (s *Store) changedAfter(changes uint64) []*Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.after(changes)
}

func summaries(all []*Record) []*Request {
	out := make([]*Request, 0, len(all))
	for _, c := range all {
		if r := c.summary(); r != nil {
			out = append(out, r)
		}
	}
	return out
}

// Find returns a request with all that is known of it; nil: it is not remembered.
func (s *Store) Find(id uint64) *Request {
	if c := s.find(id); c != nil {
		return c.whole()
	}
	return nil
}

// Origin is what Begin was given beside the request; nil: it is not remembered.
func (s *Store) Origin(id uint64) any {
	if c := s.find(id); c != nil {
		return c.origin
	}
	return nil
}

func (s *Store) find(id uint64) *Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.find(id)
}

// Used is how many bytes are taken.
func (s *Store) Used() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// secretField reports whether a field's value is shown only to who asks for it.
func (s *Store) secretField(l *Limits, name string) bool {
	return s.secret.has(name) || slices.ContainsFunc(l.Secret, func(secret string) bool { return equal(secret, name) })
}

// redact takes secrets out of fields.
func (s *Store) redact(l *Limits, fields []Field) {
	for i := range fields {
		switch f := &fields[i]; {
		case s.secretField(l, f.Name):
			f.Value = Redacted
		case holdsURL(f.Name):
			f.Value = s.masking(Redacted).query(f.Value)
		}
	}
}

func (s *Store) masking(mask string) *masking { return &masking{names: s.secret, mask: mask} }

// redactContent takes secrets out of content. What hides them in a coding that nobody knows is not kept.
func (s *Store) redactContent(fields []Field, c *Content) {
	if coded(fields) == "" {
		c.Data = s.masking(Redacted).content(fields, c.Data)
		return
	}
	if len(c.Data) == 0 {
		return
	}
	plain, _ := decode(coded(fields), c.Data)
	c.Decoded = true
	if c.Data = s.masking(Redacted).content(fields, plain); len(plain) == 0 {
		c.Cut = true
	}
}
