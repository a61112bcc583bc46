//go:build unix

package daemon

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"padlock/internal/access"
	"padlock/internal/invoker"
)

const noFollow = syscall.O_NOFOLLOW

// ours reports whether a file belongs to this process's user.
func ours(info fs.FileInfo) bool {
	owner, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(owner.Uid) == os.Geteuid()
}

// likeBefore gives a new file to the owner and the group of the one before, as far as this user may.
func likeBefore(f *os.File, before fs.FileInfo) error {
	owner, ok := before.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil && os.Geteuid() == 0 {
		return err
	}
	return nil
}

// changeable is a file, or its directory, that a user other than root, and than the one who ran padlock by sudo, can
// change; "": neither is.
func changeable(name string) string {
	by := invoker.Find()
	for _, place := range []string{name, filepath.Dir(name)} {
		info, err := os.Stat(place)
		if err != nil {
			continue // what cannot be read is told elsewhere
		}
		owner, ok := info.Sys().(*syscall.Stat_t)
		trusted := !ok || owner.Uid == 0 || by != nil && int(owner.Uid) == by.UID
		// In a sticky directory, others cannot replace a file that is not theirs.
		open := access.Others(info)&access.Write != 0 && info.Mode()&fs.ModeSticky == 0 && !access.Modeless(place)
		if !trusted || open {
			return place
		}
	}
	return ""
}
