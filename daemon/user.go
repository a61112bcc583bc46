package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"strings"

	"padlock/config"
	"padlock/internal/hint"
	"padlock/internal/invoker"
	"padlock/internal/regular"
)

// account is a user of this machine, as the kernel knows it.
type account struct {
	name     string
	uid, gid int
	groups   []int
}

func findAccount(name string) (*account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, hint.Add(fmt.Errorf("user: %w", err), "useradd --system --home-dir /var/lib/padlock --shell /usr/sbin/nologin "+name+" makes one")
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("user: finding the groups of %s: %w", name, err)
	}

	a := &account{name: name}
	// On Windows these are no numbers, so nobody can become such a user.
	for _, id := range append([]string{u.Uid, u.Gid}, ids...) {
		n, err := strconv.Atoi(id)
		if err != nil {
			return nil, fmt.Errorf("user: %s has the number %q, which is none here", name, id)
		}
		a.groups = append(a.groups, n)
	}

	a.uid, a.gid, a.groups = a.groups[0], a.groups[1], a.groups[2:]
	return a, nil
}

// becomeUser gives root up, for good, and sees that the user can work in the storage directory.
func becomeUser(cfg *config.Config) error {
	if err := becomeAccount(cfg); err != nil {
		return err
	}
	return usable(cfg)
}

// becomeAccount gives root up, for good. A padlock that takes another's place is that user already.
func becomeAccount(cfg *config.Config) error {
	a, err := findAccount(cfg.User)
	if err != nil {
		return err
	}

	switch now := os.Geteuid(); {
	// A second account with uid 0 would look like less and be root.
	case a.uid == 0:
		return hint.Add(fmt.Errorf("user: %s is root by another name", a.name), "name a user without privileges")
	case now != 0 && now != a.uid:
		return hint.Add(fmt.Errorf("user: padlock was started by user %d, and only root can become %s", now, a.name), "leave user out, or start padlock as root")
	// A process that is this user already, such as one that takes another's place, changes nothing.
	case now == 0:
		if err := a.become(); err != nil {
			return fmt.Errorf("user: becoming %s: %w", a.name, err)
		}
	}

	return nil
}

// usable makes the storage directory, or sees that what is there can be written to.
func usable(cfg *config.Config) error {
	dir := cfg.StateDirectory()
	err := tryDirectory(dir)
	// A file that cannot be written for the moment, such as on a full disk, is no reason to refuse the start.
	if err != nil && !regular.Unwritable(err) {
		return forUser(cfg, fmt.Errorf("user %s cannot use the storage directory %s: %w", cfg.User, dir, err))
	}
	return nil
}

// tryDirectory makes a directory if need be, and a file in it for a moment.
func tryDirectory(dir string) error {
	if err := invoker.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	// Permissions alone do not show it: a directory may be on a read-only mount or under a policy of SELinux.
	f, err := os.CreateTemp(dir, ".usable-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// forUser adds what to do where the user that padlock has become may not do something.
func forUser(cfg *config.Config, err error) error {
	if cfg.User == "" || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	dir := cfg.StateDirectory()
	remedy := fmt.Sprintf("files that padlock uses must be %s's: install -d -m 700 -o %s %s; chown -R %s %s", cfg.User, cfg.User, dir, cfg.User, dir)
	if home, failed := os.UserHomeDir(); failed == nil && strings.HasPrefix(dir, home+"/") {
		remedy = fmt.Sprintf("%s is root's home: give padlock a place of its own, storage: /var/lib/padlock (--storage), that is %s's", home, cfg.User)
	}
	return hint.Add(err, remedy)
}

// warnUnreadable warns of a file that this user cannot read again.
func (d *daemon) warnUnreadable() {
	if d.File == nil {
		return
	}
	if err := regular.Check(d.File.Name); err != nil {
		d.log.Warn("the configuration cannot be read again, so reload and restart will fail", "error", err, "remedy", "let user "+d.cfg.User+" read it")
	}
}
