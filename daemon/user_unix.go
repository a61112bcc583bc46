//go:build unix

package daemon

import (
	"errors"
	"syscall"
)

// become changes every thread of the process, and makes sure that there is no way back.
func (a *account) become() error {
	if err := syscall.Setgroups(a.groups); err != nil {
		return err
	}
	if err := syscall.Setgid(a.gid); err != nil {
		return err
	}
	if err := syscall.Setuid(a.uid); err != nil {
		return err
	}
	if syscall.Setuid(0) == nil || syscall.Getuid() != a.uid || syscall.Getgid() != a.gid {
		return errors.New("the system lets padlock become root again")
	}
	return nil
}
