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

// earlySignals are those that come to a padlock that another one has started, before it reads its file.
var earlySignals = make(chan os.Signal, 1)

// CatchEarly comes first in a program: until then SIGHUP is ignored, as whoever starts it has seen to that.
func CatchEarly() {
	if os.Getenv(readyVariable) != "" {
		signal.Notify(earlySignals, syscall.SIGHUP)
	}
}

// catchSignals has the system end the process no longer.
func catchSignals(reloads bool) signals {
	s := signals{restart: restartSignals(), rotated: rotatedSignals()}
	if !reloads {
		return s
	}

	s.reload = make(chan os.Signal, 1)
	signal.Notify(s.reload, syscall.SIGHUP)
	select {
	case early := <-earlySignals:
		select {
		case s.reload <- early:
		default: // another one has come
		}
	default:
	}
	signal.Stop(earlySignals)
	return s
}
