// Package quota counts what a client may do in a span of time.
//
//	var resets quota.Quota
//	if !resets.Spend(1000) { … }   // the 1,001st at once, or one of more than 100 a second for long
package quota

import "time"

// Span is what limits are for.
const Span = 10 * time.Second

// Quota is used up by what is done at once, and fills up within Span. The zero value is ready; it is not safe for use
// from several goroutines at once.
type Quota struct {
	free time.Time // when nothing of it would be used up any more
}

// Spend counts one, and reports whether the limit allows it.
func (q *Quota) Spend(limit int) bool {
	now := time.Now()
	if q.free.Before(now) {
		q.free = now
	}
	if q.free = q.free.Add(Span / time.Duration(limit)); q.free.Sub(now) <= Span {
		return true
	}
	q.free = now.Add(Span)
	return false
}
