// Package regular reads files that must be regular ones. A FIFO that somebody has put in the place of a file makes
// os.ReadFile wait for a writer for ever, a device may never end, and a file on a server that does not answer, such
// as NFS that is mounted hard, comes back when that does; here all of them are errors, the last after Patience.
//
//	data, err := regular.Read("state/root.pem", 1<<20)   // of padlock's own
//	data, err := regular.Named(cfg.CA, 1<<20)            // of the user's
package regular

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// Errors of what cannot be read as a file. They are wrapped with the file's name and the remedy.
var (
	ErrIrregular = errors.New("not a regular file")
	ErrTooLarge  = errors.New("too large")
	ErrLinked    = errors.New("it would be shown to everybody: name the file itself, or make the link yours (chown -h)")
	ErrPlanted   = errors.New("what is written there could be theirs to read: remove it, or name a file in a directory of your own")
	ErrSilent    = errors.New("does not answer: look at the file system that it is on")
)

// Unwritable reports whether an error says that a disk is full, or cannot be written to at all: either may be over at
// any moment.
func Unwritable(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EROFS)
}

// Flags open a file for reading without waiting for whoever is at the other end of a FIFO.
const Flags = os.O_RDONLY | nonBlock

// Read is os.ReadFile for regular files of at most limit bytes, in a directory of padlock's own.
func Read(name string, limit int64) ([]byte, error) {
	return Within(name, func() ([]byte, error) {
		f, err := os.OpenFile(name, Flags, 0)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return All(f, name, limit)
	})
}

// All reads a file that was opened with Flags. Errors call it name.
func All(f *os.File, name string, limit int64) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is %w (mode %v): remove it", name, ErrIrregular, info.Mode())
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is %w, more than %d bytes: remove it", name, ErrTooLarge, limit)
	}
	return data, err
}

// Named is Read for a file that the user has named. A pipe that the process was started with, such as a shell makes
// for <(command), is read too.
func Named(name string, limit int64) ([]byte, error) {
	return named(name, limit, func(string, *os.File) error { return nil })
}

// Public is Named for a file that everybody will see, such as a page. Whoever may write to its directory could put a
// link there to a file that only padlock can read, such as a key: it is read only where everybody may read it, or where
// the link's owner is root, this user or the file's owner.
func Public(name string, limit int64) ([]byte, error) { return named(name, limit, checkLinks) }

func named(name string, limit int64, check func(string, *os.File) error) ([]byte, error) {
	return Within(name, func() ([]byte, error) {
		f, err := open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if err := check(name, f); err != nil {
			return nil, err
		}
		data, err := io.ReadAll(io.LimitReader(f, limit+1))
		if err == nil && int64(len(data)) > limit {
			return nil, fmt.Errorf("%s is %w: more than %d bytes", name, ErrTooLarge, limit)
		}
		return data, err
	})
}

// Open opens a file that the user has named, as Named does.
func Open(name string) (*os.File, error) {
	return Within(name, func() (*os.File, error) { return open(name) })
}

// Check reports why Open would fail.
func Check(name string) error {
	f, err := Open(name)
	if err == nil {
		err = f.Close()
	}
	return err
}

// Stat is os.Stat that waits no longer than Patience.
func Stat(name string) (fs.FileInfo, error) {
	return Within(name, func() (fs.FileInfo, error) { return os.Stat(name) })
}

func open(name string) (*os.File, error) {
	f, err := os.OpenFile(name, Flags, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		err = fmt.Errorf("%s is a directory: name a file", name)
	case !info.Mode().IsRegular() && !(info.Mode()&fs.ModeNamedPipe != 0 && inherited(name)):
		err = fmt.Errorf("%s is %w (mode %v), and may never end: name a file", name, ErrIrregular, info.Mode())
	}

	if err != nil {
		return nil, errors.Join(err, f.Close())
	}

	return f, nil
}

// inherited reports whether a name is that of a descriptor of this process.
func inherited(name string) bool {
	return slices.Contains([]string{"/dev/fd", "/proc/self/fd"}, filepath.Dir(name)) || name == "/dev/stdin"
}
