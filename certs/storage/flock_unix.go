//go:build unix

package storage

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// noFlock says why a file system has no locks; "" if an error says something else. NFS without its lock service
// answers ENOLCK.
func noFlock(err error) string {
	for _, lacking := range []error{unix.ENOLCK, unix.EOPNOTSUPP, unix.ENOTSUP, unix.ENOSYS} {
		if errors.Is(err, lacking) {
			return "flock: " + lacking.Error()
		}
	}
	return ""
}

// flock takes the kernel's lock on an open file, if nobody has it (flock(2)). It ends with the process, however that
// ends.
func flock(f *os.File) (bool, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// funlock comes before the file is closed, because a process that is being started may have a copy of its descriptor
// for a moment.
func funlock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_UN) }
