package localca

import (
	"path/filepath"
	"sync"
	"testing"
	"time"

	"padlock/internal/servicetest"
)

// Where the file of the root is on a server that does not answer any more, handshakes go on with what was read.
func TestAFileThatDoesNotAnswerKeepsNoHandshakeWaiting(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	handshakes := func() time.Duration {
		began := time.Now()
		for range 3 {
			ca.looked.Store(0)
			var all sync.WaitGroup
			for range 50 {
				all.Go(func() {
					if _, err := ca.Leaf("app.test"); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
		}
		return time.Since(began)
	}
	usual := handshakes()
	servicetest.DeadMountOn(t, filepath.Join(dir, "localca"))
	if took := handshakes(); took > 5*usual+3*time.Second {
		t.Errorf("handshakes took %s, and %s while the server answered", took, usual)
	}
}
