package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"padlock/config"
	"padlock/discovery"
	"padlock/internal/hint"
	"padlock/internal/lazy"
)

// forOwner is an error with the command that gives the data directory to the user that padlock is, where the error
// says that this user may not use it.
func forOwner(cfg *config.Config, err error) error {
	path, dir := deniedPath(err), cfg.StateDirectory()
	if path == "" || os.Getuid() <= 0 || !below(path, dir) && !below(dir, path) {
		return err
	}

	// Only Linux has this file, and only there does padlock run in containers.
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	h := ownership{
		dir: dir, owner: fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid()), gid: os.Getgid(),
		engine: containerEngine(), kubernetes: os.Getenv("KUBERNETES_SERVICE_HOST") != "",
	}

	_, missing := os.Stat(dir)
	h.missing = errors.Is(missing, fs.ErrNotExist)
	h.mount, h.source = mountOf(string(mounts), dir)
	if own := discovery.OwnContainer(); len(own) > 0 {
		h.container = own[0][:12]
	}

	return hint.Add(err, h.hint())
}

// deniedPath is what may not be used; "": the error is another.
func deniedPath(err error) string {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case !errors.Is(err, fs.ErrPermission):
	case errors.As(err, &path):
		return path.Path
	case errors.As(err, &link):
		return link.New
	}
	return ""
}

// below reports whether a path is another, or lies in it.
func below(path, dir string) bool {
	rest, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rest)
}

// ownership is what is known of a data directory that another user owns.
type ownership struct {
	dir, owner string
	gid        int
	missing    bool   // the directory is not there, and what it would lie in is another user's
	engine     string // in whose container padlock runs; "": in none
	container  string // its identifier; "": unknown
	kubernetes bool
	// In a container: where a volume is mounted that the directory lies in, and where that comes from on the host.
	mount, source string
}

var volumePath = lazy.Regexp(`/volumes/([^/]+)/_data$`)

// hint is the command that mends it.
func (o *ownership) hint() string {
	named := volumePath().FindStringSubmatch(o.source)
	run := o.engine + " run --rm --user 0 %s busybox chown -R " + o.owner + " " + o.mount
	switch {
	case o.kubernetes:
		return fmt.Sprintf("in the pod's securityContext, fsGroup: %d gives the volume to padlock's group; or chown -R %s %s in an init container that is root", o.gid, o.owner, cmp.Or(o.mount, o.dir))
	case o.engine != "" && o.mount == "":
		return fmt.Sprintf("mount a volume: %s run -v padlock:%s …", o.engine, o.dir)
	case o.engine != "" && named != nil:
		return fmt.Sprintf("give the volume to padlock's user: "+run, "-v "+named[1]+":"+o.mount)
	case o.engine != "" && o.container != "":
		return fmt.Sprintf("give the directory to padlock's user, on the host: sudo chown -R %s %s; or: "+run, o.owner, o.source, "--volumes-from "+o.container)
	case o.engine != "":
		return fmt.Sprintf("give the directory to padlock's user, on the host: sudo chown -R %s %s", o.owner, o.source)
	case o.missing:
		return fmt.Sprintf("sudo install -d -m 700 -o %[1]s -g %[2]d %[3]s; or choose another place: --storage", strings.Split(o.owner, ":")[0], o.gid, o.dir)
	}

	return fmt.Sprintf("sudo chown -R %s %s; or choose another place: --storage", o.owner, o.dir)
}

var mountEscapes = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// mountOf finds in a mountinfo (proc(5)) where the file system that a directory lies in is mounted, and from where it
// comes; "" where that is the root.
func mountOf(mountinfo, dir string) (mount, source string) {
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		at := mountEscapes.Replace(fields[4])
		// A later mount lies over an earlier one.
		if at != "/" && below(dir, at) && len(at) >= len(mount) {
			mount, source = at, mountEscapes.Replace(fields[3])
		}
	}
	return mount, source
}
