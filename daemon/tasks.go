package daemon

import (
	"context"
	"sync"
)

// tasks are goroutines that end together. They are safe for use from many goroutines.
type tasks struct {
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup
}

func newTasks(ctx context.Context) *tasks {
	t := &tasks{}
	t.ctx, t.cancel = context.WithCancel(ctx)
	return t
}

// Go runs a task, unless they have ended.
func (t *tasks) Go(do func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.running.Go(do)
	}
}

// close ends their context, and waits for them.
func (t *tasks) close() {
	t.cancel()
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.running.Wait()
}
