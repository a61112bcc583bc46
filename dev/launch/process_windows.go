package launch

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
)

func startInGroup(cmd *exec.Cmd) (copied func(), err error) { return func() {}, cmd.Start() }

func startInTerminal(*exec.Cmd, *Command) (release, copied func(), err error) {
	return nil, nil, errors.ErrUnsupported
}

// signalGroup ends the processes: Windows has no signals.
func signalGroup(p *os.Process, _ os.Signal) { killGroup(p) }

func killGroup(p *os.Process) {
	_ = exec.Command("taskkill", "/T", "/F", "/PID", strconv.Itoa(p.Pid)).Run() // it may have ended
}

// EndGroup ends a process and what it has started.
func EndGroup(group int) {
	_ = exec.Command("taskkill", "/T", "/F", "/PID", strconv.Itoa(group)).Run() // it may have ended
}

func exitCode(e *exec.ExitError) int { return e.ExitCode() }
