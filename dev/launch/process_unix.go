//go:build unix

package launch

import (
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/term"
)

// leftOpen is how long what the app printed is waited for after its end, where something that it has started keeps the output open.
const leftOpen = 500 * time.Millisecond

func startInGroup(cmd *exec.Cmd) (copied func(), err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = leftOpen
	return func() {}, startBound(cmd)
}

// startInTerminal gives the command a terminal of its own, whose keys and size are those of the one that stands behind it. The keys go through
// as they are, Ctrl-C included: what they mean is decided by the app's terminal.
func startInTerminal(cmd *exec.Cmd, c *Command) (release, copied func(), err error) {
	outer, inner, err := pty.Open()
	if err != nil {
		return nil, nil, err
	}
	_ = pty.InheritSize(c.Terminal, outer) // a terminal without a size is as good
	cmd.Stdin, cmd.Stdout, cmd.Stderr = inner, inner, inner
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err = startBound(cmd)
	inner.Close()
	if err != nil {
		outer.Close()
		return nil, nil, err
	}

	sizes := make(chan os.Signal, 1)
	signal.Notify(sizes, syscall.SIGWINCH)
	before, raw := term.MakeRaw(int(c.Terminal.Fd()))
	go func() {
		for range sizes {
			_ = pty.InheritSize(c.Terminal, outer)
		}
	}()
	go func() { _, _ = io.Copy(outer, c.Terminal) }() // ends with the program: a read of a terminal cannot be broken off

	printed := make(chan struct{})
	go func() {
		defer close(printed)
		_, _ = io.Copy(c.Stdout, outer) // until the last process that has the terminal closes it
	}()
	var once sync.Once
	release = func() {
		once.Do(func() {
			signal.Stop(sizes)
			close(sizes)
			if raw == nil {
				_ = term.Restore(int(c.Terminal.Fd()), before)
			}
			outer.Close()
		})
	}
	copied = func() {
		select {
		case <-printed:
		case <-time.After(leftOpen):
		}
	}
	return release, copied, nil
}

func signalGroup(p *os.Process, s os.Signal) {
	if number, ok := s.(syscall.Signal); ok {
		_ = syscall.Kill(-p.Pid, number) // it may have ended
	}
}

// EndGroup asks a process group to end, and ends it if it has not done so within five seconds.
func EndGroup(group int) {
	_ = syscall.Kill(-group, syscall.SIGTERM)
	for range 50 {
		if syscall.Kill(-group, 0) != nil {
			return
		}
		time.Sleep(100 * time.Millisecond) // nobody tells of another process's children
	}
	_ = syscall.Kill(-group, syscall.SIGKILL)
}

func killGroup(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }

func exitCode(e *exec.ExitError) int {
	if status, ok := e.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return e.ExitCode()
}
