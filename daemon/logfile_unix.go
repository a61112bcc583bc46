//go:build unix

package daemon

import (
	"os"
	"os/signal"
	"syscall"
)

// rotatedSignals say that log files were moved away. They are caught from the beginning: the system would end the process.
func rotatedSignals() chan os.Signal {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	return signals
}
