//go:build !linux

package storage

func localLocks(string) string { return "" }
