//go:build unix && !linux

package main

import "syscall"

// keepMemory keeps private keys out of core files.
func keepMemory() { _ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) }
