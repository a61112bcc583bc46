//go:build unix

package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"padlock/internal/servicetest"
)

// A configuration that a user other than root can change decides what padlock does as root.
func TestWhoCanChangeTheConfigurationOfRoot(t *testing.T) {
	servicetest.Root(t)
	for _, c := range []struct {
		name             string
		directory, file  uint32
		owner, fileOwner int
		want             string
	}{
		{"root's", 0o755, 0o644, 0, 0, ""},
		{"theirs", 0o755, 0o644, 0, 12345, "padlock.yaml"},
		{"in-theirs", 0o755, 0o644, 12345, 0, "."},
		{"open", 0o755, 0o666, 0, 0, "padlock.yaml"},
		{"of-a-group", 0o755, 0o664, 0, 0, ""}, // of root's own group
		{"in-open", 0o777, 0o644, 0, 0, "."},
		{"in-sticky", 0o1777, 0o644, 0, 0, ""},
	} {
		dir := filepath.Join(t.TempDir(), c.name)
		name := filepath.Join(dir, "padlock.yaml")
		err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(name, nil, 0o600), unix.Chmod(dir, c.directory), unix.Chmod(name, c.file), os.Chown(dir, c.owner, 0), os.Chown(name, c.fileOwner, 0))
		if err != nil {
			t.Fatal(err)
		}
		want := c.want
		if want != "" {
			want = filepath.Join(dir, want)
		}
		if got := changeable(name); got != want {
			t.Errorf("%s: %q, not %q", c.name, got, want)
		}
	}

	t.Setenv("SUDO_USER", "nobody")
	name := filepath.Join(t.TempDir(), "padlock.yaml")
	if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Chown(name, 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	if got := changeable(name); got != "" {
		t.Errorf("the user who ran sudo may not change it: %q", got)
	}
}
