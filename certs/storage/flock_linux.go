package storage

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// localLocks says why the kernel's locks on a directory are this machine's alone; "" where they are not, or nobody
// knows. NFS that is mounted with nolock or local_lock gives every machine each lock.
func localLocks(path string) string {
	var file unix.Stat_t
	if unix.Stat(path, &file) != nil {
		return ""
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	return localLocksOf(f, fmt.Sprintf("%d:%d", unix.Major(file.Dev), unix.Minor(file.Dev)))
}

// localLocksOf looks a device up in a list of mounts (proc_pid_mountinfo(5)).
func localLocksOf(mounts io.Reader, device string) string {
	lines := bufio.NewScanner(mounts)
	for lines.Scan() {
		mount, super, ok := strings.Cut(lines.Text(), " - ")
		fields, of := strings.Fields(mount), strings.Fields(super)
		if !ok || len(fields) < 3 || fields[2] != device || len(of) < 3 || of[0] != "nfs" && of[0] != "nfs4" {
			continue
		}

		for _, option := range strings.Split(of[2], ",") {
			if slices.Contains([]string{"nolock", "local_lock=all", "local_lock=flock"}, option) {
				return "NFS is mounted with " + option
			}
		}
	}
	return ""
}
