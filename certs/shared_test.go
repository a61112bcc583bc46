package certs

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"padlock/certs/storage"
)

// However many nodes ask at once, and after a restart, the key is one; with storage_key it is not for others to read or choose.
func TestNodesShareOneKey(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "storage")
	open := func() storage.Store {
		store, err := storage.Open(t.Context(), dir, storage.Options{Key: bytes.Repeat([]byte{9}, 32)})
		if err != nil {
			t.Error(err)
		}
		return store
	}
	keys := make([][32]byte, 8)
	var all sync.WaitGroup
	for i := range keys {
		all.Go(func() {
			store := open()
			defer store.Close()
			var err error
			if keys[i], err = SharedKey(t.Context(), store, "sticky"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, key := range keys {
		if key != keys[0] || key == [32]byte{} {
			t.Fatalf("the keys are %x", keys)
		}
	}
	store := open()
	defer store.Close()
	if other, err := SharedKey(t.Context(), store, "other"); err != nil || other == keys[0] {
		t.Errorf("another purpose has the same key: %v", err)
	}
	file := filepath.Join(dir, "secrets", "sticky")
	raw, err := os.ReadFile(file)
	if err != nil || bytes.Contains(raw, keys[0][:]) {
		t.Errorf("it stands there in the clear, or not at all: %v", err)
	}
	if err := os.WriteFile(file, bytes.Repeat([]byte{1}, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	if key, err := SharedKey(t.Context(), store, "sticky"); err != nil || key == [32]byte(bytes.Repeat([]byte{1}, 32)) {
		t.Errorf("a planted key is taken: %v", err)
	}
}
