//go:build unix && !linux

package launch

import "os/exec"

// startBound starts a command. Only Linux can bind it to the end of this program.
func startBound(cmd *exec.Cmd) error { return cmd.Start() }
