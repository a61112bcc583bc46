package invoker

import (
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// giveSocket looks at what it gives away by the descriptor that it gives it away by.
func giveSocket(path string, uid, gid int) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return &fs.PathError{Op: "stat", Path: path, Err: err}
	}

	if stat.Mode&unix.S_IFMT != unix.S_IFSOCK || stat.Uid != 0 || stat.Nlink != 1 {
		return nil
	}
	if err := unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("giving a socket to the owner of its directory: %w", err)
	}

	return nil
}
