package storage

import (
	"strings"
	"testing"
)

// NFS whose locks are each machine's own is found by how it is mounted.
func TestNFSWithLocksOfEachMachineIsFound(t *testing.T) {
	for _, c := range []struct{ mount, want string }{
		{"36 35 0:51 / /srv rw,relatime shared:1 - nfs4 server:/srv rw,vers=4.2,hard,proto=tcp,local_lock=none,addr=192.0.2.1", ""},
		{"36 35 0:51 / /srv rw,relatime shared:1 - nfs server:/srv rw,vers=3,hard,nolock,local_lock=all,addr=192.0.2.1", "NFS is mounted with nolock"},
		{"36 35 0:51 / /srv rw,relatime - nfs server:/srv rw,vers=3,local_lock=flock", "NFS is mounted with local_lock=flock"},
		{"36 35 0:51 / /srv rw,relatime - nfs server:/srv rw,vers=3,local_lock=posix", ""},
		{"36 35 0:52 / /srv rw,relatime - nfs server:/srv rw,nolock", ""},
		{"36 35 0:51 / /srv rw,relatime - ext4 /dev/sda1 rw,nolock", ""},
		{"36 35 0:51", ""},
	} {
		all := "22 26 0:21 / /proc rw,nosuid - proc proc rw\n" + c.mount + "\n"
		if got := localLocksOf(strings.NewReader(all), "0:51"); got != c.want {
			t.Errorf("%s: %q", c.mount, got)
		}
	}
}
