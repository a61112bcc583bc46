package daemon

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"padlock/internal/terminal"
)

const lineQueueSize = 1024

// lineQueue hands lines to a goroutine that writes them, so that nobody who writes waits for whoever reads. Lines that
// come faster than they are written are lost, and counted. It is safe for use from many goroutines.
type lineQueue struct {
	w     io.Writer
	lines chan []byte
	stop  chan struct{} // closed to end the writer
	done  chan struct{} // closed when it has ended
	once  sync.Once
	lost  atomic.Uint64
	// Writes into the log itself what was lost since the last report; nil: somebody else does.
	report func(w io.Writer, lost uint64)
}

func newLineQueue(w io.Writer, report func(io.Writer, uint64)) *lineQueue {
	q := &lineQueue{w: w, report: report, lines: make(chan []byte, lineQueueSize), stop: make(chan struct{}), done: make(chan struct{})}
	go q.work()
	return q
}

// Write takes whole lines. It never waits, and never fails.
func (q *lineQueue) Write(p []byte) (int, error) {
	select {
	case <-q.stop:
		q.lost.Add(1)
		return len(p), nil
	default:
	}
	select {
	// The caller uses its buffer again, so the line is copied.
	case q.lines <- append([]byte(nil), p...):
	default:
		q.lost.Add(1)
	}
	return len(p), nil
}

// Lost counts the writes whose lines were lost.
func (q *lineQueue) Dropped() uint64 { return q.lost.Load() }

func (q *lineQueue) work() {
	defer close(q.done)
	reported := uint64(0)
	write := func(line []byte) {
		if _, err := q.w.Write(line); err != nil { // this is where errors go
			q.lost.Add(1)
			return
		}
		if lost := q.lost.Load(); q.report != nil && lost > reported {
			q.report(q.w, lost-reported)
			reported = lost
		}
	}

	for {
		select {
		case line := <-q.lines:
			write(line)
		case <-q.stop:
			// The channel is never closed, as Write may be called at any time. What waits now is all that is
			// written.
			for len(q.lines) > 0 {
				write(<-q.lines)
			}
			return
		}
	}
}

// close writes what waits, until ctx ends. What waits then is lost, and close reports false.
func (q *lineQueue) close(ctx context.Context) bool {
	q.once.Do(func() { close(q.stop) })
	select {
	// Both may be ready at once, and select chooses at random.
	case <-q.done:
		return true
	case <-ctx.Done():
	}

	select {
	case <-q.done:
		return true
	default:
	}

	// The line that is being written counts as lost too.
	q.lost.Add(uint64(len(q.lines)) + 1)
	return false
}

// reportLost writes a line of the operation log about itself, in the log's style.
func (d *daemon) reportLost(w io.Writer, lost uint64) {
	slog.New(terminal.LogHandler(w, d.Stderr)).Warn("lines of this log are lost: it could not be written, or they came faster than that", "count", lost)
}
