package inspect

import (
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Record is a request that is remembered, or under way. Its methods may be called from many goroutines. It is made anew
// for each request; only the pages of its log are lent again, when the record is forgotten and nobody has its lock.
type Record struct {
	store     *Store
	shelf     *shelf
	limits    *Limits
	id        uint64
	start     time.Time
	origin    any
	size      int64         // that it is charged for; guarded by the store's lock
	change    atomic.Uint64 // the last, among the store's; changing: another is being noted
	forgotten atomic.Bool   // nothing keeps what was known, although the request may be under way still

	mu        sync.Mutex // guards all that follows
	log       log
	flow      *flow // nil: what passes is content, and no secrets are taken out of it
	passed    [2]passed
	status    int
	interims  int
	firstByte time.Duration
	tunnel    bool
	done      bool
	outcome   Outcome
}

// passed is how much content went by in one direction.
type passed struct {
	size int64
	kept int
	cut  bool
}

// flow is what few requests have.
type flow struct {
	readers  [2]follower // of what passes in each direction, in pieces; nil: nobody follows it
	framed   bool        // what passes is a WebSocket's frames
	messages []Message
	earlier  int       // messages that were forgotten
	kept     int       // bytes of messages
	content  [2][]byte // of which secrets are taken out in the end
	decoded  [2]bool   // it is without its coding, for that
	ready    int64     // bytes that are charged already, and not needed yet
}

// advance is what a flow is charged for at a time: many small pieces do not take the store's lock each.
const advance = 2 << 10

// ID is the request's number in the store; 0: it was never remembered.
func (c *Record) ID() uint64 { return c.id }

// open locks a record, and reports whether it is remembered; false, unlocked: it is forgotten.
func (c *Record) open() bool {
	if c.forgotten.Load() {
		return false
	}
	c.mu.Lock()
	if c.forgotten.Load() {
		c.close()
		return false
	}
	return true
}

// close unlocks a record. Whoever had it forgotten meanwhile did not wait for the lock.
func (c *Record) close() {
	c.mu.Unlock()
	if c.forgotten.Load() {
		c.mu.Lock()
		c.drop()
		c.mu.Unlock()
	}
}

// leave is called once, when the record is forgotten. It waits for nobody: who has the lock drops what is there.
func (c *Record) leave() {
	c.forgotten.Store(true)
	if c.mu.TryLock() {
		c.drop()
		c.mu.Unlock()
	}
}

// drop is called with the lock held.
func (c *Record) drop() {
	c.log.drop()
	c.flow = nil
}

// changing is more than any number of changes.
const changing = ^uint64(0)

// changed is called when somebody who looks should look again. The lock is held.
func (c *Record) changed() {
	// Who counts the changes between the two steps finds this one too.
	c.change.Store(changing)
	c.change.Store(c.store.changes.Add(1))
}

// settle charges for what the log has grown by. The lock is held.
func (c *Record) settle() {
	if c.log.owed > 0 {
		c.charge(c.log.owed)
		c.log.owed = 0
	}
}

func (c *Record) charge(n int64) {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	c.store.charge(c, n)
}

// flowing is the record's flow. The lock is held.
func (c *Record) flowing() *flow {
	if c.flow == nil {
		c.flow = &flow{}
	}
	return c.flow
}

// grow charges for what was added to the flow, in steps. The lock is held.
func (c *Record) grow(n int64) {
	f := c.flow
	f.ready -= n
	more := advance - f.ready
	switch {
	case c.done:
		// What was charged and not needed is given back.
		more = -f.ready
	case f.ready >= 0 && f.ready <= 2*advance:
		return
	}
	f.ready += more
	c.charge(more)
}

// redacted are fields as they are kept.
func (c *Record) redacted(fields Lines) Lines {
	if !c.limits.Redact {
		return fields
	}
	all := entry(fields.append(nil)).fields()
	c.store.redact(c.limits, all)
	return LinesOf(all)
}

// Trying notes that the request goes to a target, as it goes there, at a time after its start.
func (c *Record) Trying(target string, at time.Duration, method, host, path string, fields Lines) {
	if !c.open() {
		return
	}
	defer c.close()
	if c.limits.Redact {
		path = c.store.masking(Redacted).query(path)
	}
	fields = c.redacted(fields)
	c.log.add(sent, func(to []byte) []byte {
		to = appendTook(appendText(to, target), at)
		to = appendText(appendText(appendText(to, method), host), path)
		return fields.append(to)
	})
	c.settle()
}

// Missed notes that the last target has not answered: why, and how long it took. The rest of t is known.
func (c *Record) Missed(t Try) { c.tried(missed, t, nil) }

// Answered notes the head of the last target's response, as it came, and how long it took. The rest of t is known.
func (c *Record) Answered(t Try, fields Lines) { c.tried(answered, t, fields) }

func (c *Record) tried(k kind, t Try, fields Lines) {
	if !c.open() {
		return
	}
	defer c.close()
	fields = c.redacted(fields)
	c.log.add(k, func(to []byte) []byte {
		to = appendText(binary.AppendUvarint(to, uint64(t.Status)), t.Error)
		to = appendTook(appendTook(appendTook(to, t.Connect), t.TLS), t.Took)
		return fields.append(to)
	})
	c.settle()
}

// Head notes the head of the response, as it goes to the client.
func (c *Record) Head(status int, fields Lines) {
	if !c.open() {
		return
	}
	defer c.close()
	c.head(status, fields)
}

func (c *Record) head(status int, fields Lines) {
	c.status, c.firstByte = status, time.Since(c.start)
	fields = c.redacted(fields)
	stream := false
	c.log.add(response, func(to []byte) []byte {
		before := len(to)
		to = fields.append(to)
		stream = isEvents(to[before:])
		return to
	})
	if stream {
		c.flowing().readers[Server] = &events{}
	}
	c.settle()
	c.changed()
}

// Interim notes an interim response.
func (c *Record) Interim(status int) {
	if !c.open() {
		return
	}
	defer c.close()
	if c.interims < maxInterim {
		c.interims++
		c.log.add(interim, func(to []byte) []byte { return binary.AppendUvarint(to, uint64(status)) })
		c.settle()
	}
}

const maxInterim = 16

// Trailers notes those of one side.
func (c *Record) Trailers(from Side, fields Lines) {
	if !c.open() {
		return
	}
	defer c.close()
	fields = c.redacted(fields)
	c.log.add(clientTrailers+kind(from), fields.append)
	c.settle()
}

// Content notes content that passes, of which it copies what the limit allows.
func (c *Record) Content(from Side, p []byte) {
	if !c.open() {
		return
	}
	defer c.close()
	into := &c.passed[from]
	into.size += int64(len(p))
	if c.flow != nil {
		if r := c.flow.readers[from]; r != nil {
			r.follow(c, p)
		}
		if c.flow.framed {
			// What passes is messages, and nothing else.
			return
		}
	}

	room := c.limits.Body - into.kept
	into.cut = into.cut || len(p) > room
	n := min(room, len(p))
	if n <= 0 {
		return
	}
	into.kept += n
	if c.limits.Redact {
		f := c.flowing()
		before := cap(f.content[from])
		f.content[from] = append(f.content[from], p[:n]...)
		c.grow(int64(cap(f.content[from]) - before))
		return
	}
	c.log.content(clientContent+kind(from), p[:n])
	c.settle()
}

// Tunnel says that what passes from now on are frames of a WebSocket, if it is one, and no content.
func (c *Record) Tunnel(webSocket bool, fields Lines) {
	if !c.open() {
		return
	}
	defer c.close()
	c.head(101, fields)
	c.tunnel = true
	if webSocket {
		f := c.flowing()
		f.framed, f.readers = true, newFrames(entry(fields.append(nil)).fields())
	}
}

// message remembers one, in the place of the oldest if there are too many. It is called with the lock held.
func (c *Record) message(m Message) {
	if c.limits.Redact {
		m.redact(c.store)
	}
	m.At = time.Since(c.start)
	f := c.flow
	f.messages = append(f.messages, m)
	grown := int64(m.weight())
	f.kept += m.weight()
	for (f.kept > c.limits.Body+messageSize || len(f.messages) > maxMessages) && len(f.messages) > 1 {
		gone := f.messages[0].weight()
		f.kept -= gone
		grown -= int64(gone)
		f.messages[0] = Message{}
		f.messages = f.messages[1:]
		f.earlier++
	}
	c.changed()
	c.grow(grown)
}

// weight is how many bytes a message takes.
func (m *Message) weight() int { return len(m.Data) + messageSize }

// redact takes secrets out of a message. A name may stand in one part and its value in another, so parts are not kept.
func (m *Message) redact(s *Store) {
	if m.Part || m.Kind == "continuation" || m.Raw {
		m.Data, m.Cut = nil, m.Size > 0
		return
	}
	m.Data = s.masking(Redacted).json(m.Data)
}

const (
	messageSize = 128 // bytes beside its data
	maxMessages = 1000
)

// Outcome is what a request has come to.
type Outcome struct {
	Status   int // 0: as it is known already
	User     string
	Error    string
	Aborted  bool
	Duration time.Duration
	Wait     time.Duration // for a place at a target
}

// End notes the end of a request. The record does not change any more.
func (c *Record) End(o Outcome) {
	if !c.open() {
		return
	}
	defer c.close()
	if o.Status != 0 {
		c.status = o.Status
	}
	// A user's name is a part of the request's head, which would stay with it.
	o.User, o.Error = strings.Clone(o.User), strings.Clone(o.Error)
	c.outcome, c.done = o, true
	c.log.owed += int64(len(o.User) + len(o.Error))
	c.settle()
	if f := c.flow; f != nil {
		for _, reader := range f.readers {
			if reader != nil {
				reader.end(c)
			}
		}
		f.readers = [2]follower{}
		if c.limits.Redact {
			c.redactContent()
		}
		c.grow(0)
	}
	c.changed()
}

// redactContent takes secrets out of content, which is whole.
func (c *Record) redactContent() {
	var fields [2][]Field
	c.log.each(func(k kind, text []byte) {
		switch k {
		case received:
			fields[Client] = entry(text).fields()
		case response:
			fields[Server] = entry(text).fields()
		}
	})
	for side := range fields {
		content := Content{Data: c.flow.content[side], Cut: c.passed[side].cut}
		c.store.redactContent(fields[side], &content)
		c.flow.content[side], c.flow.decoded[side], c.passed[side].cut = content.Data, content.Decoded, content.Cut
	}
}

// summary is what a list shows; nil: the request is forgotten.
func (c *Record) summary() *Request {
	if !c.open() {
		return nil
	}
	defer c.close()
	r := &Request{}
	r.Arrival.read(entry(c.log.opening()))
	r.Target = c.store.masking(Hidden).query(r.Target)
	c.facts(r)
	return r
}

// append adds what there is to an entry, and read takes it from one.
func (a *Arrival) append(to []byte, target string) []byte {
	to = appendText(appendText(appendText(to, a.RequestID), a.Method), a.Scheme)
	to = appendText(appendText(appendText(appendText(to, a.Host), target), a.Proto), a.Remote)
	return binary.AppendUvarint(binary.AppendUvarint(to, a.Handshake), a.Replay)
}

func (a *Arrival) read(e entry) {
	a.RequestID, a.Method, a.Scheme, a.Host = e.text(), e.text(), e.text(), e.text()
	a.Target, a.Proto, a.Remote = e.text(), e.text(), e.text()
	a.Handshake, a.Replay = e.number(), e.number()
}

// facts are those that are not in the log. The lock is held.
func (c *Record) facts(r *Request) {
	o := &c.outcome
	r.ID, r.Start, r.Site = c.id, c.start, c.limits.Site
	r.Status, r.FirstByte, r.Tunnel, r.Done = c.status, c.firstByte, c.tunnel, c.done
	r.User, r.Error, r.Aborted, r.Duration, r.Wait = o.User, o.Error, o.Aborted, o.Duration, o.Wait
	if !c.done {
		r.Duration = time.Since(c.start)
	}
	for side, content := range [...]*Content{&r.In, &r.Out} {
		content.Size, content.Cut = c.passed[side].size, c.passed[side].cut
	}
}

// whole is all that is known; nil: nothing is.
func (c *Record) whole() *Request {
	if !c.open() {
		return nil
	}
	defer c.close()
	r := &Request{}
	content := [...]*Content{&r.In, &r.Out}
	for side := range content {
		if c.passed[side].kept > 0 && !c.limits.Redact {
			content[side].Data = make([]byte, 0, c.passed[side].kept)
		}
	}
	c.log.each(func(k kind, text []byte) {
		if side := k - clientContent; k >= clientContent {
			content[side].Data = append(content[side].Data, text...)
			return
		}
		c.read(r, k, entry(text))
	})
	c.facts(r)

	if f := c.flow; f != nil {
		r.Messages, r.Earlier = slices.Clone(f.messages), f.earlier
		for side := range content {
			// Content is redacted when it is whole.
			if c.limits.Redact && c.done {
				content[side].Data, content[side].Decoded = f.content[side], f.decoded[side]
			}
		}
	}
	return r
}

// read adds what an entry says.
func (c *Record) read(r *Request, k kind, e entry) {
	fields := func() []Field {
		all := e.fields()
		for i := range all {
			all[i].Secret = c.store.secretField(c.limits, all[i].Name)
		}
		return all
	}
	switch k {
	case arrived:
		r.Arrival.read(e)
	case received:
		r.Received = fields()
	case sent:
		r.Tries = append(r.Tries, Try{Target: e.text(), At: e.took()})
		r.SentMethod, r.SentHost, r.SentTarget = e.text(), e.text(), e.text()
		r.Sent = fields()
	case missed, answered:
		status, why := int(e.number()), e.text()
		connect, tls, took := e.took(), e.took(), e.took()
		if n := len(r.Tries); n > 0 {
			t := &r.Tries[n-1]
			t.Status, t.Error, t.Connect, t.TLS, t.Took = status, why, connect, tls, took
		}
		if k == answered {
			r.TargetStatus, r.Answered = status, fields()
		}
	case interim:
		r.Interim = append(r.Interim, int(e.number()))
	case response:
		r.Response = fields()
	case clientTrailers:
		r.In.Trailers = fields()
	case serverTrailers:
		r.Out.Trailers = fields()
	}
}
