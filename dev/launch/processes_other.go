//go:build unix && !linux

package launch

import "syscall"

// groupRuns reports whether there is a process of a group.
func groupRuns(group int) bool { return syscall.Kill(-group, 0) == nil }
