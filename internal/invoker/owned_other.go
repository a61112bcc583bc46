//go:build !unix

package invoker

import (
	"io/fs"
	"os"
	"os/exec"
)

// Runs changes nothing: there is no sudo here.
func (u *User) Runs(*exec.Cmd) {}

// MkdirAll is os.MkdirAll.
func MkdirAll(dir string, mode fs.FileMode) error { return os.MkdirAll(dir, mode) }

// Give does nothing.
func Give(*os.File, fs.FileInfo) error { return nil }

// GiveSocket does nothing.
func GiveSocket(string) error { return nil }

// GiveIn does nothing.
func GiveIn(*os.File) error { return nil }
