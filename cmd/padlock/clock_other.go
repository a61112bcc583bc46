//go:build !linux

package main

// clockSynchronised is known on Linux only.
func clockSynchronised() (synchronised, known bool) { return false, false }
