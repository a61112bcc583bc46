//go:build !unix

package daemon

import (
	"io/fs"
	"os"
)

const noFollow = 0

func ours(fs.FileInfo) bool { return true }

func likeBefore(*os.File, fs.FileInfo) error { return nil }

func changeable(string) string { return "" }
