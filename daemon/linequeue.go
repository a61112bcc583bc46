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

// lineQueue hands lines to a goroutine that writes them, so that nobody who has something to tell waits for whoever reads it. Lines that
// come faster than they are written are lost, and counted. It is safe for use from many goroutines.
type lineQueue struct {
	w     io.Writer
	lines chan []byte
	stop  chan struct{} // closed to end the writer
	done  chan struct{} // closed when it has ended
	once  sync.Once
	lost  atomic.Uint64
	said  func(w io.Writer, lost uint64) // tells in the log itself what was lost since it last did; nil: somebody else does
}

func newLineQueue(w io.Writer, said func(io.Writer, uint64)) *lineQueue {
	q := &lineQueue{w: w, said: said, lines: make(chan []byte, lineQueueSize), stop: make(chan struct{}), done: make(chan struct{})}
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
	case q.lines <- append([]byte(nil), p...):
	default:
		q.lost.Add(1)
	}
	return len(p), nil
}

// Lost counts the writes whose lines were lost.
func (q *lineQueue) Lost() uint64 { return q.lost.Load() }

func (q *lineQueue) work() {
	defer close(q.done)
	told := uint64(0)
	write := func(line []byte) {
		if _, err := q.w.Write(line); err != nil { // there is nobody to tell: this is where telling happens
			q.lost.Add(1)
			return
		}
		if lost := q.lost.Load(); q.said != nil && lost > told {
			q.said(q.w, lost-told)
			told = lost
		}
	}
	for {
		select {
		case line := <-q.lines:
			write(line)
		case <-q.stop:
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
	case <-q.done:
		return true
	case <-ctx.Done():
	}
	select {
	case <-q.done:
		return true
	default:
	}
	q.lost.Add(uint64(len(q.lines)) + 1) // with the one that is being written
	return false
}

// sayLost writes a line of the operation log about itself, in the log's style.
func (d *daemon) sayLost(w io.Writer, lost uint64) {
	slog.New(terminal.LogHandler(w, d.Stderr)).Warn("lines of this log are lost: it could not be written, or they came faster than that", "count", lost)
}
