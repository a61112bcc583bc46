package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"padlock/proxy"
)

// interruptedWithin is how long open requests get after SIGINT, which is somebody at a terminal who waits: with all
// that is closed behind them, the end takes less than two seconds. SIGTERM is a service manager's.
const interruptedWithin = time.Second

// untilSignalled ends with SIGINT, whose cause is proxy.Soon, or with SIGTERM. A second one ends the program at once.
func untilSignalled() context.Context {
	ctx, end := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)

	// The kernel takes no default action for process 1 of a container, and the runtime would exit with 2, which stands
	// for usage.
	first := os.Getpid() == 1
	if first {
		// SIGHUP means nothing until there is a file to read again, and must not end the process.
		signal.Ignore(syscall.SIGHUP)
	}

	go func() {
		if s := <-signals; s == os.Interrupt {
			end(proxy.Soon(interruptedWithin))
		} else {
			end(nil)
		}

		again := make(chan os.Signal, 1)
		if first {
			signal.Notify(again, os.Interrupt, syscall.SIGTERM)
		}

		signal.Stop(signals)
		if s, ok := (<-again).(syscall.Signal); ok {
			os.Exit(128 + int(s))
		}
	}()

	return ctx
}
