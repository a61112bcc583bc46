package lab

import (
	"fmt"
	"os"
	"os/exec"
)

// ownGroup does nothing here: Windows has no process groups that a signal reaches.
func ownGroup(*exec.Cmd) {}

func endGroup(*exec.Cmd) {}

// crash is the exception that a client has died of; "": none. Its code is the exit code, and has the severity error.
func crash(p *os.ProcessState) string {
	const severityError = 0xc0000000
	if code := uint32(p.ExitCode()); code&severityError == severityError {
		return fmt.Sprintf("exception %#x", code)
	}
	return ""
}
