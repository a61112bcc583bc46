package daemon

import (
	"io"
	"slices"
	"sync"
	"time"
)

const (
	batchDelay = 100 * time.Millisecond
	batchSize  = 32 << 10
)

// batchWriter writes the lines of a busy log together, at most batchDelay after the first: a system call for each
// would cost more than the line. It never fails, but reports. It is safe for use from many goroutines; Close writes
// what is left.
type batchWriter struct {
	gathered bool // whoever writes brings lines that came together, which go on at once; set before the first

	mu sync.Mutex
	w  io.WriteCloser
	// Called after each write, with the number of Write calls, or of gathered lines, of which not all was written.
	report  func(lost int, err error)
	pending []byte
	ends    []int // in pending, of what each Write call has brought
	timer   *time.Timer
}

func newBatchWriter(w io.WriteCloser, report func(lost int, err error)) *batchWriter {
	return &batchWriter{w: w, report: report}
}

// Write takes whole lines.
func (l *batchWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if l.gathered {
		n, err := l.w.Write(p)
		l.report(lostLines(p, n, err, true), err)
		return len(p), nil
	}

	if len(l.pending) == 0 {
		if l.timer == nil {
			l.timer = time.AfterFunc(batchDelay, l.flushLate)
		} else {
			l.timer.Reset(batchDelay)
		}
	}

	l.pending = append(l.pending, p...)
	if l.ends = append(l.ends, len(l.pending)); len(l.pending) >= batchSize {
		l.flush()
	}

	return len(p), nil
}

func (l *batchWriter) flushLate() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
}

// flush is called with the lock held.
func (l *batchWriter) flush() {
	if len(l.pending) == 0 {
		return
	}

	n, err := l.w.Write(l.pending)
	lost := 0
	if err != nil {
		whole, _ := slices.BinarySearch(l.ends, n+1) // those that end at n, or before
		lost = len(l.ends) - whole
	}

	l.report(lost, err)
	l.ends = l.ends[:0]
	if l.pending = l.pending[:0]; cap(l.pending) > 4*batchSize {
		l.pending, l.ends = nil, nil
	}
}

// between writes what is left, and does something before more is written.
func (l *batchWriter) between(do func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
	return do()
}

func (l *batchWriter) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
	}
	l.flush()
	return l.w.Close()
}
