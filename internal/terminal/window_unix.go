//go:build unix

package terminal

import (
	"os"

	"golang.org/x/sys/unix"
)

// window reports whether f is a terminal, and how many columns it has; 0: nobody knows.
func window(f *os.File) (width int, ok bool) {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, false
	}
	return int(size.Col), true
}
