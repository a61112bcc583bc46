package daemon

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// rotatingFile is a log that is moved aside when it is large. It opens its file to append only, so that a program that
// truncates it in place (copytruncate of logrotate) leaves no hole in front of the next line.
type rotatingFile struct {
	name  string
	limit int64 // bytes
	keep  int   // of those that were moved aside; 0: all

	open *os.File // nil until something is written
}

// Write implements io.Writer.
func (f *rotatingFile) Write(p []byte) (int, error) {
	if f.open == nil {
		open, err := appendPrivate(f.name)
		if err != nil {
			return 0, err
		}
		f.open = open
	}

	// Looked at under its name, as others may truncate it, or have moved it away.
	info, err := os.Stat(f.name)
	if err == nil && info.Mode().IsRegular() && info.Size() > 0 && info.Size()+int64(len(p)) > f.limit {
		if err := f.rotate(); err != nil {
			return 0, err
		}
	}
	return f.open.Write(p)
}

// Close implements io.Closer. The next Write opens the file that has the name then.
func (f *rotatingFile) Close() error {
	if f.open == nil {
		return nil
	}
	err := f.open.Close()
	f.open = nil
	return err
}

// rotate moves the file aside, and goes on in a new one of the same mode and owner.
func (f *rotatingFile) rotate() error {
	before, err := f.open.Stat()
	if err != nil {
		return err
	}
	// Windows moves no file that is open.
	if err := errors.Join(f.Close(), os.Rename(f.name, f.aside(time.Now()))); err != nil {
		return err
	}

	next, err := os.OpenFile(f.name, appending|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		next, err = appendPrivate(f.name) // of a program that rotates logs, too
	case err == nil:
		if err = errors.Join(likeBefore(next, before), next.Chmod(before.Mode().Perm()&^0o027)); err != nil {
			err = errors.Join(err, next.Close())
		}
	}
	if err != nil {
		return err
	}

	f.open = next
	_ = f.prune() // the next rotation tries again
	return nil
}

// rotated is the time in the name of a file that was moved aside.
const rotated = "2006-01-02T15-04-05.000"

// aside is access-TIME.log for access.log, a name that no file has yet.
func (f *rotatingFile) aside(at time.Time) string {
	before, after := f.around()
	for ; ; at = at.Add(time.Millisecond) {
		name := filepath.Join(filepath.Dir(f.name), before+at.UTC().Format(rotated)+after)
		if _, err := os.Lstat(name); err != nil {
			return name
		}
	}
}

// around is what stands in front of the time, and behind it.
func (f *rotatingFile) around() (before, after string) {
	base, ext := filepath.Base(f.name), filepath.Ext(f.name)
	return strings.TrimSuffix(base, ext) + "-", ext
}

// prune removes the oldest of what was moved aside.
func (f *rotatingFile) prune() error {
	if f.keep == 0 {
		return nil
	}
	entries, err := os.ReadDir(filepath.Dir(f.name))
	if err != nil {
		return err
	}

	before, after := f.around()
	var names []string // in the order of their times, as they are in that of their names
	for _, e := range entries {
		at, ok := strings.CutPrefix(e.Name(), before)
		at, is := strings.CutSuffix(at, after)
		if _, err := time.Parse(rotated, at); ok && is && err == nil && e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)

	for _, name := range names[:max(0, len(names)-f.keep)] {
		if failed := os.Remove(filepath.Join(filepath.Dir(f.name), name)); !errors.Is(failed, fs.ErrNotExist) {
			err = errors.Join(err, failed)
		}
	}
	return err
}
