//go:build unix

package main

import (
	"os"
	"syscall"
	"time"
)

// lockHosts keeps other padlocks from changing a hosts file until release is called. Any user of this machine can lock a
// file that everybody may read, and keep it so; a padlock has it locked for milliseconds. So a lock that stays is nobody's
// who changes the file, and is not waited for any longer.
func lockHosts(file string) (release func(), err error) {
	for end := time.Now().Add(hostsWait); ; time.Sleep(20 * time.Millisecond) {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil && isFile(f, file) {
			return func() { f.Close() }, nil
		}

		f.Close()
		if time.Now().After(end) {
			return func() {}, nil
		}
	}
}

// hostsWait is how long another process may have the hosts file locked.
const hostsWait = 2 * time.Second

// isFile reports whether a name still leads to an open file: whoever had the lock before may have replaced it.
func isFile(f *os.File, name string) bool {
	open, err := f.Stat()
	if err != nil {
		return false
	}
	now, err := os.Stat(name)
	return err == nil && os.SameFile(open, now)
}

// processRuns reports whether a process exists.
func processRuns(pid int) bool { return syscall.Kill(pid, 0) != syscall.ESRCH }
