package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"padlock/certs/storage"
	"padlock/internal/servicetest"
)

// A directory on a server that does not answer keeps nobody who reads for longer than they want to wait, and costs a bounded number of
// threads, however many names somebody invents.
func TestADirectoryThatDoesNotAnswerKeepsNoReaderWaiting(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, err := storage.OpenDirectory(dir, storage.Options{Log: slog.New(slog.DiscardHandler), Lease: lease})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Store(t.Context(), "certificates/app.test", []byte("content")); err != nil {
		t.Fatal(err)
	}
	wake := servicetest.DeadMountOn(t, filepath.Join(dir, "certificates"))
	before, began := threads(t), time.Now()
	var all sync.WaitGroup
	for i := range 500 {
		key := fmt.Sprintf("certificates/invented-%d.test", i)
		for _, read := range []func(ctx context.Context) error{
			func(ctx context.Context) error { _, err := d.Load(ctx, key); return err },
			func(ctx context.Context) error { _, err := d.Stat(ctx, key); return err },
			func(ctx context.Context) error { _, err := d.List(ctx, "certificates", true); return err },
		} {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				defer cancel()
				if err := read(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s: %v", key, err)
				}
			})
		}
	}
	all.Wait()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the reads took %s", took)
	}
	if more := threads(t) - before; more > 120 {
		t.Errorf("the reads keep %d threads", more)
	}

	wake()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := d.Load(ctx, "certificates/app.test")
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) { // the connection to its server was aborted
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it answers again, and nobody reads: %v", err)
		}
	}
}

// threads counts the process's.
func threads(t *testing.T) (n int) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(status, []byte("\nThreads:"))
	if _, err := fmt.Sscan(string(rest), &n); err != nil {
		t.Fatal(err)
	}
	return n
}
