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
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and that with the program
		started <- cmd.Start()
		select {}
	}()
	return <-started
}
