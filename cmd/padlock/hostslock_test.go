//go:build unix

package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A lock on the hosts file that somebody else keeps, as any user of the machine can, holds a change up and does not prevent it.
func TestALockThatStaysOnTheHostsFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(file, []byte("127.0.0.1 localhost\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	theirs, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	if err := syscall.Flock(int(theirs.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	changed, err := changeHosts(file, func(text []byte) []byte { return addHostLines(text, []string{"shop.test"}) })
	if err != nil || len(changed) != 2 {
		t.Errorf("%q, %v", changed, err)
	}
}
