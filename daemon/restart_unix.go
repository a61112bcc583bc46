//go:build unix

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const restartTimeout = time.Minute // for the new padlock to serve

// watch restarts at each signal until its tasks end. Where another padlock takes over, patience ends when the end is
// to be hurried.
func (r *restarter) watch(patience context.Context) {
	defer signal.Stop(r.signals.restart)
	ctx := r.tasks.ctx
	select {
	case <-ctx.Done():
		return
	case <-r.serving:
	}

	for {
		select {
		case <-ctx.Done():
			return
		case <-r.signals.restart:
		}

		failed, ok := r.apart.restart(ctx, r.log, r.underway)
		if !ok {
			return
		}

		// Files such as the capture are begun anew by the new process, so this one writes to them no more.
		r.cede(true)
		released, reloads, err := r.restart(ctx)
		if err != nil {
			r.cede(false)
			failed()
			r.log.Error("the new padlock does not serve; this one goes on", "error", err)
			continue
		}

		patience, hurry := context.WithCancel(patience)
		defer hurry()
		// Before leave, which begins the end: the end asks whether it has to hurry.
		r.handOver(patience, released)
		r.leave()
		r.follow(ctx, reloads, hurry)
		return
	}
}

// follow judges what is open by the configuration of the other padlock, and by each that it reads, until that ends, or
// all is done. What cannot be judged ends.
func (r *restarter) follow(ctx context.Context, reloads *os.File, hurry func()) {
	defer reloads.Close()
	stop := context.AfterFunc(ctx, func() { _ = reloads.SetReadDeadline(time.Now()) })
	defer stop()
	for err := error(nil); err == nil; _, err = reloads.Read(make([]byte, 1)) {
		if err := r.reload(); err != nil {
			r.log.Warn("this padlock cannot use the configuration of the one that has taken over: it ends what is still open", "error", err)
			hurry()
		}
	}
	// The handover has a limit of its own; a second signal here would cut requests short.
	<-ctx.Done()
}

// restart returns when the new padlock serves, with the function to call when this one reads UDP no more, and with what
// announces the reloads of the other.
func (r *restarter) restart(ctx context.Context) (released func(), reloads *os.File, err error) {
	if os.Getpid() == 1 {
		return nil, nil, errors.New("this is process 1: the container would end with it; let the orchestrator replace the container")
	}

	// os.Executable would lead to the old file; the new one stands in its place under the same name.
	program, err := exec.LookPath(os.Args[0])
	if err != nil {
		return nil, nil, err
	}

	fds, names, err := r.passOn()
	defer closeAll(fds)
	if err != nil {
		return nil, nil, err
	}

	// Three pipes: the new process says that it serves, this one that UDP is free, and the new one that it has
	// reloaded.
	ready, theirs, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer ready.Close()
	udp, ours, err := os.Pipe()
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}

	reloads, reported, err := os.Pipe()
	if err != nil {
		closeFiles(theirs, udp, ours)
		return nil, nil, err
	}

	environment := append(os.Environ(), inheritVariable+"="+strings.Join(names, " "),
		fmt.Sprintf("%s=%d", readyVariable, firstInherited+len(fds)), fmt.Sprintf("%s=%d", releasedVariable, firstInherited+len(fds)+1), fmt.Sprintf("%s=%d", reloadsVariable, firstInherited+len(fds)+2))
	files := append(append([]uintptr{0, 1, 2}, fds...), theirs.Fd(), udp.Fd(), reported.Fd())

	r.successor.starts()
	// Not os/exec, which makes descriptors blocking that it hands over, and with them ours, as they share their state.
	pid := 0
	// A signal between fork and exec would meet the handlers of this process, and end the new one.
	r.signals.ignoring(func() {
		pid, err = syscall.ForkExec(program, os.Args, &syscall.ProcAttr{Env: environment, Files: files, Sys: asSibling})
	})
	closeFiles(theirs, udp, reported)

	if err == nil {
		r.log.Info("another padlock takes over", "pid", pid)
		err = r.await(ctx, pid, ready)
	}
	if err != nil {
		r.successor.serves(nil)
	}

	// The ends that the other process has are closed above in any case, or its end would never be noticed.
	if err != nil {
		closeFiles(ours, reloads)
		return nil, nil, err
	}

	return func() { ours.Close() }, reloads, nil
}

func closeFiles(all ...*os.File) {
	for _, f := range all {
		f.Close()
	}
}

// passOn duplicates every listener for another process, and its UDP, with their names.
func (r *restarter) passOn() (fds []uintptr, names []string, err error) {
	add := func(socket any, name string) {
		fd, failed := duplicate(socket)
		if failed != nil {
			err = fmt.Errorf("passing on the listener %s: %w", name, failed)
			return
		}
		fds, names = append(fds, fd), append(names, name)
	}

	for _, l := range append(r.open(), r.adminListeners()...) {
		add(l.Listener, l.Address)
		if l.Packets != nil {
			add(l.Packets, packetsPrefix+l.Address)
		}
	}
	return fds, names, err
}

func closeAll(fds []uintptr) {
	for _, fd := range fds {
		_ = syscall.Close(int(fd))
	}
}

// await returns when the new padlock has said that it serves, or with the reason why it does not.
func (r *restarter) await(ctx context.Context, pid int, ready *os.File) error {
	process, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	// The new process may be a child of this one, and must be waited for, or it stays as a zombie.
	go func() { _, _ = process.Wait() }()
	stop := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Now()) })
	defer stop()
	_ = ready.SetReadDeadline(time.Now().Add(restartTimeout))
	_, err = io.ReadFull(ready, make([]byte, 1))
	switch {
	case err == nil:
		r.successor.serves(process)
		for _, l := range r.adminListeners() {
			if unix, ok := l.Listener.(*net.UnixListener); ok {
				// The socket's file belongs to the other process now.
				unix.SetUnlinkOnClose(false)
			}
		}
		return nil
	case errors.Is(err, io.EOF):
		return errors.New("it ended before it served; what it wrote tells why")
	case errors.Is(err, os.ErrDeadlineExceeded):
		// Two padlocks that both serve would answer for different configurations.
		_ = process.Kill()
		return errors.New("it was not ready in time")
	}

	return err
}

// duplicate is a descriptor of a socket for another process.
func duplicate(socket any) (uintptr, error) {
	owner, ok := socket.(syscall.Conn)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	raw, err := owner.SyscallConn()
	if err != nil {
		return 0, err
	}

	copied, failed := 0, error(nil)
	err = raw.Control(func(fd uintptr) {
		// Without the lock, a process that is started at the same time would inherit the descriptor.
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		if copied, failed = syscall.Dup(int(fd)); failed == nil {
			syscall.CloseOnExec(copied)
		}
	})
	return uintptr(copied), errors.Join(err, failed)
}

// besideAnother reports whether the padlock that this one has replaced still has connections.
func (r *reloader) besideAnother() bool {
	if r.before == nil {
		return false
	}
	raw, err := r.before.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	// A pipe that nobody will read from any more is in error (poll(2)).
	err = raw.Control(func(fd uintptr) {
		look := []unix.PollFd{{Fd: int32(fd)}}
		_, failed := unix.Poll(look, 0)
		gone = failed == nil && look[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
	})
	return err == nil && !gone
}

// passedOn is a descriptor that the padlock before has passed on under the name of a variable, and that no other
// process gets; nil: it has passed none.
func passedOn(variable string) *os.File {
	number, err := strconv.Atoi(os.Getenv(variable))
	os.Unsetenv(variable)
	if err != nil {
		return nil
	}
	syscall.CloseOnExec(number)
	return os.NewFile(uintptr(number), variable)
}
