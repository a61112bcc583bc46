package files

import (
	"os"
	"path"

	"golang.org/x/sys/unix"

	"padlock/internal/regular"
)

// openWithoutLinks opens a name below root, no part of which may be a link.
func openWithoutLinks(root *os.Root, name string) (*os.File, error) {
	dir, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	defer dir.Close()

	fd, err := unix.Openat2(int(dir.Fd()), name, &unix.OpenHow{
		Flags:   uint64(regular.Flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	switch err {
	case nil:
		return os.NewFile(uintptr(fd), path.Join(root.Name(), name)), nil
	case unix.ENOSYS, unix.EPERM:
		// Linux before 5.6, and containers whose seccomp filter is older than the call, do not have it.
		return openAndCompare(root, name)
	}
	return nil, &os.PathError{Op: "openat2", Path: name, Err: err}
}
