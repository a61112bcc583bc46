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

// What is stored is for padlock alone: directories 0700, files 0600, whatever was there before; nothing half-written ever has a file's name.
func TestFilesOfTheStorageAreForPadlockAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "storage")
	d, err := storage.OpenDirectory(dir, storage.Options{Log: slog.New(slog.DiscardHandler), Lease: lease})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	store := func(content string) {
		t.Helper()
		for _, key := range []string{"certificates/ca/app.test/app.test.key", "accounts/key.json", "top"} {
			if err := d.Store(t.Context(), key, []byte(content)); err != nil {
				t.Fatal(err)
			}
		}
	}
	store("one")
	if err := os.Chmod(filepath.Join(dir, "accounts", "key.json"), 0o666); err != nil {
		t.Fatal(err)
	}
	held, err := os.Open(filepath.Join(dir, "top")) // the old file, as a reader in the middle of it has it
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	store("two")
	if old := make([]byte, 3); true {
		if _, err := held.Read(old); err != nil || string(old) != "one" {
			t.Errorf("a reader of the file that was replaced gets %q, %v", old, err)
		}
	}
	files := 0
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if e.IsDir() {
			want = 0o700
		} else if files++; info.Size() != 3 {
			t.Errorf("%s has %d bytes", path, info.Size())
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %v, not %v", path, got, want)
		}
		return nil
	})
	if err != nil || files != 3 {
		t.Errorf("%d files, %v", files, err)
	}
}

// A file that has become readable by others is named, once.
func TestAnExposedFileOfTheStorageIsTold(t *testing.T) {
	var text bytes.Buffer
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := storage.OpenDirectory(dir, storage.Options{Log: slog.New(slog.NewTextHandler(&text, nil)), Lease: lease})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, key := range []string{"open.key", "closed.key"} {
		if err := d.Store(t.Context(), key, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "open.key"), 0o640); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, key := range []string{"open.key", "closed.key"} {
			if _, err := d.Load(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := text.String(); strings.Count(got, "open.key") != 1 || strings.Contains(got, "closed.key") || !strings.Contains(got, "chmod 600") {
		t.Error(got)
	}
}

// No link leads out of the storage, wherever in a path it stands, for whatever is done; nor does a key.
func TestNoLinkAndNoKeyLeadsOutOfTheStorage(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "storage")
	d, err := storage.OpenDirectory(dir, storage.Options{Log: slog.New(slog.DiscardHandler), Lease: lease})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"link/secret", "link/new", "../secret", "/etc/passwd", "a/../../secret", "..", ".", "./", "a/..", "", "a\x00b", `..\secret`} {
		if value, err := d.Load(t.Context(), key); err == nil {
			t.Errorf("%q: read %q", key, value)
		}
		if err := d.Store(t.Context(), key, []byte("x")); err == nil {
			t.Errorf("%q: written", key)
		}
		if d.Exists(t.Context(), key) {
			t.Errorf("%q: exists", key)
		}
		_ = d.Delete(t.Context(), key)
	}
	if keys, err := d.List(t.Context(), "link", true); len(keys) > 0 {
		t.Errorf("listed %q, %v", keys, err)
	}
	entries, err := os.ReadDir(outside)
	if err != nil || len(entries) != 1 {
		t.Errorf("outside there is %v, %v", entries, err)
	}
	if kept, err := os.ReadFile(filepath.Join(outside, "secret")); string(kept) != "secret" {
		t.Errorf("%q, %v", kept, err)
	}
}
