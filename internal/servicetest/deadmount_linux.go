package servicetest

import (
	"fmt"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// DeadMount mounts a file system whose server does not answer, as one of NFS whose server is gone: whatever looks
// into it waits. It returns the name of a file on it, and what lets all those go on, with an error.
func DeadMount(t testing.TB) (file string, wake func()) {
	t.Helper()
	dir := t.TempDir()
	return filepath.Join(dir, "file.pem"), DeadMountOn(t, dir)
}

// DeadMountOn is DeadMount on a directory that is there.
func DeadMountOn(t testing.TB, dir string) (wake func()) {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Mount("padlock-test", dir, "fuse", unix.MS_NODEV|unix.MS_NOSUID, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd))
	}
	if err != nil {
		missing(t, fmt.Sprintf("the right to mount /dev/fuse (%v)", err))
	}

	awake := false
	wake = func() {
		if !awake {
			awake = true
			// Closing the device aborts every request that waits for the file system.
			_ = unix.Close(fd)
		}
	}

	t.Cleanup(func() {
		wake()
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return wake
}
