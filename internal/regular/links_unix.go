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

	end, err := follow(name, func(path string, link fs.FileInfo) error {
		if owner := uidOf(link); owner != 0 && owner != os.Geteuid() && owner != uidOf(info) {
			return fmt.Errorf("%s leads to a file that not everybody may read, by the link %s of another user than the file's: %w", name, path, ErrLinked)
		}
		return nil
	})
	if err != nil {
		return err
	}
	// Somebody could have changed the links after the file was opened.
	if now, err := os.Lstat(end); err != nil || !os.SameFile(now, info) {
		return errors.Join(fmt.Errorf("%s has changed while it was read: %w", name, ErrLinked), err)
	}
	return nil
}

// CheckWritten refuses a file, open for writing, that another user has put where its name leads, or has led the name to
// by a link: they would read what is written there, or have it written into a file that is not theirs to write. Root, and
// whoever owns the directory, may put a file there. The kernel has such rules for directories like /tmp, which may be off
// (fs.protected_symlinks, protected_regular and protected_fifos), and knows nothing of what root writes in the directory
// of a user.
func CheckWritten(name string, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return checkPlace(name, info)
}

// CheckPlace is CheckWritten for a socket, or a pipe that is not open yet.
func CheckPlace(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	return checkPlace(name, info)
}

func checkPlace(name string, info fs.FileInfo) error {
	end, err := follow(name, func(path string, link fs.FileInfo) error { return checkLed(path, link, info) })
	switch {
	case err != nil:
		return err
	case ofProcess(end):
		return nil // what this process was started with, such as standard output
	}

	if now, err := os.Lstat(end); err != nil || !os.SameFile(now, info) {
		return errors.Join(fmt.Errorf("%s has changed while it was opened: %w", name, ErrPlanted), err)
	}
	directory, err := os.Stat(filepath.Dir(end))
	if err != nil {
		return err
	}
	if owner := uidOf(info); owner != 0 && owner != os.Geteuid() && owner != uidOf(directory) && everybodys(directory) {
		return fmt.Errorf("%s belongs to another user, and everybody can put files there: %w", end, ErrPlanted)
	}
	return nil
}

// CheckLink is CheckWritten for a link that leads to no file yet.
func CheckLink(path string) error {
	link, err := os.Lstat(path)
	if err != nil {
		return err
	}
	return checkLed(path, link, nil)
}

// checkLed refuses another user's link, unless it leads, in their own directory, to their own file.
func checkLed(path string, link, file fs.FileInfo) error {
	owner := uidOf(link)
	if owner == 0 || owner == os.Geteuid() {
		return nil
	}
	directory, err := os.Lstat(filepath.Dir(path))
	if err != nil {
		return err
	}
	if file == nil || owner != uidOf(file) || owner != uidOf(directory) {
		return fmt.Errorf("%s is the link of another user: %w", path, ErrPlanted)
	}
	return nil
}

// everybodys reports whether users other than its owner can put files into a directory, such as /tmp.
func everybodys(directory fs.FileInfo) bool {
	mode := directory.Mode()
	return mode.Perm()&0o002 != 0 || mode&fs.ModeSticky != 0 && mode.Perm()&0o020 != 0
}

// ofProcess reports whether a path is one of /proc, where what a link leads to has no name.
func ofProcess(path string) bool { return strings.HasPrefix(path, "/proc/") }

// follow calls each with every link that a name leads through, and returns the path where it ends.
func follow(name string, each func(path string, link fs.FileInfo) error) (end string, err error) {
	rest, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	at, links := "/", 0
	for rest != "" {
		var part string
		part, rest, _ = strings.Cut(strings.TrimLeft(rest, "/"), "/")
		next := filepath.Join(at, part)
		found, err := os.Lstat(next)
		if err != nil {
			return "", err
		}
		if found.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}

		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "open", Path: name, Err: syscall.ELOOP}
		}
		if err := each(next, found); err != nil {
			return "", err
		}
		// A descriptor of this process is a link whose text is no path (proc_pid_fd(5)).
		if ofProcess(next) && rest == "" {
			return next, nil
		}
		to, err := os.Readlink(next)
		if err != nil {
			return "", err
		}
		if filepath.IsAbs(to) {
			at = "/"
		}
		rest = to + "/" + rest
	}
	return at, nil
}

// uidOf is a file's owner.
func uidOf(info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}
	return -1
}
