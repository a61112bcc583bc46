//go:build !linux

package daemon

// ephemeral is known on Linux only.
func ephemeral(string) bool { return false }
