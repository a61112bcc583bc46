// Package invoker is about the user who runs padlock as root by sudo: whose home counts, and whose files are to stay
// theirs.
//
//	if u := invoker.Find(); u != nil { storage = filepath.Join(u.Home, ".local", "share", "padlock") }
package invoker

import (
	"os"
	"os/user"
	"strconv"
)

// User is somebody other than root.
type User struct {
	Name, Home string
	UID, GID   int
	groups     []uint32
}

// Find returns the user who became root by sudo or doas; nil where padlock is not root, or root is who asked for it.
func Find() *User {
	if os.Geteuid() != 0 {
		return nil
	}
	for _, variable := range [...]string{"SUDO_USER", "DOAS_USER"} {
		if name := os.Getenv(variable); name != "" {
			return lookup(name)
		}
	}
	return nil
}

func lookup(name string) *User {
	found, err := user.Lookup(name)
	if err != nil {
		return nil
	}
	uid, failed := strconv.Atoi(found.Uid)
	gid, err := strconv.Atoi(found.Gid)
	if failed != nil || err != nil || uid == 0 || found.HomeDir == "" {
		return nil
	}

	u := &User{Name: found.Username, Home: found.HomeDir, UID: uid, GID: gid}
	// Without the list of groups, less is allowed.
	ids, _ := found.GroupIds()
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil {
			u.groups = append(u.groups, uint32(n))
		}
	}

	return u
}

// RootsHome is root's home directory, "" if that is not known.
func RootsHome() string {
	root, err := user.LookupId("0")
	if err != nil {
		return ""
	}
	return root.HomeDir
}
