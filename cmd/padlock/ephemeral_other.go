//go:build !linux

package main

// ephemeral is known on Linux only.
func ephemeral(string) bool { return false }
