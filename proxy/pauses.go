package proxy

import (
	"net/netip"
	"time"

	"padlock/internal/fair"
)

// pauses are the clients that take nothing of what is sent to them for longer than timeouts.body_idle: a pipe behind
// curl, a player that is paused. Nothing is buffered for them, but each holds a connection to a target. So as many as
// there may be are waited for until timeouts.send, and the others are cut, as a flood of readers that do not read would
// be. It is safe for use from many goroutines.
type pauses struct {
	turns *fair.Turns
	more  time.Duration // beyond timeouts.body_idle
}

// newPauses lets a tenth of the connections wait, and of one client an eighth of them.
func newPauses(connections int, stall, send time.Duration) *pauses {
	// Small limits would otherwise leave no room to pause at all.
	all := max(16, connections/10)
	return &pauses{fair.NewTurns(fair.Limits{AtOnce: all, Each: max(8, all/8), PerSource: 1, Waiting: 1}), send - stall}
}

// begin lets a client pause until resume, or reports that it may not.
func (p *pauses) begin(client netip.Addr) (resume func(), ok bool) {
	if p.more <= 0 {
		return nil, false
	}
	resume, err := p.turns.Take(now, fair.Source(client))
	return resume, err == nil
}

// pausing is a connection of TCP whose front has set the limit of a write. It is called by one goroutine at a time: who
// writes.
type pausing struct {
	*clientConn
	resume func()
}

// Stalled implements socket.Staller.
func (p *pausing) Stalled() bool {
	c := p.clientConn
	// Only a write whose limit the front has set may pause, and only once: a client that pauses again is cut.
	if !c.pausable.CompareAndSwap(true, false) {
		return false
	}
	_, client := c.client()
	resume, ok := c.server.pauses.begin(client)
	if !ok {
		return false
	}
	p.resume = resume
	_ = c.Conn.SetWriteDeadline(time.Now().Add(c.server.pauses.more))
	return true
}

// Resumed implements socket.Staller.
func (p *pausing) Resumed() { p.resume() }
