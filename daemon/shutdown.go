package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"padlock/internal/hint"
	"padlock/proxy"
)

// How long after timeouts.shutdown the close of each part may last, in their order: what hangs leaves time to those
// behind it.
const (
	accessLogGrace    = 150 * time.Millisecond // the access log is closed
	handshakesGrace   = 300 * time.Millisecond // handshakes are written
	tracesGrace       = 500 * time.Millisecond // the collector of traces has what waits
	operationLogGrace = 700 * time.Millisecond // the operation log is written
	totalGrace        = 800 * time.Millisecond // nothing is waited for any longer
)

// errNotEnded is why padlock ends all the same.
var errNotEnded = errors.New("padlock could not end within timeouts.shutdown")

// notEnded names what padlock waits for.
func notEnded(what string) error {
	err := fmt.Errorf("%w: it still waits for %s, and ends now without", errNotEnded, what)
	return hint.Add(err, "look at what reads its output, and at the storage")
}

// deadline is that of the end of padlock, whatever hangs. It is safe for use from many goroutines.
type deadline struct {
	ctx   context.Context
	limit time.Duration // timeouts.shutdown, or what the cause of ctx's end leaves of it
	once  sync.Once
	begun chan struct{}
	at    time.Time // when it began; set with limit, before begun is closed

	waits atomic.Pointer[func() string] // what padlock waits for now
}

func newDeadline(ctx context.Context, limit time.Duration) *deadline {
	d := &deadline{ctx: ctx, limit: limit, begun: make(chan struct{})}
	d.waitsFor("its start")
	return d
}

// waitsFor notes what padlock waits for from now on.
func (d *deadline) waitsFor(what string) { d.waitsForAny(func() string { return what }) }

// waitsForAny is waitsFor of what changes; what is called from another goroutine.
func (d *deadline) waitsForAny(what func() string) { d.waits.Store(&what) }

// begin starts the clock, unless it runs.
func (d *deadline) begin() {
	d.once.Do(func() {
		d.at, d.limit = time.Now(), proxy.ShutdownLimit(d.ctx, d.limit)
		close(d.begun)
	})
}

// within begins the deadline, and ends a given time after timeouts.shutdown.
func (d *deadline) within(late time.Duration) (context.Context, context.CancelFunc) {
	d.begin()
	return context.WithDeadline(context.Background(), d.at.Add(d.limit+late))
}

// await does something and waits for its end, or until a given time after timeouts.shutdown: then it reports false,
// and leaves it behind.
func (d *deadline) await(late time.Duration, do func()) bool {
	ctx, cancel := d.within(late)
	defer cancel()
	done := make(chan struct{})
	// What hangs is left behind with its goroutine. The process ends soon.
	go func() { defer close(done); do() }()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// run does something that the end of ctx ends, or the deadline.
func (d *deadline) run(ctx context.Context, do func() error) error {
	stop := context.AfterFunc(ctx, d.begin)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- do() }()

	select {
	// An error at the start comes here, long before any deadline begins.
	case err := <-done:
		return err
	case <-d.begun:
	}

	last, cancel := d.within(totalGrace)
	defer cancel()

	select {
	case err := <-done:
		return err
	case <-last.Done():
		return notEnded((*d.waits.Load())())
	}
}

// notices are what others hear of the start and of the end.
type notices struct {
	stopSystemd  func() bool
	stopReporter func()
}

// startNotices says that padlock serves: the listeners queue connections from now on.
func (d *daemon) startNotices(ctx context.Context) error {
	d.notices = &notices{stopReporter: d.announceEnd(ctx)}
	if err := notifyReady(); err != nil {
		d.log.Warn("whoever started padlock could not be told that it serves", "error", err)
	}
	// systemd learns of the end at its beginning, so that it does not take the drain for a hang.
	d.notices.stopSystemd = context.AfterFunc(ctx, notifyStopping)
	return nil
}

func (d *daemon) stopNotices() {
	d.notices.stopSystemd()
	d.notices.stopReporter()
}

// announceEnd has the end of ctx reported. The function that it returns waits for the report, as the end may be faster.
func (d *daemon) announceEnd(ctx context.Context) (stop func()) {
	reported := make(chan struct{})
	pending := context.AfterFunc(ctx, func() {
		defer close(reported)
		d.Reporter.Stopping(proxy.ShutdownLimit(ctx, d.cfg.Timeouts.Shutdown))
	})
	return func() {
		if !pending() {
			// Without waiting, the process could end before the person has read how long it would take.
			d.ending.await(accessLogGrace, func() { <-reported })
		}
	}
}
