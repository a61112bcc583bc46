//go:build !unix

package storage

import "os"

// flock is the process's own lock only, where the kernel has none of this kind: one padlock per directory.
func flock(*os.File) (bool, error) { return true, nil }

func funlock(*os.File) error { return nil }

func noFlock(error) string { return "" }
