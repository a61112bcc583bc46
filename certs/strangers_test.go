//go:build unix

package certs_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"padlock/certs"
	"padlock/certs/storage"
	"padlock/internal/servicetest"
)

// One thing in the storage that is no certificate takes none of the others out of service, whoever has put it there.
func TestStrangersTakeNoImportedCertificateAway(t *testing.T) {
	t.Parallel()
	redis := servicetest.StartRedis(t)
	cli := func(arguments ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), servicetest.Need(t, "redis-cli"), append([]string{"-u", redis.URL}, arguments...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	dir := filepath.Join(t.TempDir(), "storage")
	for location, plant := range map[string]func(){
		dir: func() {
			if err := syscall.Mkfifo(filepath.Join(dir, "imported", "a.pem"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "imported", "large.pem"), make([]byte, 17<<20), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		redis.URL: func() {
			cli("set", "{padlock}:value:imported/a.test-ecdsa.pem", "planted")
			cli("zadd", "{padlock}:index", "0", "imported/a.test-ecdsa.pem")
			cli("zadd", "{padlock}:index", "0", "imported/../x.pem")
		},
	} {
		store, err := storage.Open(t.Context(), location, storage.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		quiet := slog.New(slog.DiscardHandler)
		if _, err := certs.Import(t.Context(), store, pair(t, ecKey(t), time.Now().Add(time.Hour), "shop.example.com"), quiet); err != nil {
			t.Fatal(err)
		}
		plant()

		done := make(chan struct{})
		go func() {
			defer close(done)
			files, err := certs.NewFiles(nil, quiet)
			if err != nil {
				t.Error(err)
				return
			}
			files.AddImported(t.Context(), store, nil)
			if served(t, certs.New(certs.Options{Files: files}), "shop.example.com") == nil {
				t.Errorf("%s: the other certificate is out of service", location)
			}
		}()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: it waits for a writer", location)
		}
	}
}

// Whoever can write to a storage can put any number of values there: padlock takes a bounded one, says so, and serves those.
func TestNoMoreImportedCertificatesThanPadlockTakes(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "storage")
	var told bytes.Buffer
	log := slog.New(slog.NewTextHandler(&told, nil))
	store, err := storage.Open(t.Context(), dir, storage.Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := certs.Import(t.Context(), store, pair(t, ecKey(t), time.Now().Add(time.Hour), "a.test"), log); err != nil {
		t.Fatal(err)
	}
	for i := range certs.MaxImported + 10 {
		if err := os.WriteFile(filepath.Join(dir, "imported", fmt.Sprintf("n%d.test-ecdsa.pem", i)), []byte("planted"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := certs.NewFiles(nil, log)
	if err != nil {
		t.Fatal(err)
	}
	files.AddImported(t.Context(), store, nil)
	if served(t, certs.New(certs.Options{Files: files}), "a.test") == nil {
		t.Error("the other certificate is out of service")
	}
	if said := told.String(); strings.Count(said, "more certificates are imported") != 1 || !strings.Contains(said, "taken=10000 left_out=11") {
		t.Error(said[max(0, len(said)-1000):])
	}
}
