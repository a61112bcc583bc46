package proxy

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"time"

	"padlock/internal/fair"
	"padlock/traffic"
)

// crowd is a number of connections that have yet to say what they want. Where there are as many as there may be, one of the source with
// the most makes room: at once for a source with fewer, and for its own if it is slow; else the newest waits. It is safe for use from many
// goroutines.
type crowd struct {
	limit  int
	cuts   *cuts
	ending <-chan struct{}

	mu      sync.Mutex
	members list.List            // of *member, the oldest first
	sources map[netip.Prefix]int // of members
	waiting int
	room    chan struct{} // has something when one has left
}

// member is a connection of a crowd.
type member struct {
	crowd *crowd
	conn  net.Conn
	since time.Time

	// Guarded by the crowd's lock:
	from  netip.Prefix
	place *list.Element // nil: it has left
}

// slow is for how long a connection has its place for sure against those of its own source: fast ones would otherwise push each other
// out before any is done.
const slow = time.Second

func newCrowd(limit int, cuts *cuts, ending <-chan struct{}) *crowd {
	return &crowd{limit: limit, cuts: cuts, ending: ending, sources: map[netip.Prefix]int{}, room: make(chan struct{}, 1)}
}

// enter waits for a place, which is left by leave. It returns nil where as many wait as may, and at the end of the server.
func (c *crowd) enter(conn net.Conn) *member {
	from := fair.SourceOf(conn.RemoteAddr())
	for {
		m, out, wait := c.try(conn, from)
		switch {
		case m != nil:
			return m
		case out != nil:
			c.cuts.cut(traffic.Handshakes, out.from.Addr())
			out.conn.Close()
			continue
		}
		c.cuts.cut(traffic.Handshakes, from.Addr())
		if !c.await(wait) {
			return nil
		}
	}
}

// await waits until there may be room. It reports false where there is no hope.
func (c *crowd) await(wait time.Duration) bool {
	c.mu.Lock()
	hopeless := c.waiting >= max(c.limit, knocking)
	if !hopeless {
		c.waiting++
	}
	c.mu.Unlock()
	if hopeless {
		return false
	}
	defer func() {
		c.mu.Lock()
		c.waiting--
		c.mu.Unlock()
	}()

	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-c.room:
	case <-timer.C:
	case <-c.ending:
		return false
	}
	return true
}

// try enters, or takes one out that has to make room, or tells how long that one has its place for sure.
func (c *crowd) try(conn net.Conn, from netip.Prefix) (m, out *member, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.members.Len() < c.limit {
		m = &member{crowd: c, conn: conn, since: now, from: from}
		m.place = c.members.PushBack(m)
		c.sources[from]++
		return m, nil, 0
	}

	most, mine := 0, c.sources[from]
	for _, n := range c.sources {
		most = max(most, n)
	}
	oldest := c.members.Front()
	for c.sources[oldest.Value.(*member).from] < most {
		oldest = oldest.Next()
	}
	out = oldest.Value.(*member)
	if wait = slow - now.Sub(out.since); wait > 0 && most < mine+2 {
		return nil, nil, wait
	}
	out.remove()
	return nil, out, 0
}

// remove is called with the lock held.
func (m *member) remove() {
	c := m.crowd
	c.members.Remove(m.place)
	m.place = nil
	if c.sources[m.from]--; c.sources[m.from] == 0 {
		delete(c.sources, m.from)
	}
}

// comesFrom tells of a client for which a proxy speaks.
func (m *member) comesFrom(remote net.Addr) {
	c, from := m.crowd, fair.SourceOf(remote)
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.place == nil {
		return
	}
	if c.sources[m.from]--; c.sources[m.from] == 0 {
		delete(c.sources, m.from)
	}
	m.from = from
	c.sources[from]++
}

// leave gives the place back. It may be called more than once, and for nil.
func (m *member) leave() {
	if m == nil {
		return
	}
	c := m.crowd
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.place == nil {
		return
	}
	m.remove()
	select {
	case c.room <- struct{}{}:
	default:
	}
}

// join takes a place for a connection, which is left when its client has said what it wants, and by Close. It reports false where there is none,
// and the connection is closed.
func (c *clientConn) join(pending *crowd) bool {
	place := pending.enter(c)
	if place == nil {
		c.Close()
		return false
	}
	c.begun.Store(place)
	return true
}

// addresses counts open connections by client, where a limit is set.
type addresses struct {
	limit int // 0: none

	mu   sync.Mutex
	open map[netip.Prefix]int
}

// enter takes a place, which is given back by leave. It reports false where there is none.
func (a *addresses) enter(client netip.Prefix) bool {
	if a.limit == 0 || !client.IsValid() {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open[client] >= a.limit {
		return false
	}
	if a.open == nil {
		a.open = map[netip.Prefix]int{}
	}
	a.open[client]++
	return true
}

func (a *addresses) leave(client netip.Prefix) {
	if a.limit == 0 || !client.IsValid() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open[client]--; a.open[client] == 0 {
		delete(a.open, client)
	}
}
