package daemon

import (
	"strings"
	"testing"
)

// What /proc/self/mountinfo has in containers of Docker and Podman.
const (
	mountinfo = `2101 1820 0:312 / / rw,relatime master:611 - overlay overlay rw
2110 2101 8:1 /var/lib/docker/containers/0a4b/hostname /etc/hostname rw,relatime - ext4 /dev/sda1 rw
2120 2101 8:1 /var/lib/docker/volumes/edge/_data /data rw,relatime master:1 - ext4 /dev/sda1 rw
2121 2101 8:1 /srv/my\040data /data2 rw,relatime - ext4 /dev/sda1 rw
`
)

// A data directory that another user owns is told with the command that gives it away, whatever padlock runs in.
func TestADirectoryOfAnotherUserHasItsCommand(t *testing.T) {
	for _, c := range []struct {
		what string
		o    ownership
		want string
	}{
		{"a volume", ownership{dir: "/data/padlock", engine: "docker"}, "docker run --rm --user 0 -v edge:/data busybox chown -R 65532:65532 /data"},
		{"a volume of Podman", ownership{dir: "/data", engine: "podman"}, "podman run --rm --user 0 -v edge:/data busybox chown -R 65532:65532 /data"},
		{"a directory", ownership{dir: "/data2/padlock", engine: "docker", container: "0a4b0a4b0a4b"}, "docker run --rm --user 0 --volumes-from 0a4b0a4b0a4b busybox chown -R 65532:65532 /data2"},
		{"a directory, on the host", ownership{dir: "/data2/padlock", engine: "docker"}, "sudo chown -R 65532:65532 /srv/my data"},
		{"no volume", ownership{dir: "/var/padlock", engine: "docker"}, "docker run -v padlock:/var/padlock"},
		{"a pod", ownership{dir: "/data/padlock", kubernetes: true}, "fsGroup: 65532"},
		{"a machine", ownership{dir: "/var/lib/padlock"}, "sudo chown -R 65532:65532 /var/lib/padlock"},
		{"a machine without the directory", ownership{dir: "/var/lib/padlock", missing: true}, "sudo install -d -m 700 -o 65532 -g 65532 /var/lib/padlock"},
	} {
		c.o.owner, c.o.gid = "65532:65532", 65532
		c.o.mount, c.o.source = mountOf(mountinfo, c.o.dir)
		if got := c.o.hint(); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q does not have %q", c.what, got, c.want)
		}
	}
}
