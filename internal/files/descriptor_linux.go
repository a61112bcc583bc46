package files

import (
	"time"

	"golang.org/x/sys/unix"

	"padlock/internal/regular"
)

// descriptor is an open regular file. It is no os.File, which asks the system four times more for each.
type descriptor struct {
	number  int // -1: closed
	size    int64
	changed time.Time
}

// openRegular opens the regular file of a name below root, if no link is on the way from there.
func openRegular(root, name string) (descriptor, found) {
	full := root + "/" + name
	var about unix.Stat_t
	// Looked at first: opening a device, or the FIFO that somebody waits at, would have an effect.
	switch err := unix.Fstatat(unix.AT_FDCWD, full, &about, unix.AT_SYMLINK_NOFOLLOW); {
	case err == unix.ENOENT:
		return descriptor{}, isNowhere
	case err != nil, about.Mode&unix.S_IFMT != unix.S_IFREG:
		return descriptor{}, isElsewhere
	}

	how := unix.OpenHow{Flags: uint64(regular.Flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_NO_SYMLINKS}
	number, err := unix.Openat2(unix.AT_FDCWD, full, &how)
	if err == unix.ELOOP {
		number, err = openBelow(root, name, how)
	}
	if err != nil {
		return descriptor{}, isElsewhere
	}

	d := descriptor{number: number}
	// Another file may have taken the place of the one that was looked at.
	if err := unix.Fstat(number, &about); err != nil || about.Mode&unix.S_IFMT != unix.S_IFREG {
		d.close()
		return descriptor{}, isElsewhere
	}
	d.size, d.changed = about.Size, time.Unix(about.Mtim.Unix())
	return d, isThere
}

// openBelow opens a name below a root to which a link leads.
func openBelow(root, name string, how unix.OpenHow) (int, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(dir)
	how.Resolve |= unix.RESOLVE_BENEATH
	return unix.Openat2(dir, name, &how)
}

func (d *descriptor) closed() bool { return d.number < 0 }

func (d *descriptor) close() {
	if !d.closed() {
		_ = unix.Close(d.number)
		d.number = -1
	}
}

// readAt returns 0 at the end.
func (d *descriptor) readAt(p []byte, at int64) (int, error) {
	for {
		n, err := unix.Pread(d.number, p, at)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}
