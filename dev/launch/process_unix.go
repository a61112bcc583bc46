//go:build unix

package launch

import (
	"os"
	"os/exec"
	"syscall"
	"time"
)

// leftOpen is how long what the app printed is waited for after its end, where something that it has started keeps the
// output open.
const leftOpen = 500 * time.Millisecond

// PassedOn are signals that are meant for the app, if somebody sends them to this program.
var PassedOn = []os.Signal{syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2}

func startInGroup(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// A process that the app leaves behind may hold its output open, for which nobody waits long.
	cmd.WaitDelay = leftOpen
	return startBound(cmd)
}

func signalGroup(p *os.Process, s os.Signal) {
	if number, ok := s.(syscall.Signal); ok {
		_ = syscall.Kill(-p.Pid, number) // it may have ended
		_ = syscall.Kill(-p.Pid, syscall.SIGCONT)
	}
}

// EndGroup asks a process group to end, and ends it if it has not done so within five seconds.
func EndGroup(group int) {
	// No process of the group is left.
	if syscall.Kill(-group, syscall.SIGTERM) != nil {
		return
	}
	// A process that is stopped would not see the signal before it is continued.
	_ = syscall.Kill(-group, syscall.SIGCONT)
	for range 50 {
		if !groupRuns(group) {
			return
		}
		// The system sends no event about another process's children.
		time.Sleep(100 * time.Millisecond)
	}
	_ = syscall.Kill(-group, syscall.SIGKILL)
}

// endRest ends what a process that has ended leaves in its group.
func endRest(pid int) { EndGroup(pid) }

func killGroup(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }

func exitCode(e *exec.ExitError) int {
	if status, ok := e.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return e.ExitCode()
}
