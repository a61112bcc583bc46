package main

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// markOf names the file that is there where the Go files of the module in a directory have passed, with the modules that
// they use and this Go.
func markOf(dir string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}

	sum := sha256.New()
	fmt.Fprintln(sum, runtime.Version(), systems)
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			if e.Name() == ".git" {
				return fs.SkipDir
			}
			return nil
		}

		if !strings.HasSuffix(path, ".go") && e.Name() != "go.mod" && e.Name() != "go.sum" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		fmt.Fprintf(sum, "%s %d\n%s", name, len(text), text)
		return err
	})
	if err != nil {
		return "", err
	}

	return filepath.Join(cache, "padlock-tests", "lint", fmt.Sprintf("%x", sum.Sum(nil))), nil
}
