package access

import (
	"slices"

	"golang.org/x/sys/unix"
)

// shares of SMB have the modes that their mount names, 0777 with some; chmod does nothing there.
var shares = []int64{unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.SMB_SUPER_MAGIC}

// Modeless reports whether a file lies on a share whose modes are those of its mount, and say nothing about the file.
func Modeless(path string) bool {
	var stat unix.Statfs_t
	return unix.Statfs(path, &stat) == nil && slices.Contains(shares, int64(uint32(stat.Type)))
}
