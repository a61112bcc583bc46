//go:build unix

package regular

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxLinks is how many links a name may lead through, as for the kernel.
const maxLinks = 40

// checkLinks refuses a file that not everybody may read where somebody else's link leads to it: neither root's nor this
// user's, nor that of the file's owner.
func checkLinks(name string, f *os.File) error {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o004 != 0 {
		return err
	}

	rest, err := filepath.Abs(name)
	if err != nil {
		return err
	}
	at, links := "/", 0
	for rest != "" {
		var part string
		part, rest, _ = strings.Cut(strings.TrimLeft(rest, "/"), "/")
		next := filepath.Join(at, part)
		found, err := os.Lstat(next)
		if err != nil {
			return err
		}
		if found.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}

		if links++; links > maxLinks {
			return &fs.PathError{Op: "open", Path: name, Err: syscall.ELOOP}
		}
		if owner := uidOf(found); owner != 0 && owner != os.Geteuid() && owner != uidOf(info) {
			return fmt.Errorf("%s leads to a file that not everybody may read, by the link %s of another user than the file's: %w", name, next, ErrLinked)
		}
		to, err := os.Readlink(next)
		if err != nil {
			return err
		}
		if filepath.IsAbs(to) {
			at = "/"
		}
		rest = to + "/" + rest
	}

	// Somebody could have changed the links after the file was opened.
	if end, err := os.Lstat(at); err != nil || !os.SameFile(end, info) {
		return errors.Join(fmt.Errorf("%s has changed while it was read: %w", name, ErrLinked), err)
	}
	return nil
}

// uidOf is a file's owner.
func uidOf(info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}
	return -1
}
