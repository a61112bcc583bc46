//go:build !unix

package terminal

import "os"

// window reports whether f is a terminal, and how many columns it has; 0: nobody knows.
func window(f *os.File) (width int, ok bool) {
	info, err := f.Stat()
	return 0, err == nil && info.Mode()&os.ModeCharDevice != 0
}
