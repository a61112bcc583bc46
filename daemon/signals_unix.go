//go:build unix

package daemon

import (
	"os"
	"os/signal"
	"syscall"
)

func restartSignals() chan os.Signal { return notified(syscall.SIGUSR2) }

func rotatedSignals() chan os.Signal { return notified(syscall.SIGUSR1) }

func notified(s os.Signal) chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, s)
	return c
}

// ignoring has a process that is started meanwhile begin with the signals ignored that would end it before it catches
// them, such as a SIGHUP that somebody sends to all padlocks at once. One that comes here at that moment is lost: the
// new padlock has not read the file yet.
func (s *signals) ignoring(do func()) {
	caught := map[syscall.Signal]chan os.Signal{syscall.SIGUSR1: s.rotated, syscall.SIGUSR2: s.restart}
	if s.reload != nil {
		caught[syscall.SIGHUP] = s.reload
	}
	for number, c := range caught {
		signal.Ignore(number)
		defer signal.Notify(c, number)
	}
	do()
}
