//go:build unix

package storage

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// flock takes the kernel's lock on an open file, if nobody has it (flock(2)). It ends with the process, however that ends.
func flock(f *os.File) (bool, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// funlock comes before the file is closed, because a process that is being started may have a copy of its descriptor for a moment.
func funlock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_UN) }
