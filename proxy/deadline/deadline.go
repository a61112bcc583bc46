// Package deadline limits how long the reads of a connection wait, at the cost of a comparison.
//
//	d.Init(conn.SetReadDeadline)
//	d.Until(time.Now().Add(time.Minute))   // sets a timer only if the one that stands is too late
//	n, err := conn.Read(p)                 // if deadline.Exceeded(err): d.Expired() tells whether to read again
package deadline

import (
	"errors"
	"os"
	"sync"
	"time"
)

// Deadline limits the reads of one connection. It sets the connection's timer only where the one that stands is too late,
// and looks again when it fires: a busy connection would otherwise set several timers for every request.
// It is safe for use from many goroutines.
type Deadline struct {
	set func(time.Time) error

	mu     sync.Mutex
	limit  time.Time // zero: none
	armed  time.Time // what the connection was told; zero: nothing
	kicked bool
}

// Init comes before all else. set is a connection's SetReadDeadline.
func (d *Deadline) Init(set func(time.Time) error) { d.set = set }

// Until limits the reads that follow; the zero time lifts the limit.
func (d *Deadline) Until(limit time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.limit = limit
	if !d.kicked && !limit.IsZero() && (d.armed.IsZero() || d.armed.After(limit)) {
		d.arm(limit)
	}
}

func (d *Deadline) arm(at time.Time) {
	d.armed = at
	_ = d.set(at)
}

// Expired tells whether a read that ran out of time has to end. If not, it can be tried again.
func (d *Deadline) Expired() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kicked || !d.limit.IsZero() && !time.Now().Before(d.limit) {
		return true
	}
	d.arm(d.limit)
	return false
}

// Kick ends the read that waits, and those that follow until Release.
func (d *Deadline) Kick() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kicked = true
	d.arm(time.Unix(1, 0))
}

// Release undoes Kick.
func (d *Deadline) Release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kicked {
		d.kicked = false
		d.arm(d.limit)
	}
}

// Clear lifts the limit and stops the connection's timer.
func (d *Deadline) Clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.limit = time.Time{}
	d.arm(d.limit)
}

// Exceeded tells whether a read or write ended because a deadline had passed.
func Exceeded(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
