package discovery

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"time"
)

// Run calls changed, never twice at a time, with what is found at first, and whenever that may have changed, until
// ctx ends. After the engine was away it is asked for everything again.
func (w *Watcher) Run(ctx context.Context, changed func(*Found)) {
	wait := w.pace.retry
	for ctx.Err() == nil {
		err := w.follow(ctx, func(found *Found) {
			if w.away {
				w.log.Info("the container engine answers again", "endpoint", w.docker.Endpoint)
			}
			wait, w.away = w.pace.retry, false
			changed(found)
		})

		if ctx.Err() != nil {
			return
		}
		// Some proxies end long streams. One that only ended comes back at once.
		if wait > w.pace.retry && !w.away {
			w.Away(err)
		}

		select {
		case <-ctx.Done():
			return
		case <-time.After(wait/2 + rand.N(wait/2)):
		}

		wait = min(2*wait, w.pace.rest)
	}
}

// Away logs that the engine does not answer. It is not to be called while Run is.
func (w *Watcher) Away(err error) {
	w.away = true
	remedy := "start it, or correct docker.endpoint (--docker-endpoint, DOCKER_HOST)"
	if errors.Is(err, fs.ErrPermission) {
		remedy = "let padlock's user use the socket (docker run --group-add with the socket's group), or put a socket proxy between them: docs/discovery.md"
	}
	w.log.Warn("the container engine does not answer; the sites that it told of last stay", "endpoint", w.docker.Endpoint, "error", err, "remedy", remedy)
}

// follow looks once the stream of events is open, so that nothing is missed in between, and then as events ask for
// it. It returns when the stream ends, or the engine does not answer.
func (w *Watcher) follow(ctx context.Context, changed func(*Found)) error {
	ctx, cancel := context.WithCancel(ctx)
	opened, happened, ended := make(chan struct{}), make(chan struct{}, 1), make(chan error, 1)
	stopped := make(chan struct{})
	defer func() { cancel(); <-stopped }()

	go func() {
		defer close(stopped)
		ended <- w.engineEvents(ctx, func() { close(opened) }, func(e event) {
			w.note(e)
			select {
			case happened <- struct{}{}:
			default: // a look is due already
			}
		})
	}()

	select {
	case err := <-ended:
		return err
	case <-opened:
	}

	resync := time.NewTicker(w.pace.resync)
	defer resync.Stop()

	for {
		found, err := w.look(ctx)
		if err != nil {
			return err
		}
		changed(found)
		var again <-chan time.Time
		if !found.again.IsZero() {
			again = time.After(time.Until(found.again))
		}

		select {
		case err := <-ended:
			return err
		case <-resync.C:
		case <-again:
		case <-happened:
			w.settle(ctx, happened)
		}
	}
}

func (w *Watcher) look(ctx context.Context) (*Found, error) {
	ctx, cancel := context.WithTimeout(ctx, w.pace.look)
	defer cancel()
	return w.Look(ctx)
}

// settle waits until nothing has happened for a moment, as many things happen when a project starts or stops.
func (w *Watcher) settle(ctx context.Context, happened <-chan struct{}) {
	enough := time.After(w.pace.burst)
	for {
		select {
		case <-happened:
		case <-enough:
			return
		case <-time.After(w.pace.quiet):
			return
		case <-ctx.Done():
			return
		}
	}
}

// engineEvents opens the stream in the version that both sides speak.
func (w *Watcher) engineEvents(ctx context.Context, opened func(), each func(event)) error {
	w.asking.Lock()
	err := w.engine.negotiate(ctx)
	stream := *w.engine
	w.asking.Unlock()
	if err != nil {
		return err
	}
	return stream.events(ctx, opened, each)
}
