package main

import (
	"io"
	"sync"
	"time"
)

const (
	lateBy   = 100 * time.Millisecond
	lateSize = 32 << 10
)

// lateWriter writes the lines of a busy log together, at most lateBy after the first: a system call for each would cost
// more than the line. It is safe for use from many goroutines; Close writes what is left.
type lateWriter struct {
	mu      sync.Mutex
	w       io.WriteCloser
	pending []byte
	timer   *time.Timer
	err     error // of the last write, told to whoever writes next
}

func newLateWriter(w io.WriteCloser) *lateWriter { return &lateWriter{w: w} }

// Write takes whole lines.
func (l *lateWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending) == 0 {
		if l.timer == nil {
			l.timer = time.AfterFunc(lateBy, l.late)
		} else {
			l.timer.Reset(lateBy)
		}
	}
	if l.pending = append(l.pending, p...); len(l.pending) >= lateSize {
		l.flush()
	}
	err := l.err
	l.err = nil
	return len(p), err
}

func (l *lateWriter) late() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
}

// flush is called with the lock held.
func (l *lateWriter) flush() {
	if len(l.pending) == 0 {
		return
	}
	if _, err := l.w.Write(l.pending); err != nil {
		l.err = err
	}
	if l.pending = l.pending[:0]; cap(l.pending) > 4*lateSize {
		l.pending = nil
	}
}

// between writes what is left, and does something before more is written.
func (l *lateWriter) between(do func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
	return do()
}

func (l *lateWriter) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
	}
	l.flush()
	return l.w.Close()
}
