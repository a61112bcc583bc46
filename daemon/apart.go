package daemon

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"padlock/console"
)

// apart keeps a restart away from commands that change what is served: the other padlock reads what commands have
// changed when it starts, and its configuration, and learns of nothing that comes after that; and a deploy watches its
// targets until it ends.
// It is safe for use from many goroutines.
type apart struct{ mu sync.RWMutex }

// command begins a command, for which a restart waits until it calls end. It is refused with console.ErrRestarting while
// another padlock is about to take over, and from then on.
func (a *apart) command() (end func(), err error) {
	if !a.mu.TryRLock() {
		return nil, console.ErrRestarting
	}
	return a.mu.RUnlock, nil
}

const apartEvery = 50 * time.Millisecond // between looks at whether commands have ended

// restart waits until no command is under way, and lets none begin until it calls failed. It reports false if ctx ends
// before that.
func (a *apart) restart(ctx context.Context, log *slog.Logger, underway func() []string) (failed func(), ok bool) {
	// Lock would keep new commands waiting behind the one that it waits for, such as a maintenance page behind a deploy.
	for told := false; !a.mu.TryLock(); told = true {
		if !told {
			commands := underway()
			if len(commands) == 0 {
				commands = []string{"a reload, or a change of maintenance"}
			}
			log.Info("the restart waits until the commands that are under way have ended", "commands", commands)
		}
		select {
		case <-time.After(apartEvery):
		case <-ctx.Done():
			return nil, false
		}
	}
	return a.mu.Unlock, true
}
