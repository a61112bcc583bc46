//go:build !linux

package lab

// endMarked does nothing: no portable way leads from an environment to processes.
func endMarked(string) {}
