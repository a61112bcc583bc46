//go:build !unix

package main

// mayWrite knows nothing here without making a file.
func mayWrite(string) error { return nil }
