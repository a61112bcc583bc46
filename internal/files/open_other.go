//go:build !linux

package files

import "os"

// openWithoutLinks opens a name below root, no part of which may be a link.
func openWithoutLinks(root *os.Root, name string) (*os.File, error) {
	return openAndCompare(root, name)
}
