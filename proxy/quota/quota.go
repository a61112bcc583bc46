// Package quota counts what a client may do in a span of time.
//
//	var resets quota.Quota
//	if !resets.Spend(1000) { … }   // the 1,001st within ten seconds
package quota

import "time"

// Span is what limits are for.
const Span = 10 * time.Second

// Quota counts within Span. The zero value is ready; it is not safe for use from several goroutines at once.
type Quota struct {
	began time.Time
	n     int
}

// Spend counts one, and reports whether the limit allows it.
func (q *Quota) Spend(limit int) bool {
	q.n++
	if q.n <= limit {
		return true
	}
	now := time.Now() // looked at only here: most never come as far
	if now.Sub(q.began) < Span {
		return false
	}
	q.began, q.n = now, 1
	return true
}
