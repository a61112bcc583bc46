//go:build unix

package storage_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"padlock/certs/storage"
)

// What is no regular file keeps nobody waiting: it is refused with its name, left out of listings, and replaced by what is stored there.
func TestTheStorageTakesRegularFilesOnly(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "storage")
	p := place{location: dir}
	key := bytes.Repeat([]byte{7}, 32)
	first := p.open(t, key)
	if err := first.Store(t.Context(), "imported/a.pem", []byte("mine")); err != nil {
		t.Fatal(err)
	}
	first.Close()
	for _, name := range []string{"imported/x.pem", "tickets"} {
		if err := syscall.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "imported", "out.pem")); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s := p.open(t, key)
		_, err := s.Load(t.Context(), "imported/x.pem")
		if !errors.Is(err, storage.ErrUnusable) || !strings.Contains(err.Error(), filepath.Join(dir, "imported", "x.pem")) || !strings.Contains(err.Error(), "remove it") {
			t.Errorf("%v", err)
		}
		if keys, err := s.List(t.Context(), "imported", true); err != nil || !slices.Equal(keys, []string{"imported/a.pem"}) {
			t.Errorf("listed %q, %v", keys, err)
		}
		if _, err := s.Load(t.Context(), "tickets/keys.json"); err == nil {
			t.Error("a value below a FIFO")
		}
		if err := s.Store(t.Context(), "imported/x.pem", []byte("new")); err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("it waits for a writer")
	}
}
