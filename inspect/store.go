// Package inspect remembers the requests of sites that ask for it, with all that people look at when they test: both
// heads as they came and as they went on, content, targets, timings, and what passed through a WebSocket.
//
//	store := inspect.NewStore(64<<20, "X-Token")
//	record := store.Begin(&inspect.Limits{Requests: 200, Body: 64 << 10}, inspect.Request{Site: "app.test", Method: "GET"})
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
	all   []*Record            // oldest first
	sites map[string][]*Record // the same, by site
}

// NewStore makes a store of so many bytes. Values of the secret fields, beside those that are always secret, are shown
// only to who asks for them.
func NewStore(room int64, secret ...string) *Store {
	return &Store{room: room, secret: newNames(secret), sites: map[string][]*Record{}}
}

// Record is a request that is remembered, or under way. Its methods may be called from many goroutines.
type Record struct {
	store  *Store
	limits *Limits
	size   int64 // guarded by the store's lock
	gone   atomic.Bool
	change atomic.Uint64 // the last, among the store's

	mu      sync.Mutex
	is      Request
	origin  any
	readers [2]follower // of what passes in each direction, in pieces; nil: nobody follows it
	framed  bool        // what passes is a WebSocket's frames
	kept    int         // bytes of messages
}

const overhead = 1 << 10 // bytes of a record itself

// Begin remembers a request from now on. It is given the request as the client has sent it.
func (s *Store) Begin(l *Limits, r Request, origin any) *Record {
	c := &Record{store: s, limits: l, is: r, origin: origin}
	if l.Redact {
		c.is.Target = s.secret.query(c.is.Target)
	}
	c.is.Received = s.fields(l, c.is.Received)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	c.is.ID = s.last
	c.change.Store(s.changes.Add(1))
	s.all = append(s.all, c)

	of := append(s.sites[r.Site], c)
	s.sites[r.Site] = of
	s.charge(c, overhead+weigh(c.is.Received)+int64(len(r.Target)))
	if len(of) > l.Requests {
		s.forget(of[0])
	}
	return c
}

// charge is called with the lock held. What is too much is taken from the oldest.
func (s *Store) charge(c *Record, n int64) {
	if c.gone.Load() {
		return
	}
	c.size += n
	s.used += n
	for s.used > s.room && len(s.all) > 0 {
		s.forget(s.all[0])
	}
}

// forget is called with the lock held. A record that is under way is written to no more.
func (s *Store) forget(c *Record) {
	c.gone.Store(true)
	s.used -= c.size
	s.all = without(s.all, c)
	if of := without(s.sites[c.is.Site], c); len(of) > 0 {
		s.sites[c.is.Site] = of
	} else {
		delete(s.sites, c.is.Site)
	}
}

// without takes a record out, which mostly is the first.
func without(all []*Record, c *Record) []*Record {
	if len(all) > 0 && all[0] == c {
		// Else the array would keep the record alive.
		all[0] = nil
		return all[1:]
	}
	if i := slices.Index(all, c); i >= 0 {
		return slices.Delete(all, i, i+1)
	}
	return all
}

// Keep forgets the requests of all other sites.
func (s *Store) Keep(sites map[string]*Limits) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, of := range s.sites {
		kept := 0
		if l := sites[name]; l != nil {
			kept = l.Requests
		}
		for range len(of) - min(kept, len(of)) {
			s.forget(s.sites[name][0])
		}
	}
}

// Clear forgets everything.
func (s *Store) Clear() {
	s.Keep(nil)
	s.changes.Add(1)
}

// Recent are all requests, newest first. They are summaries: without fields, content and messages.
func (s *Store) Recent() []*Request {
	s.mu.Lock()
	all := slices.Clone(s.all)
	s.mu.Unlock()

	slices.Reverse(all)
	out := make([]*Request, len(all))
	for i, c := range all {
		out[i] = c.summary()
	}
	return out
}

// Since are the requests that have changed after so many changes, oldest first, and how many changes there are now.
func (s *Store) Since(changes uint64) (changed []*Request, now uint64) {
	if now = s.changes.Load(); now == changes {
		return nil, now
	}
	s.mu.Lock()
	all := slices.Clone(s.all)
	s.mu.Unlock()

	for _, c := range all {
		if c.change.Load() > changes {
			changed = append(changed, c.summary())
		}
	}
	return changed, now
}

// Find returns a request with all that is known of it; nil: it is not remembered.
func (s *Store) Find(id uint64) *Request {
	if c := s.find(id); c != nil {
		return c.whole()
	}
	return nil
}

// Origin is what Begin was given beside the request.
func (s *Store) Origin(id uint64) any {
	if c := s.find(id); c != nil {
		return c.origin
	}
	return nil
}

func (s *Store) find(id uint64) *Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Ids rise, though some are missing.
	i, ok := slices.BinarySearchFunc(s.all, id, func(c *Record, id uint64) int {
		switch {
		case c.is.ID < id:
			return -1
		case c.is.ID > id:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	return s.all[i]
}

// Used is how many bytes are taken.
func (s *Store) Used() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// fields are those of a message as they are kept: a copy.
func (s *Store) fields(l *Limits, fields []Field) []Field {
	for i := range fields {
		f := &fields[i]
		f.Secret = s.secret.has(f.Name) || slices.ContainsFunc(l.Secret, func(name string) bool { return equal(name, f.Name) })
		switch {
		case f.Secret && l.Redact:
			f.Value = Redacted
		case l.Redact && holdsURL(f.Name):
			f.Value = s.secret.query(f.Value)
		}
	}
	return fields
}

func weigh(fields []Field) (n int64) {
	for i := range fields {
		// Two strings and a flag take 40 bytes beside their text.
		n += int64(len(fields[i].Name)+len(fields[i].Value)) + 40
	}
	return n
}

// ID is the request's number in the store.
func (c *Record) ID() uint64 { return c.is.ID }

// changed is called when somebody who looks should look again. The lock is held.
func (c *Record) changed(grown int64) {
	c.change.Store(c.store.changes.Add(1))
	c.grow(grown)
}

func (c *Record) grow(n int64) {
	if n == 0 {
		return
	}
	c.store.mu.Lock()
	c.store.charge(c, n)
	c.store.mu.Unlock()
}

// Trying notes that the request goes to a target, as it goes there.
func (c *Record) Trying(target string, method, host, path string, fields []Field) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone.Load() {
		return
	}
	if c.limits.Redact {
		path = c.store.secret.query(path)
	}
	grown := weigh(fields) - weigh(c.is.Sent) + int64(len(path)+len(target)) + overhead/8
	c.is.Sent = c.store.fields(c.limits, fields)
	c.is.SentMethod, c.is.SentHost, c.is.SentTarget = method, host, path
	c.is.Tries = append(c.is.Tries, Try{Target: target, At: time.Since(c.is.Start)})
	c.changed(grown)
}

// Tried notes what has come of the last target: status 0 is no response.
func (c *Record) Tried(t Try) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.is.Tries) == 0 || c.gone.Load() {
		return
	}
	last := &c.is.Tries[len(c.is.Tries)-1]
	t.Target, t.At = last.Target, last.At
	t.Took = time.Since(c.is.Start) - t.At
	*last = t
}

// Answered notes the head of the target's response, as it came.
func (c *Record) Answered(status int, fields []Field) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone.Load() {
		return
	}
	c.is.TargetStatus, c.is.Answered = status, c.store.fields(c.limits, fields)
	c.grow(weigh(fields))
}

// Head notes the head of the response, as it goes to the client.
func (c *Record) Head(status int, fields []Field) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone.Load() {
		return
	}
	c.is.Status, c.is.Response = status, c.store.fields(c.limits, fields)
	c.is.FirstByte = time.Since(c.is.Start)
	if isEvents(fields) {
		c.readers[Server] = &events{}
	}
	c.changed(weigh(fields))
}

// Interim notes an interim response.
func (c *Record) Interim(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.gone.Load() && len(c.is.Interim) < maxInterim {
		c.is.Interim = append(c.is.Interim, status)
	}
}

const maxInterim = 16

// Trailers notes those of one side.
func (c *Record) Trailers(from Side, fields []Field) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(fields) == 0 || c.gone.Load() {
		return
	}
	c.content(from).Trailers = c.store.fields(c.limits, fields)
	c.grow(weigh(fields))
}

func (c *Record) content(from Side) *Content {
	if from == Client {
		return &c.is.In
	}
	return &c.is.Out
}

// Content notes content that passes, of which it copies what the limit allows.
func (c *Record) Content(from Side, p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone.Load() {
		return
	}

	if r := c.readers[from]; r != nil {
		r.follow(c, from, p)
	}
	into := c.content(from)
	into.Size += int64(len(p))
	if c.framed {
		// What passes is messages, and nothing else.
		return
	}
	room := c.limits.Body - len(into.Data)
	into.Cut = into.Cut || len(p) > room
	if n := min(room, len(p)); n > 0 {
		before := cap(into.Data)
		// Whoever looks at what was kept before keeps that: nothing in it is written to again.
		into.Data = append(into.Data, p[:n]...)
		c.grow(int64(cap(into.Data) - before))
	}
}

// Tunnel says that what passes from now on are frames of a WebSocket, if it is one, and no content.
func (c *Record) Tunnel(webSocket bool, fields []Field) {
	c.Head(101, fields)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.is.Tunnel = true
	if webSocket {
		c.framed, c.readers = true, [2]follower{newFrames(fields), newFrames(fields)}
	}
}

// message remembers one, in the place of the oldest if there are too many. It is called with the lock held.
func (c *Record) message(m Message) {
	m.At = time.Since(c.is.Start)
	c.is.Messages = append(c.is.Messages, m)
	grown := int64(len(m.Data)) + messageSize
	c.kept += len(m.Data) + messageSize
	for (c.kept > c.limits.Body+messageSize || len(c.is.Messages) > maxMessages) && len(c.is.Messages) > 1 {
		first := &c.is.Messages[0]
		gone := len(first.Data) + messageSize
		c.kept -= gone
		grown -= int64(gone)
		c.is.Messages = c.is.Messages[1:]
		c.is.Earlier++
	}
	c.changed(grown)
}

const (
	messageSize = 128 // bytes beside its data
	maxMessages = 1000
)

// Outcome is what a request has come to.
type Outcome struct {
	Status   int
	User     string
	Error    string
	Aborted  bool
	Duration time.Duration
	Wait     time.Duration // for a place at a target
}

// End notes the end of a request. The record does not change any more.
func (c *Record) End(o Outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone.Load() {
		return
	}
	if o.Status != 0 {
		c.is.Status = o.Status
	}
	c.is.User, c.is.Error, c.is.Aborted, c.is.Duration, c.is.Wait = strings.Clone(o.User), o.Error, o.Aborted, o.Duration, o.Wait
	c.is.Done, c.readers = true, [2]follower{}
	for _, one := range []struct {
		content *Content
		fields  []Field
	}{{&c.is.In, c.is.Received}, {&c.is.Out, c.is.Response}} {
		if c.limits.Redact && isForm(one.fields) {
			one.content.Data = []byte(c.store.secret.pairs(string(one.content.Data)))
		}
	}
	c.changed(int64(len(o.User) + len(o.Error)))
}

// summary is what a list shows.
func (c *Record) summary() *Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.is
	r.Target = c.store.secret.maskQuery(r.Target, Hidden)
	r.Received, r.Sent, r.Answered, r.Response, r.Messages, r.Tries = nil, nil, nil, nil, nil, nil
	r.SentMethod, r.SentHost, r.SentTarget = "", "", ""
	r.In, r.Out = Content{Size: r.In.Size, Cut: r.In.Cut}, Content{Size: r.Out.Size, Cut: r.Out.Cut}
	c.took(&r)
	return &r
}

// whole is all that is known. The lists are not written to any more: what is added is behind their ends.
func (c *Record) whole() *Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.is
	// Of the last try the result may be missing still.
	r.Tries, r.Messages, r.Interim = slices.Clone(r.Tries), slices.Clone(r.Messages), slices.Clone(r.Interim)
	if c.limits.Redact && !r.Done {
		// Content is redacted when it is whole.
		r.In.Data, r.Out.Data = nil, nil
	}
	c.took(&r)
	return &r
}

func (c *Record) took(r *Request) {
	if !r.Done {
		r.Duration = time.Since(r.Start)
	}
}
