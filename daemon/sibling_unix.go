//go:build unix && !linux

package daemon

import "syscall"

var asSibling *syscall.SysProcAttr // there is no way to ask for it
