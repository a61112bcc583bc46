// Package access says who besides this process may do something with a file.
//
//	if access.Others(info)&access.Write != 0 && !access.Modeless(path) { … }
package access

import "io/fs"

// What somebody may do.
const (
	Read  fs.FileMode = 4
	Write fs.FileMode = 2
)

// Others returns what people beyond this process's user and groups may do with a file: everybody, and its group
// unless the process is in it. Volumes of Kubernetes belong to a group of the process's own (fsGroup), which may read
// and write.
func Others(info fs.FileInfo) fs.FileMode {
	mode := info.Mode().Perm()
	others := mode & 7
	if !inGroup(info) {
		others |= mode >> 3 & 7
	}
	return others
}

// Group returns what the group of a file may do, if the process is in it; otherwise nothing, as they are others.
func Group(info fs.FileInfo) fs.FileMode {
	if inGroup(info) {
		return info.Mode().Perm() >> 3 & 7
	}
	return 0
}
