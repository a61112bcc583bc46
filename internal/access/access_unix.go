//go:build unix

package access

import (
	"io/fs"
	"os"
	"slices"
	"syscall"
)

func inGroup(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	group := int(stat.Gid)
	if group == os.Getegid() {
		return true
	}
	more, err := os.Getgroups()
	return err == nil && slices.Contains(more, group)
}
