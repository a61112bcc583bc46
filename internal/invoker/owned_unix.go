//go:build unix

package invoker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Runs has a command run as the user, with the user's home. A nil User changes nothing.
func (u *User) Runs(c *exec.Cmd) {
	if u == nil {
		return
	}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(u.UID), Gid: uint32(u.GID), Groups: u.groups}}
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "HOME=") && !strings.HasPrefix(variable, "XDG_") {
			c.Env = append(c.Env, variable)
		}
	}
	c.Env = append(c.Env, "HOME="+u.Home)
}

// MkdirAll is os.MkdirAll, but a directory that root makes in another user's directory is that user's. A directory
// that was put in the place of the new one meanwhile is left as it is, unless it is root's as well.
func MkdirAll(dir string, mode fs.FileMode) error {
	if os.Geteuid() != 0 {
		return os.MkdirAll(dir, mode)
	}

	if info, err := os.Stat(dir); err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
		}
		return nil
	}

	above := filepath.Dir(dir)
	if above != dir {
		if err := MkdirAll(above, mode); err != nil {
			return err
		}
	}

	parent, err := os.Open(above)
	if err != nil {
		return err
	}
	defer parent.Close()
	info, err := parent.Stat()
	if err != nil {
		return err
	}

	if err := unix.Mkdirat(int(parent.Fd()), filepath.Base(dir), uint32(mode.Perm())); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return &fs.PathError{Op: "mkdir", Path: dir, Err: err}
	}

	return giveDirectory(parent, filepath.Base(dir), info)
}

// giveDirectory opens without following links, so that nothing but a directory can be given away.
func giveDirectory(parent *os.File, name string, above fs.FileInfo) error {
	fd, err := unix.Openat(int(parent.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: filepath.Join(parent.Name(), name), Err: err}
	}
	made := os.NewFile(uintptr(fd), filepath.Join(parent.Name(), name))
	defer made.Close()
	return give(made, above)
}

// Give makes a file that this process has just created its directory's owner's, where root works in another user's
// directory. The directory is that of which info tells.
func Give(f *os.File, directory fs.FileInfo) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return give(f, directory)
}

func give(f *os.File, directory fs.FileInfo) error {
	owner, ok := directory.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil
	}

	info, err := f.Stat()
	if err != nil {
		return err
	}

	// A hard link may be to anything.
	if now, ok := info.Sys().(*syscall.Stat_t); !ok || now.Uid != 0 || !info.IsDir() && now.Nlink != 1 {
		return nil
	}
	if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
		return fmt.Errorf("giving a file to the owner of its directory: %w", err)
	}

	return nil
}

// GiveIn is Give for a file whose directory is the one of its name.
func GiveIn(f *os.File) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(filepath.Dir(f.Name()))
	if err != nil {
		return err
	}
	return give(f, info)
}

// GiveSocket is Give for a Unix socket, whose file is not what the listener has open. Whoever owns the directory may
// exchange what stands there meanwhile, so nothing but a socket of root's is given away, and no link is followed.
func GiveSocket(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	directory, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return err
	}
	owner, ok := directory.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil
	}
	return giveSocket(path, int(owner.Uid), int(owner.Gid))
}
