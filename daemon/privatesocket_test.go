//go:build linux

package daemon

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// The socket is its owner's from the moment it is there. Run alone, with a umask that permits everything.
func TestAPrivateSocketIsItsOwners(t *testing.T) {
	before := syscall.Umask(0)
	defer syscall.Umask(before)
	path := filepath.Join(t.TempDir(), "socket")
	l, err := listenPrivate(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
