package main

import "os"

// lockHosts has nothing to lock with: the last of two padlocks that write the file at once wins.
func lockHosts(string) (release func(), err error) { return func() {}, nil }

// processRuns reports whether a process exists.
func processRuns(pid int) bool {
	p, err := os.FindProcess(pid) // opens the process
	if err != nil {
		return false
	}
	_ = p.Release()
	return true
}
