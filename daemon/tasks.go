package daemon

import (
	"context"
	"sync"
)

// tasks are goroutines that end together.
type tasks struct {
	sync.WaitGroup
	ctx    context.Context
	cancel context.CancelFunc
}

func newTasks(ctx context.Context) *tasks {
	t := &tasks{}
	t.ctx, t.cancel = context.WithCancel(ctx)
	return t
}

// close ends their context, and waits for them.
func (t *tasks) close() {
	t.cancel()
	t.Wait()
}
