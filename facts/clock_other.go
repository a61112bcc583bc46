//go:build !linux

package facts

// clockSynchronised is known on Linux only.
func clockSynchronised() (synchronised, known bool) { return false, false }
