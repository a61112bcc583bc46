//go:build unix

package storage_test

import (
	"bytes"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"padlock/certs/storage"
)

// A volume of Kubernetes with an fsGroup belongs to padlock's group: directories are g+rwxs, files 0660. It is served from, and told once.
// What another group or everybody can write to is refused.
func TestAVolumeOfPadlocksGroupIsServedFromAndTold(t *testing.T) {
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(filepath.Join(dir, "value"), []byte("x"), 0o600))
	must(os.Chmod(filepath.Join(dir, "value"), 0o660))
	must(os.Chmod(dir, 0o770|fs.ModeSetgid))

	var text bytes.Buffer
	d, err := storage.OpenDirectory(dir, storage.Options{Log: slog.New(slog.NewTextHandler(&text, nil)), Lease: lease})
	if err != nil {
		t.Fatalf("a volume of the own group: %v", err)
	}
	defer d.Close()
	must(d.Store(t.Context(), "folder/other", []byte("y")))
	for _, key := range []string{"value", "folder/other"} {
		if _, err := d.Load(t.Context(), key); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	if got := text.String(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, "group can write to the storage") {
		t.Error(got)
	}

	must(os.Chmod(filepath.Join(dir, "value"), 0o664)) // everybody can read it
	if _, err := d.Load(t.Context(), "value"); err != nil || !strings.Contains(text.String(), "can be read by others") {
		t.Errorf("%v\n%s", err, text.String())
	}
	must(os.Chmod(dir, 0o777))
	if _, err := storage.OpenDirectory(dir, storage.Options{Log: slog.New(slog.DiscardHandler), Lease: lease}); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("everybody can write: %v", err)
	}
}

// The group of a directory whose members padlock is not among are others. Only root can give a directory away.
func TestAnotherGroupsDirectoryIsRefused(t *testing.T) {
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("run as root: a directory has to be given to another group")
		}
		t.Skip("skipped: needs root, to give a directory to another group")
	}
	dir := t.TempDir()
	if err := os.Chown(dir, -1, 54321); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o770); err != nil {
		t.Fatal(err)
	}
	if _, err := storage.OpenDirectory(dir, storage.Options{Log: slog.New(slog.DiscardHandler), Lease: lease}); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("%v", err)
	}
}
