package launch

import (
	"os/exec"
	"runtime"
	"syscall"
)

// startBound starts a command that ends with this program, however that ends. The kernel binds it to a thread, so one
// waits for its end.
func startBound(cmd *exec.Cmd) error {
	cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	started := make(chan error)
	go func() {
		// The thread is never unlocked: it ends with the goroutine, and what was set for it ends as well.
		runtime.LockOSThread()
		started <- cmd.Start()
		select {}
	}()
	return <-started
}
