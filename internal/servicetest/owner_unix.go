//go:build unix

package servicetest

import (
	"os"
	"os/user"
	"strconv"
	"syscall"
	"testing"
)

// postgresUser gives the directory to postgres when the tests run as root, and has the service run as that user.
func postgresUser(t testing.TB, dir string) *syscall.SysProcAttr {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}

	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}

	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}

	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}
