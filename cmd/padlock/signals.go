package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// untilSignalled ends with SIGINT or SIGTERM. A second one ends the program at once.
func untilSignalled() context.Context {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The kernel takes no default action for process 1 of a container, and the runtime would exit with 2, which stands for usage.
	first := os.Getpid() == 1
	if first {
		signal.Ignore(syscall.SIGHUP) // until there is a file to read again: no terminal is closed
	}
	go func() {
		<-ctx.Done()
		again := make(chan os.Signal, 1)
		if first {
			signal.Notify(again, os.Interrupt, syscall.SIGTERM)
		}
		stop()
		if s, ok := (<-again).(syscall.Signal); ok {
			os.Exit(128 + int(s))
		}
	}()
	return ctx
}
