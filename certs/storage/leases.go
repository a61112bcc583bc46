package storage

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"time"
)

// leaser is what a service does for leases. A token tells one lease from every other, for ever: it is compared for
// equality with that of the present holder, and none is made by the service, which may lose or restore its data and
// count from the beginning.
type leaser interface {
	// acquire takes the lease if nobody has it, and reports whether it did.
	acquire(ctx context.Context, name string, token int64) (bool, error)
	// renew reports whether the lease was still ours.
	renew(ctx context.Context, name string, token int64) (bool, error)
	release(ctx context.Context, name string, token int64) (bool, error)
}

// leases are the locks of one process in a service. A lease passes to the next when its holder has not renewed it for
// its duration, as it is dead, frozen or cut off.
type leases struct {
	leaser
	duration time.Duration
	log      *slog.Logger

	mu   sync.Mutex
	held map[string]*lease
}

type lease struct {
	token int64
	stop  context.CancelFunc
	done  chan struct{}
}

func newLeases(l leaser, o Options) *leases {
	return &leases{leaser: l, duration: o.Lease, log: o.Log, held: map[string]*lease{}}
}

// Lock implements certmagic.Locker. Those who wait look again within a second.
func (l *leases) Lock(ctx context.Context, name string) error {
	for wait := 20 * time.Millisecond; ; wait = min(wait*2, time.Second) {
		if ok, err := l.TryLock(ctx, name); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait/2 + mathrand.N(wait/2)):
		}
	}
}

// TryLock implements certmagic.TryLocker.
func (l *leases) TryLock(ctx context.Context, name string) (bool, error) {
	token := newToken()
	ours, err := l.acquire(ctx, name, token)
	if !ours || err != nil {
		if err != nil {
			err = fmt.Errorf("locking %s: %w", name, err)
		}
		return false, err
	}

	// Not the caller's context: the lock is held until Unlock, which may come with another one.
	renewing, stop := context.WithCancel(context.Background())
	held := &lease{token: token, stop: stop, done: make(chan struct{})}
	l.mu.Lock()
	l.held[name] = held
	l.mu.Unlock()
	go l.keep(renewing, name, held)
	return true, nil
}

// newToken is 62 random bits below a set one: no two leases get the same, and none that of a version which counted
// from 1.
func newToken() int64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return int64(binary.BigEndian.Uint64(b[:])>>2 | 1<<62)
}

// keep renews until the lease is released, or lost. A service that cannot be reached is asked again until the lease
// has ended there.
func (l *leases) keep(ctx context.Context, name string, held *lease) {
	defer close(held.done)
	// Two renewals may fail before the lease ends.
	ticker := time.NewTicker(l.duration / 3)
	defer ticker.Stop()

	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}

		attempt, cancel := context.WithTimeout(ctx, l.duration/3)
		ours, err := l.renew(attempt, name, held.token)
		cancel()

		if err == nil && !ours {
			l.log.Warn("a lock was lost: this process was stopped, or cut off from the storage, for longer than its lease, or the storage has lost its data", "lock", name)
			l.mu.Lock()
			// The token stays unusable for good, whatever the storage is restored to.
			held.token = 0
			l.mu.Unlock()
			return
		}
	}
}

// Unlock implements certmagic.Locker.
func (l *leases) Unlock(ctx context.Context, name string) error {
	l.mu.Lock()
	held, ok := l.held[name]
	delete(l.held, name)
	l.mu.Unlock()
	if !ok {
		return fmt.Errorf("unlocking %s: %w", name, ErrLockLost)
	}

	held.stop()
	// A renewal that is under way must not extend the lease after it was released.
	<-held.done
	if held.token == 0 {
		return fmt.Errorf("unlocking %s: %w", name, ErrLockLost)
	}

	ours, err := l.release(ctx, name, held.token)
	if err == nil && !ours {
		err = ErrLockLost
	}
	if err != nil {
		return fmt.Errorf("unlocking %s: %w", name, err)
	}

	return nil
}

// token is 0 for a lock that is not held here.
func (l *leases) token(name string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if held, ok := l.held[name]; ok {
		return held.token
	}
	return 0
}

func (l *leases) releaseAll() error {
	l.mu.Lock()
	names := make([]string, 0, len(l.held))
	for name := range l.held {
		names = append(names, name)
	}

	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var errs []error
	for _, name := range names {
		errs = append(errs, l.Unlock(ctx, name))
	}

	return errors.Join(errs...)
}
