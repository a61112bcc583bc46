// Package deadline limits how long the reads of a connection wait, at the cost of a comparison.
//
//	d.Init(conn.SetReadDeadline)
//	d.Until(time.Now().Add(time.Minute))   // sets a timer only if the one that stands is too late
//	n, err := d.Read(conn, p)
package deadline

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// Deadline limits the reads of one connection. It sets the connection's timer only where the one that stands is too
// late, and looks again when it fires: a busy connection would otherwise set several timers for every request. It is
// safe for use from many goroutines.
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

// Interrupt ends the read that waits, and those that follow until Release.
func (d *Deadline) Interrupt() {
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

// Read reads from the connection, until the limit that stands has passed.
func (d *Deadline) Read(source io.Reader, p []byte) (int, error) {
	for {
		n, err := source.Read(p)
		switch {
		case n > 0:
			return n, nil
		case err == nil:
			return 0, io.ErrNoProgress
		case !Exceeded(err) || d.Expired():
			return 0, err
		}
	}
}

// Patience is how long a peer may make us wait now: stall, and over time no longer than the n bytes that it has brought
// or taken excuse, at rate bytes a second. waited is for how long it has already made us wait; a rate of 0 asks for
// nothing.
func Patience(stall time.Duration, rate int, n int64, waited time.Duration) time.Duration {
	if rate == 0 {
		return stall
	}
	earned := time.Duration(float64(n) / float64(rate) * float64(time.Second))
	return min(stall, stall+earned-waited)
}

// Exceeded tells whether a read or write ended because a deadline had passed.
func Exceeded(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
