package daemon

import (
	"os"

	"golang.org/x/sys/unix"
)

// ephemeral reports whether a directory of a container ends with the container: it lies in the container's own layer,
// or in memory.
func ephemeral(dir string) bool {
	inside := false
	for _, mark := range []string{"/.dockerenv", "/run/.containerenv"} {
		if _, err := os.Stat(mark); err == nil {
			inside = true
		}
	}

	if !inside && os.Getenv("KUBERNETES_SERVICE_HOST") == "" && os.Getenv("container") == "" {
		return false
	}

	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) != nil {
		return false
	}

	return fs.Type == unix.OVERLAYFS_SUPER_MAGIC || fs.Type == unix.TMPFS_MAGIC
}
