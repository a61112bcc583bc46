//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// inBackground has a command go on when the terminal is closed, or its keys end what runs there.
func inBackground(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }
