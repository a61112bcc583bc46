package files

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"padlock/internal/regular"
)

// openAny opens what a name below the root leads to. Where SameRules decides, it resolves the links of the name first,
// and opens the result without following any: whoever swaps a file for a link in between gets an error.
func (a *answer) openAny(name string) (*os.File, error) {
	if a.SameRules == nil {
		return a.root.OpenFile(name, regular.Flags, 0)
	}

	real, err := a.resolve(name)
	if err != nil {
		return nil, err
	}
	return openWithoutLinks(a.root, real)
}

// stat tells what a name below the root leads to.
func (a *answer) stat(name string) (fs.FileInfo, error) {
	if a.SameRules != nil {
		real, err := a.resolve(name)
		if err != nil {
			return nil, err
		}
		name = real
	}
	return a.root.Stat(name)
}

// resolve returns the name below the root that a name leads to, if both are under the same rules.
func (a *answer) resolve(name string) (string, error) {
	refused := &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return "", refused
	}

	root, err := filepath.EvalSymlinks(a.Root)
	if err != nil {
		return "", err
	}
	found, err := filepath.EvalSymlinks(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		return "", err
	}
	below, err := filepath.Rel(root, found)
	if err != nil || !filepath.IsLocal(below) { // which is "." for the root itself
		return "", refused
	}

	real := filepath.ToSlash(below)
	if real != path.Clean(name) && !a.SameRules(name, real) {
		return "", refused
	}
	return real, nil
}

// openAndCompare opens a name below root, and refuses it if any part of it is a link: it looks at each part after it has
// opened the file, and compares what is there with what it opened.
func openAndCompare(root *os.Root, name string) (*os.File, error) {
	file, err := root.OpenFile(name, regular.Flags, 0)
	if err != nil {
		return nil, err
	}

	opened, err := file.Stat()
	var there fs.FileInfo
	for part := path.Clean(name); err == nil; part = path.Dir(part) {
		info, bad := root.Lstat(part)
		if bad == nil && info.Mode()&fs.ModeSymlink != 0 {
			bad = fs.ErrPermission
		}
		if err = bad; there == nil {
			there = info
		}
		if path.Dir(part) == part || part == "." {
			break
		}
	}

	if err == nil && !os.SameFile(opened, there) {
		err = fs.ErrPermission
	}
	if err != nil {
		file.Close()
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return file, nil
}
