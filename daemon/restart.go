package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"padlock/proxy"
)

// restarter puts another padlock in the place of this one: SIGUSR2 starts the program anew with the same arguments,
// hands it the listeners, and once it serves, this one takes no more connections and finishes those that are open. If
// the new one cannot serve, this one goes on. No connection is refused in between, as the kernel queues them at
// listeners that are never closed.
type restarter struct {
	log     *slog.Logger
	signals signals
	// Closed when open has all listeners: one that is not passed on could not be opened by the other padlock.
	serving  <-chan struct{}
	open     func() []proxy.Listener
	handOver func(ctx context.Context, released func()) // makes its end one without hurry
	leave    context.CancelFunc                         // ends Serve gracefully
	cede     func(bool)                                 // files that are begun anew are the other padlock's, or no longer
	reload   func() error                               // as the other padlock has done
	apart    *apart
	underway func() []string // commands, in words
	tasks    *tasks

	successor *successor

	mu    sync.Mutex
	admin []proxy.Listener // none: off
}

// add has a listener of the admin endpoint passed on too.
func (r *restarter) add(l proxy.Listener) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.admin = append(r.admin, l)
}

func (r *restarter) adminListeners() []proxy.Listener {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.admin)
}

// readyVariable names the descriptor to which the new padlock writes when it serves.
const readyVariable = "PADLOCK_READY_FD"

// releasedVariable names the descriptor that ends when the padlock before reads UDP no more.
const releasedVariable = "PADLOCK_ALONE_FD"

// reloadsVariable names the descriptor to which the new padlock writes a byte for each reload: connections of the
// padlock before are judged by the same rules as long as they last.
const reloadsVariable = "PADLOCK_RELOADS_FD"

// notifyStopping reports to systemd that the end has begun.
func notifyStopping() { _, _ = systemd.SdNotify(false, systemd.SdNotifyStopping) }

// notifyReady reports that this process serves: to the padlock that has started it, and to systemd (sd_notify(3)).
func notifyReady() error {
	fd := os.Getenv(readyVariable)
	os.Unsetenv(readyVariable)
	message := systemd.SdNotifyReady
	if fd != "" {
		message = fmt.Sprintf("MAINPID=%d\n%s", os.Getpid(), message)
		var number int
		if _, err := fmt.Sscan(fd, &number); err != nil {
			return fmt.Errorf("%s: %w", readyVariable, err)
		}

		f := os.NewFile(uintptr(number), "ready")
		if _, err := f.Write([]byte{1}); err != nil {
			return err
		}

		f.Close()
	}

	_, err := systemd.SdNotify(false, message)
	return err
}

// startRestarter waits for the signal to restart.
func (d *daemon) startRestarter(ctx context.Context) error {
	d.restarter = &restarter{log: d.log, signals: d.signals, serving: d.server.Serving(), open: d.server.Listeners, handOver: d.server.HandOver, leave: d.leave, cede: d.logFiles.cede, reload: d.reloader.reloadAfter,
		apart: &d.reloader.apart, underway: d.reloader.deploys.underway, successor: &d.reloader.successor}
	for _, l := range d.admin.listeners {
		d.restarter.add(l.Listener)
	}
	d.restarter.tasks = newTasks(ctx)
	d.restarter.tasks.Go(func() { d.restarter.watch(ctx) })
	return nil
}

func (d *daemon) stopRestarter() { d.restarter.tasks.close() }
