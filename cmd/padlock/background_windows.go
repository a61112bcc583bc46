package main

import (
	"os/exec"
	"syscall"

	"golang.org/x/sys/windows"
)

// inBackground has a command go on when the console is closed.
func inBackground(cmd *exec.Cmd) {
	cmd.Dir = ""
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.DETACHED_PROCESS | windows.CREATE_NEW_PROCESS_GROUP}
}
