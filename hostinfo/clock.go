package hostinfo

import "time"

// Clock is what this machine takes for the time.
type Clock struct {
	Now          time.Time // UTC
	Synchronised bool      // as far as is Known
	Known        bool
}

// built is before any day on which this program runs.
var built = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// ReadClock asks the operating system.
func ReadClock() Clock {
	c := Clock{Now: time.Now().UTC()}
	c.Synchronised, c.Known = clockSynchronised()
	return c
}

// Past reports whether the clock is surely wrong, so that certificates made by it would not be valid yet.
func (c Clock) Past() bool { return c.Now.Before(built) }
