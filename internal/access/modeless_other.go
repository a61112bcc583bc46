//go:build !linux

package access

// Modeless reports whether a file lies on a share whose modes are those of its mount, and say nothing about the file.
func Modeless(string) bool { return false }
