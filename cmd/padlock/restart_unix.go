//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const restartTimeout = time.Minute // for the new padlock to serve

// restartSignals are caught from the beginning: nobody has to wait until padlock is ready to be signalled.
func restartSignals() chan os.Signal {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR2)
	return signals
}

// watch restarts at each signal until ctx ends.
func (r *restarter) watch(ctx context.Context) {
	defer signal.Stop(r.signals)
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.signals:
		}
		if err := r.restart(ctx); err != nil {
			r.log.Error("the new padlock does not serve; this one goes on", "error", err)
			continue
		}
		r.handOver(ctx)
		r.leave()
		return
	}
}

func (r *restarter) restart(ctx context.Context) error {
	if os.Getpid() == 1 {
		return errors.New("this is process 1: the container would end with it; let the orchestrator replace the container")
	}
	program, err := exec.LookPath(os.Args[0]) // not os.Executable: the new file stands in the old one's place
	if err != nil {
		return err
	}
	fds := []uintptr{0, 1, 2}
	defer func() {
		for _, fd := range fds[firstInherited:] {
			_ = syscall.Close(int(fd))
		}
	}()
	var names []string
	for _, l := range append(r.open(), r.admin...) {
		fd, err := duplicate(l.Listener)
		if err != nil {
			return fmt.Errorf("passing on the listener %s: %w", l.Address, err)
		}
		fds, names = append(fds, fd), append(names, l.Address)
	}
	ready, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	environment := append(os.Environ(), inheritVariable+"="+strings.Join(names, " "), fmt.Sprintf("%s=%d", readyVariable, len(fds)))
	// Not os/exec, which makes descriptors blocking that it hands over, and with them ours, as they share their state.
	pid, err := syscall.ForkExec(program, os.Args, &syscall.ProcAttr{Env: environment, Files: append(fds, theirs.Fd())})
	theirs.Close()
	if err != nil {
		return err
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	r.log.Info("another padlock takes over", "pid", pid)
	ended := make(chan error, 1)
	go func() {
		state, err := process.Wait()
		if err == nil {
			err = fmt.Errorf("it ended: %s", state)
		}
		ended <- err
	}()
	stop := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Now()) })
	defer stop()
	_ = ready.SetReadDeadline(time.Now().Add(restartTimeout))
	if n, err := ready.Read(make([]byte, 1)); n == 1 {
		for _, l := range r.admin {
			if unix, ok := l.Listener.(*net.UnixListener); ok {
				unix.SetUnlinkOnClose(false) // it is the other's now
			}
		}
		return nil
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		_ = process.Kill()
		<-ended
		return errors.New("it was not ready in time")
	}
	return <-ended
}

// duplicate is a descriptor of a listener for another process.
func duplicate(l net.Listener) (uintptr, error) {
	owner, ok := l.(syscall.Conn)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	raw, err := owner.SyscallConn()
	if err != nil {
		return 0, err
	}
	copied, failed := 0, error(nil)
	err = raw.Control(func(fd uintptr) {
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		if copied, failed = syscall.Dup(int(fd)); failed == nil {
			syscall.CloseOnExec(copied)
		}
	})
	return uintptr(copied), errors.Join(err, failed)
}
