//go:build unix

package lab

import (
	"os"
	"os/exec"
	"slices"
	"syscall"
)

// ownGroup has the whole of a client end at the time limit: also what a shell has started.
func ownGroup(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
}

// endGroup ends what a client has left behind, which would come to the endpoints of the next one.
func endGroup(c *exec.Cmd) {
	if c.Process != nil {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
	}
}

// crashes are the signals that a program ends itself with when it fails.
var crashes = []syscall.Signal{syscall.SIGILL, syscall.SIGTRAP, syscall.SIGABRT, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGSEGV, syscall.SIGSYS}

// crash is the signal that a client, or the last program of a shell, has died of; "": none.
func crash(p *os.ProcessState) string {
	status, ok := p.Sys().(syscall.WaitStatus)
	if !ok {
		return ""
	}
	signal := status.Signal()
	if !status.Signaled() {
		// A shell reports 128 + N of a program that signal N has ended.
		signal = syscall.Signal(status.ExitStatus() - 128)
	}
	if !slices.Contains(crashes, signal) {
		return ""
	}
	return signal.String()
}
