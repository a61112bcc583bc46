package daemon

import "syscall"

// asSibling makes the new padlock a child of this one's parent. A service manager that it is not a child of would not
// wait for it: at the end, systemd kills such a process at once.
var asSibling = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_PARENT}
