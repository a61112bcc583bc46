//go:build linux

package park

import "time"

const (
	collectAfter = 256              // parked connections
	collectBusy  = 10 * time.Second // between collections while more are parked
	collectCalm  = 2 * time.Second  // once hardly any are
	collectShare = 30               // times what the last one took: the least between two
)

// collections are those of the garbage that parked connections leave: what they gave back would otherwise be held until
// the next collection, which an idle server never comes to. Where many are parked one after the other, it waits for the
// last of them, as it costs as much for few as for all.
type collections struct {
	parked int       // since the last
	seen   int       // of these, when it was looked at last
	began  time.Time // the last
	took   time.Duration
}

// due is asked every second.
func (c *collections) due(now time.Time) bool {
	every := collectBusy
	if c.parked-c.seen < collectAfter/4 {
		every = collectCalm
	}

	c.seen = c.parked
	if c.parked < collectAfter || now.Sub(c.began) < max(every, collectShare*c.took) {
		return false
	}

	c.parked, c.seen, c.began = 0, 0, now
	return true
}
