package daemon

import (
	"os"
	"os/signal"
	"syscall"
)

// signals are those that padlock acts on, besides those that end it.
type signals struct {
	reload  chan os.Signal // SIGHUP; nil: there is no file to read again
	restart chan os.Signal // SIGUSR2
	rotated chan os.Signal // SIGUSR1: log files were moved away
}

// early has what CatchEarly catches, until a daemon takes it over.
var early signals

// CatchEarly comes first in a program. What comes before padlock can act on it waits, and ends nothing: SIGUSR1 of
// whoever rotates logs, SIGUSR2, and SIGHUP to a padlock that another one has started, which has seen to it that they
// are ignored until then.
func CatchEarly() {
	early = signals{restart: restartSignals(), rotated: rotatedSignals()}
	if os.Getenv(readyVariable) != "" {
		early.reload = hangups()
	}
}

// catchSignals has the system end the process no longer.
func catchSignals(reloads bool) signals {
	s := early
	if s.restart == nil {
		s.restart, s.rotated = restartSignals(), rotatedSignals()
	}
	switch {
	case reloads && s.reload == nil:
		s.reload = hangups()
	case !reloads && s.reload != nil:
		signal.Stop(s.reload)
		s.reload = nil
	}
	return s
}

func hangups() chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c
}
