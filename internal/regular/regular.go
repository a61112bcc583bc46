// Package regular reads files that must be regular ones. A FIFO that somebody has put in the place of a file makes os.ReadFile wait for a
// writer for ever, and a device may never end; here both are an error at once.
//
//	data, err := regular.Read("state/root.pem", 1<<20)
package regular

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// Errors of what cannot be read as a file. They are wrapped with the file's name and the remedy.
var (
	ErrIrregular = errors.New("not a regular file")
	ErrTooLarge  = errors.New("too large")
)

// Flags open a file for reading without waiting for whoever is at the other end of a FIFO.
const Flags = os.O_RDONLY | nonBlock

// Read is os.ReadFile for regular files of at most limit bytes.
func Read(name string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(name, Flags, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return All(f, name, limit)
}

// All reads a file that was opened with Flags. Errors call it name.
func All(f *os.File, name string, limit int64) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is %w (mode %v): remove it", name, ErrIrregular, info.Mode())
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is %w, more than %d bytes: remove it", name, ErrTooLarge, limit)
	}
	return data, err
}
