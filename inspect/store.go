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
	"cmp"
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
	rules map[string]*Limits   // what holds now, by site; nil: what each request comes with

	inflating allowance
}

// NewStore makes a store of so many bytes. Values of the secret fields, beside those that are always secret, are shown
// only to who asks for them.
func NewStore(room int64, secret ...string) *Store {
	return &Store{room: room, secret: newNames(secret), sites: map[string][]*Record{}}
}

// Record is a request that is remembered, or under way. Its methods may be called from many goroutines.
type Record struct {
	store  *Store
	id     uint64
	site   string
	size   int64         // that it is charged for; guarded by the store's lock
	change atomic.Uint64 // the last, among the store's

	mu sync.Mutex
	// Nil: it is forgotten, and nothing keeps what was known, although the request may be under way still.
	state atomic.Pointer[state]
}

// state is what is known of a request. It is guarded by the record's lock.
type state struct {
	limits  *Limits
	request Request // without fields, which are in heads
	origin  any
	tries   [1]Try // most requests go to one target
	heads   Lines
	at      [parts]part // where each list of fields is
	readers [2]follower // of what passes in each direction, in pieces; nil: nobody follows it
	framed  bool        // what passes is a WebSocket's frames
	kept    int         // bytes of messages
	ready   int64       // bytes that are charged already, and not needed yet
}

// part is where a list of fields is.
type part struct{ from, to int32 }

const (
	received = iota
	sent
	answered
	response
	trailers // of the client, then of the server
	parts    = trailers + 2
)

const (
	overhead = 2 << 10 // bytes of a record itself
	// Charged at the beginning, and given back at the end as far as it was not needed: most requests take the store's
	// lock at these two places alone.
	advance = 4 << 10
	// For the fields that come later.
	headRoom = 1 << 10
)

// Begin remembers a request from now on. It is given the request as the client has sent it, and its fields.
func (s *Store) Begin(l *Limits, r *Request, fields Lines, origin any) *Record {
	c := &Record{store: s, site: r.Site}
	// What goes to the target, and what comes back, is about as long. Texts of the request keep its head alive.
	is := &state{origin: origin, ready: advance, request: *r, heads: make(Lines, 0, 2*len(fields)+headRoom)}
	size := overhead + int64(cap(is.heads)+len(fields)+len(r.Target))

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rules != nil {
		// The request was let in before a reload, whose rules hold for what is remembered from then on.
		if l = s.rules[r.Site]; l == nil {
			return c
		}
	}

	s.last++
	c.id, is.request.ID, is.limits = s.last, s.last, l
	if l.Redact {
		is.request.Target = s.masking(Redacted).query(r.Target)
	}
	is.keep(s, received, fields)
	c.state.Store(is)
	c.change.Store(s.changes.Add(1))
	s.all = append(s.all, c)

	of := append(s.sites[r.Site], c)
	s.sites[r.Site] = of
	s.charge(c, size+advance)
	if len(of) > l.Requests {
		s.forget(of[0])
	}
	return c
}

// charge is called with the lock held. What is too much is taken from the oldest.
func (s *Store) charge(c *Record, n int64) {
	if c.state.Load() == nil {
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
	c.state.Store(nil)
	s.used -= c.size
	s.all = without(s.all, c)
	if of := without(s.sites[c.site], c); len(of) > 0 {
		s.sites[c.site] = of
	} else {
		delete(s.sites, c.site)
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

// Keep has other rules hold from now on, by site. It forgets the requests of sites that have none, those that are too
// many, and those with secrets where these are not kept any more.
func (s *Store) Keep(sites map[string]*Limits) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = sites
	for name, of := range s.sites {
		l := sites[name]
		for i, c := range slices.Clone(of) {
			if l == nil || len(of)-i > l.Requests || l.Redact && !c.redacts() {
				s.forget(c)
			}
		}
	}
}

// redacts reports whether a record was made without secrets.
func (c *Record) redacts() bool {
	is := c.state.Load()
	return is != nil && is.limits.Redact
}

// Clear forgets everything.
func (s *Store) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.all) > 0 {
		s.forget(s.all[0])
	}
	s.changes.Add(1)
}

// Recent are all requests, newest first. They are summaries: without fields, content and messages.
func (s *Store) Recent() []*Request {
	s.mu.Lock()
	all := slices.Clone(s.all)
	s.mu.Unlock()

	slices.Reverse(all)
	out := make([]*Request, 0, len(all))
	for _, c := range all {
		if r := c.summary(); r != nil {
			out = append(out, r)
		}
	}
	return out
}

// Since are the requests that have changed after so many changes, oldest first, and how many changes there are now.
func (s *Store) Since(changes uint64) (changed []*Request, now uint64) {
	if now = s.changes.Load(); now == changes {
		return nil, now
	}
	s.mu.Lock()
	var all []*Record
	for _, c := range s.all {
		if c.change.Load() > changes {
			all = append(all, c)
		}
	}
	s.mu.Unlock()

	for _, c := range all {
		if r := c.summary(); r != nil {
			changed = append(changed, r)
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
		if is := c.state.Load(); is != nil {
			return is.origin
		}
	}
	return nil
}

func (s *Store) find(id uint64) *Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Ids rise, though some are missing.
	i, ok := slices.BinarySearchFunc(s.all, id, func(c *Record, id uint64) int { return cmp.Compare(c.id, id) })
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

// fields are those of a list, in which it is said what is secret: a copy.
func (is *state) fields(s *Store, which int) []Field {
	all := is.lines(which).fields()
	for i := range all {
		all[i].Secret = s.secretField(is.limits, all[i].Name)
	}
	return all
}

func (is *state) lines(which int) Lines {
	at := is.at[which]
	return is.heads[at.from:at.to]
}

// keep notes a list of fields, and returns how many bytes that takes.
func (is *state) keep(s *Store, which int, fields Lines) (grown int64) {
	if is.limits.Redact {
		all := fields.fields()
		s.redact(is.limits, all)
		fields = LinesOf(all)
	}
	before, from := cap(is.heads), len(is.heads)
	is.heads = append(is.heads, fields...)
	is.at[which] = part{int32(from), int32(len(is.heads))}
	return int64(cap(is.heads) - before)
}

func (s *Store) masking(mask string) *masking { return &masking{names: s.secret, mask: mask} }

// ID is the request's number in the store; 0: it was never remembered.
func (c *Record) ID() uint64 { return c.id }

// open locks a record, and returns what is known; nil, unlocked: it is forgotten.
func (c *Record) open() *state {
	c.mu.Lock()
	is := c.state.Load()
	if is == nil {
		c.mu.Unlock()
	}
	return is
}

// changed is called when somebody who looks should look again. The lock is held.
func (c *Record) changed(is *state, grown int64) {
	c.change.Store(c.store.changes.Add(1))
	c.grow(is, grown)
}

// grow charges for what was added, in steps: many small pieces do not take the store's lock each. The lock is held.
func (c *Record) grow(is *state, n int64) {
	is.ready -= n
	var more int64
	switch {
	case is.request.Done:
		// What was charged and not needed is given back.
		more = -is.ready
	case is.ready < 0, is.ready > 2*advance:
		more = advance - is.ready
	default:
		return
	}
	is.ready += more
	c.store.mu.Lock()
	c.store.charge(c, more)
	c.store.mu.Unlock()
}

// Trying notes that the request goes to a target, as it goes there.
func (c *Record) Trying(target string, method, host, path string, fields Lines) {
	is := c.open()
	if is == nil {
		return
	}
	defer c.mu.Unlock()
	if is.limits.Redact {
		path = c.store.masking(Redacted).query(path)
	}
	r := &is.request
	grown := is.keep(c.store, sent, fields) + int64(len(path)+len(target)) + overhead/8
	r.SentMethod, r.SentHost, r.SentTarget = method, host, path
	if r.Tries == nil {
		r.Tries = is.tries[:0]
	}
	r.Tries = append(r.Tries, Try{Target: target, At: time.Since(r.Start)})
	c.changed(is, grown)
}

// Tried notes what has come of the last target: status 0 is no response.
func (c *Record) Tried(t Try) {
	is := c.open()
	if is == nil {
		return
	}
	defer c.mu.Unlock()
	if len(is.request.Tries) == 0 {
		return
	}
	last := &is.request.Tries[len(is.request.Tries)-1]
	t.Target, t.At = last.Target, last.At
	t.Took = time.Since(is.request.Start) - t.At
	*last = t
}

// Answered notes the head of the target's response, as it came.
func (c *Record) Answered(status int, fields Lines) {
	is := c.open()
	if is == nil {
		return
	}
	defer c.mu.Unlock()
	is.request.TargetStatus = status
	c.grow(is, is.keep(c.store, answered, fields))
}

// Head notes the head of the response, as it goes to the client.
func (c *Record) Head(status int, fields Lines) {
	is := c.open()
	if is == nil {
		return
	}
	defer c.mu.Unlock()
	c.head(is, status, fields)
}

func (c *Record) head(is *state, status int, fields Lines) {
	is.request.Status = status
	is.request.FirstByte = time.Since(is.request.Start)
	grown := is.keep(c.store, response, fields)
	if isEvents(fields) {
		is.readers[Server] = &events{}
	}
	c.changed(is, grown)
}

// Interim notes an interim response.
func (c *Record) Interim(status int) {
	is := c.open()
	if is == nil {
		return
	}
	defer c.mu.Unlock()
	if len(is.request.Interim) < maxInterim {
		is.request.Interim = append(is.request.Interim, status)
	}
}

const maxInterim = 16

// Trailers notes those of one side.
func (c *Record) Trailers(from Side, fields Lines) {
	if len(fields) == 0 {
		return
	}
	is := c.open()
	if is == nil {
		return
	}
	defer c.mu.Unlock()
	c.grow(is, is.keep(c.store, trailers+int(from), fields))
}

func (r *Request) content(from Side) *Content {
	if from == Client {
		return &r.In
	}
	return &r.Out
}

// Content notes content that passes, of which it copies what the limit allows.
func (c *Record) Content(from Side, p []byte) {
	is := c.open()
	if is == nil {
		return
	}
	defer c.mu.Unlock()
	if r := is.readers[from]; r != nil {
		r.follow(c, is, p)
	}
	into := is.request.content(from)
	into.Size += int64(len(p))
	if is.framed {
		// What passes is messages, and nothing else.
		return
	}
	room := is.limits.Body - len(into.Data)
	into.Cut = into.Cut || len(p) > room
	if n := min(room, len(p)); n > 0 {
		before := cap(into.Data)
		// Whoever looks at what was kept before keeps that: nothing in it is written to again.
		into.Data = append(into.Data, p[:n]...)
		c.grow(is, int64(cap(into.Data)-before))
	}
}

// Tunnel says that what passes from now on are frames of a WebSocket, if it is one, and no content.
func (c *Record) Tunnel(webSocket bool, fields Lines) {
	is := c.open()
	if is == nil {
		return
	}
	defer c.mu.Unlock()
	c.head(is, 101, fields)
	is.request.Tunnel = true
	if webSocket {
		is.framed, is.readers = true, newFrames(fields.fields())
	}
}

// message remembers one, in the place of the oldest if there are too many. It is called with the lock held.
func (c *Record) message(is *state, m Message) {
	if is.limits.Redact {
		m.redact(c.store)
	}
	m.At = time.Since(is.request.Start)
	r := &is.request
	r.Messages = append(r.Messages, m)
	grown := int64(m.weight())
	is.kept += m.weight()
	for (is.kept > is.limits.Body+messageSize || len(r.Messages) > maxMessages) && len(r.Messages) > 1 {
		gone := r.Messages[0].weight()
		is.kept -= gone
		grown -= int64(gone)
		r.Messages = r.Messages[1:]
		r.Earlier++
	}
	c.changed(is, grown)
}

// weight is how many bytes a message takes.
func (m *Message) weight() int { return len(m.Data) + messageSize }

// redact takes secrets out of a message. A name may stand in one part and its value in another, so parts are not kept.
func (m *Message) redact(s *Store) {
	if m.Part || m.Kind == "continuation" || m.Raw {
		m.Data, m.Cut = nil, m.Size > 0
		return
	}
	if Readable(m.Data) {
		m.Data = s.masking(Redacted).json(m.Data)
	}
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
	is := c.open()
	if is == nil {
		return
	}
	defer c.mu.Unlock()
	r := &is.request
	if o.Status != 0 {
		r.Status = o.Status
	}
	r.User, r.Error, r.Aborted, r.Duration, r.Wait = strings.Clone(o.User), o.Error, o.Aborted, o.Duration, o.Wait
	r.Done = true
	for _, reader := range is.readers {
		if reader != nil {
			reader.end(c, is)
		}
	}
	is.readers = [2]follower{}
	if is.limits.Redact {
		c.store.redactContent(is.lines(received).fields(), &r.In)
		c.store.redactContent(is.lines(response).fields(), &r.Out)
	}
	c.changed(is, int64(len(o.User)+len(o.Error)))
}

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

// summary is what a list shows; nil: the request is forgotten.
func (c *Record) summary() *Request {
	is := c.open()
	if is == nil {
		return nil
	}
	defer c.mu.Unlock()
	r := is.request
	r.Target = c.store.masking(Hidden).query(r.Target)
	r.Messages, r.Tries = nil, nil
	r.SentMethod, r.SentHost, r.SentTarget = "", "", ""
	r.In, r.Out = Content{Size: r.In.Size, Cut: r.In.Cut}, Content{Size: r.Out.Size, Cut: r.Out.Cut}
	r.took()
	return &r
}

// whole is all that is known; nil: nothing is.
func (c *Record) whole() *Request {
	is := c.open()
	if is == nil {
		return nil
	}
	defer c.mu.Unlock()
	r := is.request
	// Of the last try the result may be missing still. Of the rest, what is added is behind the ends.
	r.Tries, r.Messages, r.Interim = slices.Clone(r.Tries), slices.Clone(r.Messages), slices.Clone(r.Interim)
	for which, fields := range [parts]*[]Field{&r.Received, &r.Sent, &r.Answered, &r.Response, &r.In.Trailers, &r.Out.Trailers} {
		*fields = is.fields(c.store, which)
	}
	if is.limits.Redact && !r.Done {
		// Content is redacted when it is whole.
		r.In.Data, r.Out.Data = nil, nil
	}
	r.took()
	return &r
}

func (r *Request) took() {
	if !r.Done {
		r.Duration = time.Since(r.Start)
	}
}
