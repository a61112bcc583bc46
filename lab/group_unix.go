//go:build unix

package lab

import (
	"os/exec"
	"syscall"
)

// ownGroup has the whole of a client end at the time limit: also what a shell has started.
func ownGroup(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
}
