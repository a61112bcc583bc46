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

// pendingConns are connections whose handshake, or first request, has not ended. Where there are as many as there may
// be, one of the source with the most makes room: at once for a source with fewer, and for its own if it is slow; else
// the newest waits. It is safe for use from many goroutines.
type pendingConns struct {
	limit  int
	abuse  *abuseLog
	ending <-chan struct{}

	mu      sync.Mutex
	conns   list.List  // of *pendingConn, the oldest first
	sources fair.Tally // of conns
	waiting int
	room    chan struct{} // has something when one has left
}

// pendingConn is one of pendingConns.
type pendingConn struct {
	all   *pendingConns
	conn  net.Conn
	since time.Time

	// Guarded by the lock of all:
	from  netip.Prefix
	place *list.Element // nil: it has left
}

// slow is for how long a connection has its place for sure against those of its own source: fast ones would otherwise
// push each other out before any is done.
const slow = time.Second

func newPendingConns(limit int, abuse *abuseLog, ending <-chan struct{}) *pendingConns {
	return &pendingConns{limit: limit, abuse: abuse, ending: ending, room: make(chan struct{}, 1)}
}

// enter waits for a place, which is left by leave. It returns nil where as many wait as may, and at the end of the
// server.
func (c *pendingConns) enter(conn net.Conn) *pendingConn {
	from := fair.SourceOf(conn.RemoteAddr())
	for {
		m, out, wait := c.try(conn, from)
		switch {
		case m != nil:
			return m
		case out != nil:
			c.abuse.add(traffic.Handshakes, out.from.Addr())
			// Closing happens without the lock, and the next round finds the place that it left.
			out.conn.Close()
			continue
		}

		c.abuse.add(traffic.Handshakes, from.Addr())
		if !c.await(wait) {
			return nil
		}
	}
}

// await waits until there may be room. It reports false where there is no hope.
func (c *pendingConns) await(wait time.Duration) bool {
	c.mu.Lock()
	// Those who wait hold a descriptor each, so their number has a bound too.
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
func (c *pendingConns) try(conn net.Conn, from netip.Prefix) (m, out *pendingConn, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.conns.Len() < c.limit {
		m = &pendingConn{all: c, conn: conn, since: now, from: from}
		m.place = c.conns.PushBack(m)
		c.sources.Add(from, 1)
		return m, nil, 0
	}

	most := c.sources.Most(fair.Nobody)
	oldest := c.conns.Front()
	// Among the connections of the source with the most, the oldest has had the longest time to finish.
	for c.sources.Less(oldest.Value.(*pendingConn).from, most) {
		oldest = oldest.Next()
	}
	out = oldest.Value.(*pendingConn)
	// A source with fewer connections does not wait: it is not the one that fills the places.
	if wait = slow - now.Sub(out.since); wait > 0 && !c.sources.Exceeds(most, from) {
		return nil, nil, wait
	}
	out.remove()
	return nil, out, 0
}

// remove is called with the lock held.
func (m *pendingConn) remove() {
	c := m.all
	c.conns.Remove(m.place)
	m.place = nil
	c.sources.Add(m.from, -1)
}

// comesFrom tells of a client for which a proxy speaks.
func (m *pendingConn) comesFrom(remote net.Addr) {
	c, from := m.all, fair.SourceOf(remote)
	c.mu.Lock()
	defer c.mu.Unlock()
	// The place may have been taken away while the PROXY header was read.
	if m.place == nil {
		return
	}
	c.sources.Add(m.from, -1)
	m.from = from
	c.sources.Add(from, 1)
}

// leave gives the place back. It may be called more than once, and for nil.
func (m *pendingConn) leave() {
	if m == nil {
		return
	}

	c := m.all
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.place == nil {
		return
	}

	m.remove()

	// The channel holds one message. If it is full, somebody is about to look anyway.
	select {
	case c.room <- struct{}{}:
	default:
	}
}

// join takes a place for a connection, which is left when its client has said what it wants, and by Close. It reports
// false where there is none, and the connection is closed.
func (c *clientConn) join(pending *pendingConns) bool {
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
	open fair.Tally
}

// enter takes a place, which is given back by leave. It reports false where there is none.
func (a *addresses) enter(client netip.Prefix) bool {
	if a.limit == 0 || !client.IsValid() {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open.With(client, 1) > int64(a.limit) {
		return false
	}
	a.open.Add(client, 1)
	return true
}

func (a *addresses) leave(client netip.Prefix) {
	if a.limit == 0 || !client.IsValid() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open.Add(client, -1)
}
