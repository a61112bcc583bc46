package daemon

import (
	"context"
	"errors"
	"sync"
	"time"

	"padlock/internal/hint"
	"padlock/proxy"
)

// How long after timeouts.shutdown each part of the end may last, in their order: what hangs leaves time to those behind it.
const (
	accessBy     = 150 * time.Millisecond // the access log is closed
	handshakesBy = 300 * time.Millisecond // handshakes are told
	spansBy      = 500 * time.Millisecond // the collector of traces has what waits
	linesBy      = 700 * time.Millisecond // the operation log is written
	allBy        = 800 * time.Millisecond // nothing is waited for any longer
)

var errNotOver = hint.Add(
	errors.New("padlock could not end within timeouts.shutdown: something that it waits for does not answer; it ends now"),
	"look at what reads its output, and at the storage")

// farewell is the end of padlock, which has one deadline, whatever hangs. It is safe for use from many goroutines.
type farewell struct {
	ctx   context.Context
	limit time.Duration // timeouts.shutdown, or what the cause of ctx's end leaves of it
	once  sync.Once
	begun chan struct{}
	at    time.Time // when it began; set with limit, before begun is closed
}

func newFarewell(ctx context.Context, limit time.Duration) *farewell {
	return &farewell{ctx: ctx, limit: limit, begun: make(chan struct{})}
}

// begin starts the clock, unless it runs.
func (f *farewell) begin() {
	f.once.Do(func() {
		f.at, f.limit = time.Now(), proxy.ShutdownLimit(f.ctx, f.limit)
		close(f.begun)
	})
}

// within begins the farewell, and ends a given time after timeouts.shutdown.
func (f *farewell) within(late time.Duration) (context.Context, context.CancelFunc) {
	f.begin()
	return context.WithDeadline(context.Background(), f.at.Add(f.limit+late))
}

// await does something and waits for its end, or until a given time after timeouts.shutdown: then it reports false, and leaves it behind.
func (f *farewell) await(late time.Duration, do func()) bool {
	ctx, cancel := f.within(late)
	defer cancel()
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// run does something that the end of ctx ends, or the deadline.
func (f *farewell) run(ctx context.Context, do func() error) error {
	stop := context.AfterFunc(ctx, f.begin)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-f.begun:
	}
	last, cancel := f.within(allBy)
	defer cancel()
	select {
	case err := <-done:
		return err
	case <-last.Done():
		return errNotOver
	}
}
