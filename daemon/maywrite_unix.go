//go:build unix

package daemon

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// mayWrite is the error of making a file in a directory that is there (access(2)).
func mayWrite(dir string) error {
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return nil
}
