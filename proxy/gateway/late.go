package gateway

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// lateAnswers logs for whoever has no response timeout which answers are being waited for, so that a page that does not
// load is no riddle.
type lateAnswers struct {
	log   *slog.Logger
	after time.Duration // that an answer takes

	last atomic.Int64 // when the last line was written, in nanoseconds of the clock
}

const (
	lateAfter = 30 * time.Second
	lateLines = 3 // at most, in the time after which one is written
)

// of returns what logs one request's answer. It holds nothing of the request, which may have ended when it is
// called.
func (l *lateAnswers) of(x *Exchange) func(target, help string) {
	host, method, path := x.name, x.request.Method, x.path.Raw
	return func(target, help string) {
		now := time.Now().UnixNano()
		last := l.last.Load()
		if last != 0 && now-last < int64(l.after/lateLines) || !l.last.CompareAndSwap(last, now) {
			return
		}

		facts := []any{"host", host, "method", method, "path", path, "target", target, "waited", l.after, "limit", "none: timeouts.response_header (--response-timeout) sets one"}
		if help != "" {
			facts = append(facts, "remedy", help)
		}

		l.log.Warn("an answer takes long; padlock goes on waiting", facts...)
	}
}
