package relay

import (
	"sync"
	"sync/atomic"
	"time"
)

// Idle notices that nothing happens. It is safe for use from many goroutines.
type Idle struct {
	limit  time.Duration
	expire func()
	began  time.Time
	last   atomic.Int64 // touched, in nanoseconds since began

	mu    sync.Mutex
	timer *time.Timer
	over  bool
}

// NewIdle calls expire once, from a goroutine of its own, unless it is stopped, or touched again and again within the
// limit.
func NewIdle(limit time.Duration, expire func()) *Idle {
	i := &Idle{limit: limit, expire: expire, began: time.Now()}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.timer = time.AfterFunc(limit, i.look)
	return i
}

// Touch says that something has happened.
func (i *Idle) Touch() { i.last.Store(int64(time.Since(i.began))) }

// Stop ends it. When it returns, expire has returned or is never called.
func (i *Idle) Stop() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.over = true
	i.timer.Stop()
}

func (i *Idle) look() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.over {
		return
	}
	// Touching costs one store. The timer is set again only when it fires.
	if left := i.limit - (time.Since(i.began) - time.Duration(i.last.Load())); left > 0 {
		i.timer.Reset(left)
		return
	}
	i.over = true
	i.expire()
}
