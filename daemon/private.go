package daemon

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"padlock/internal/regular"
)

// createPrivate opens an empty file that its owner alone can read, for a capture, which holds secrets. A capture that is
// there already is replaced by another file, as somebody may have it open; any other file with content stays. A link is not followed, and what belongs to
// another user is refused. A named pipe or a device is opened as it is.
func createPrivate(name string) (*os.File, error) {
	info, err := creatable(name)
	switch {
	case err != nil:
		return nil, err
	// O_EXCL: a file that appears between the look and the opening is somebody else's.
	case info == nil:
		return os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	case !info.Mode().IsRegular():
		return openPipe(name)
	}

	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*") // 0600
	if err != nil {
		// A directory may not be writable, or the file may be a mount of its own, as in a container.
		return emptied(name)
	}

	if err := os.Rename(f.Name(), name); err != nil {
		_ = errors.Join(f.Close(), os.Remove(f.Name()))
		return emptied(name)
	}

	return f, nil
}

// creatable is what stands in the place of a file that createPrivate makes; nil: nothing. It is an error if that stays.
func creatable(name string) (fs.FileInfo, error) {
	info, err := os.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case info.Mode()&fs.ModeSymlink != 0:
		return nil, fmt.Errorf("%s is a link: name the file itself, so that nobody else chooses which one it is", name)
	case info.IsDir():
		return nil, fmt.Errorf("%s is a directory", name)
	case info.Mode()&fs.ModeNamedPipe != 0 && (!ours(info) || info.Mode().Perm()&0o077 != 0):
		return nil, fmt.Errorf("others can read the pipe %s (mode %v): chmod 600 it", name, info.Mode())
	case info.Mode().IsRegular() && !ours(info):
		return nil, fmt.Errorf("%s belongs to another user: remove it, or name another file", name)
	case info.Mode().IsRegular() && info.Size() > 0 && !isCapture(name):
		return nil, fmt.Errorf("%s is there already and is no capture, and would be overwritten: name another file, or remove it", name)
	}
	return info, nil
}

// isCapture reports whether a file begins as pcapng does (draft-ietf-opsawg-pcapng section 4.1). One that cannot be read
// may hold anything.
func isCapture(name string) bool {
	f, err := os.OpenFile(name, os.O_RDONLY|noFollow, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	var magic [4]byte
	_, err = io.ReadFull(f, magic[:])
	return err == nil && magic == [4]byte{0x0a, 0x0d, 0x0d, 0x0a}
}

// openPipe takes a pipe that another user can neither read nor write to, which creatable has seen. Devices such as
// /dev/null are everybody's.
func openPipe(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_WRONLY|noFollow, 0)
}

// emptied is for a file in a directory where padlock may make no other, or that is mounted by itself.
func emptied(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|noFollow, 0)
	if err != nil {
		return nil, err
	}
	// The open file is looked at, as what stands under the name may have been exchanged since.
	info, err := f.Stat()
	if err == nil && (!info.Mode().IsRegular() || !ours(info)) {
		err = fmt.Errorf("%s belongs to another user: remove it, or name another file", name)
	}
	if err == nil {
		err = errors.Join(f.Chmod(0o600), f.Truncate(0))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}

	return f, nil
}

// appendPrivate opens a log, which holds addresses and names of clients. One that everybody can read is so no longer;
// its group keeps what it may read, as those who collect logs do. Neither a file that another user has put there nor
// their link is taken.
func appendPrivate(name string) (*os.File, error) {
	f, err := openAppending(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file any more (mode %v): restart padlock for it", name, info.Mode())
	}
	if err == nil {
		err = regular.CheckWritten(name, f)
	}
	// Logs from before this rule are corrected.
	if err == nil && info.Mode().Perm()&0o027 != 0 {
		if err = f.Chmod(info.Mode().Perm() &^ 0o027); err != nil {
			err = fmt.Errorf("%s can be read by everybody: chmod o-rwx,g-w it (%w)", name, err)
		}
	}

	if err != nil {
		return nil, errors.Join(err, f.Close())
	}

	return f, nil
}

// appending opens a log without waiting for the reader of a pipe that has taken its place.
const appending = os.O_APPEND | os.O_WRONLY | regular.Flags

// openAppending opens a log, or makes it. What a link leads to is only made for a link that may lead there.
func openAppending(name string) (*os.File, error) {
	// O_EXCL follows no link.
	f, err := os.OpenFile(name, appending|os.O_CREATE|os.O_EXCL, 0o600)
	if !errors.Is(err, fs.ErrExist) {
		return f, err
	}
	f, err = os.OpenFile(name, appending, 0)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}

	to, failed := os.Readlink(name)
	if failed != nil {
		return nil, err // it was removed meanwhile
	}
	if err := regular.CheckLink(name); err != nil {
		return nil, err
	}
	if !filepath.IsAbs(to) {
		to = filepath.Join(filepath.Dir(name), to)
	}
	return os.OpenFile(to, appending|os.O_CREATE|os.O_EXCL, 0o600)
}
