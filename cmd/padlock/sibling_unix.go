//go:build unix && !linux

package main

import "syscall"

var asSibling *syscall.SysProcAttr // there is no way to ask for it
