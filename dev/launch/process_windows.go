package launch

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
)

func startInGroup(cmd *exec.Cmd) error { return cmd.Start() }

// PassedOn are none.
var PassedOn []os.Signal

// Terminal is what an app has on other systems.
type Terminal struct{}

// OpenTerminal returns nil: an app has this program's own terminal.
func OpenTerminal(*os.File) *Terminal { return nil }

// Close does nothing.
func (*Terminal) Close() {}

func startInTerminal(*exec.Cmd, *Command) (*started, error) { return nil, errors.ErrUnsupported }

// signalGroup ends the processes: Windows has no signals.
func signalGroup(p *os.Process, _ os.Signal) { killGroup(p) }

func killGroup(p *os.Process) {
	_ = exec.Command("taskkill", "/T", "/F", "/PID", strconv.Itoa(p.Pid)).Run() // it may have ended
}

// EndGroup ends a process and what it has started.
func EndGroup(group int) {
	_ = exec.Command("taskkill", "/T", "/F", "/PID", strconv.Itoa(group)).Run() // it may have ended
}

// endRest does nothing: the number of a process that has ended may be another's.
func endRest(int) {}

func exitCode(e *exec.ExitError) int { return e.ExitCode() }
