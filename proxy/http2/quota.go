package http2

import (
	"time"

	"golang.org/x/net/http2"
)

// What a client may do within quotaTime that costs us more than it costs the client.
const (
	quotaTime    = 10 * time.Second
	maxResets    = 1000   // streams that it reset, or made us reset
	maxPointless = 10_000 // frames that nothing comes of
)

// quota counts within a span of time.
type quota struct {
	began time.Time
	n     int
}

// spend reports whether there was still something to spend.
func (q *quota) spend(limit int) bool {
	q.n++
	if q.n <= limit {
		return true
	}
	now := time.Now()
	if now.Sub(q.began) < quotaTime {
		return false
	}
	q.began, q.n = now, 1
	return true
}

// countReset is called with the lock held.
func (c *connection) countReset() error {
	if !c.resets.spend(maxResets) {
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	return nil
}

// countPointless is called with the lock held, for a frame that may have come to no purpose.
func (c *connection) countPointless() error {
	switch {
	case c.worthwhile > 0:
		c.worthwhile--
	case !c.pointless.spend(maxPointless):
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	return nil
}

// excuse lets some pointless frames pass, for one that had a purpose. It is called with the lock held.
func (c *connection) excuse() { c.worthwhile = min(c.worthwhile+4, maxPointless) }
