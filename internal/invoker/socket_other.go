//go:build unix && !linux

package invoker

import (
	"fmt"
	"io/fs"
	"os"
)

// giveSocket follows no link.
func giveSocket(path string, uid, gid int) error {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&fs.ModeSocket == 0 {
		return err
	}
	if err := os.Lchown(path, uid, gid); err != nil {
		return fmt.Errorf("giving a socket to the owner of its directory: %w", err)
	}
	return nil
}
