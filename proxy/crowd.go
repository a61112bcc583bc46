package proxy

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"time"

	"padlock/traffic"
)

// crowd is a number of connections that have yet to say what they want. Where there are as many as there may be, the oldest makes room
// for the newest if it is slow; else the newest waits. It is safe for use from many goroutines.
type crowd struct {
	limit  int
	cuts   *cuts
	ending <-chan struct{}

	mu      sync.Mutex
	members list.List     // of *member, the oldest first
	room    chan struct{} // has something when one has left
}

// member is a connection of a crowd.
type member struct {
	crowd *crowd
	conn  net.Conn
	since time.Time

	// Guarded by the crowd's lock:
	remote net.Addr
	place  *list.Element // nil: it has left
}

// slow is for how long a connection has its place for sure: fast ones would otherwise push each other out before any is done.
const slow = time.Second

func newCrowd(limit int, cuts *cuts, ending <-chan struct{}) *crowd {
	return &crowd{limit: limit, cuts: cuts, ending: ending, room: make(chan struct{}, 1)}
}

// enter waits for a place, which is left by leave. It returns nil at the end of the server.
func (c *crowd) enter(conn net.Conn) *member {
	for {
		m, oldest, wait := c.try(conn)
		switch {
		case m != nil:
			return m
		case oldest != nil:
			_, addr := clientAddr(oldest.remote.String())
			c.cuts.cut(traffic.Handshakes, addr)
			oldest.conn.Close()
			continue
		}
		c.cuts.cut(traffic.Handshakes, netip.Addr{})
		timer := time.NewTimer(wait)
		select {
		case <-c.room:
			timer.Stop()
		case <-timer.C:
		case <-c.ending:
			timer.Stop()
			return nil
		}
	}
}

// try enters, or takes the oldest out, or tells how long that one has its place for sure.
func (c *crowd) try(conn net.Conn) (m, oldest *member, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.members.Len() < c.limit {
		m = &member{crowd: c, conn: conn, since: now, remote: conn.RemoteAddr()}
		m.place = c.members.PushBack(m)
		return m, nil, 0
	}
	first := c.members.Front().Value.(*member)
	if wait = slow - now.Sub(first.since); wait > 0 {
		return nil, nil, wait
	}
	first.remove()
	return nil, first, 0
}

// remove is called with the lock held.
func (m *member) remove() {
	m.crowd.members.Remove(m.place)
	m.place = nil
}

// comesFrom tells of a client for which a proxy speaks.
func (m *member) comesFrom(remote net.Addr) {
	m.crowd.mu.Lock()
	defer m.crowd.mu.Unlock()
	m.remote = remote
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

// crowdListener lets connections of plain HTTP be a crowd: each has one answer.
type crowdListener struct {
	net.Listener
	crowd *crowd
}

// Accept implements net.Listener.
func (l crowdListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	m := l.crowd.enter(c)
	if m == nil {
		c.Close()
		return nil, net.ErrClosed
	}
	return crowdConn{c, m}, nil
}

type crowdConn struct {
	net.Conn
	*member
}

func (c crowdConn) Close() error {
	c.leave()
	return c.Conn.Close()
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
