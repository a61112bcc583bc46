package http1

import (
	"errors"
	"os"
	"sync"
	"time"
)

// deadline limits how long the reads of a connection wait. It sets the connection's timer only where the one that stands is too late,
// and looks again when it fires: a busy connection would otherwise set several timers for every request.
type deadline struct {
	set func(time.Time) error

	mu     sync.Mutex
	limit  time.Time // zero: none
	armed  time.Time // what the connection was told; zero: nothing
	kicked bool
}

// until limits the reads that follow; the zero time lifts the limit.
func (d *deadline) until(limit time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.limit = limit
	if !d.kicked && !limit.IsZero() && (d.armed.IsZero() || d.armed.After(limit)) {
		d.arm(limit)
	}
}

func (d *deadline) arm(at time.Time) {
	d.armed = at
	_ = d.set(at)
}

// expired tells whether a read that ran out of time has to end. If not, it can be tried again.
func (d *deadline) expired() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kicked || !d.limit.IsZero() && !time.Now().Before(d.limit) {
		return true
	}
	d.arm(d.limit)
	return false
}

// kick ends the read that waits, and those that follow until release.
func (d *deadline) kick() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kicked = true
	d.arm(time.Unix(1, 0))
}

func (d *deadline) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kicked {
		d.kicked = false
		d.arm(d.limit)
	}
}

func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
