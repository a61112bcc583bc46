package main

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// keepMemory keeps private keys out of core files. The limit alone would not: the kernel goes past it where cores are
// piped to a program (core(5)). What cannot be dumped cannot be read by other processes of the same user either.
func keepMemory() {
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	_ = syscall.Setrlimit(unix.RLIMIT_CORE, &syscall.Rlimit{})
}
