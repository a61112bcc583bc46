//go:build unix

package socket

import (
	"errors"
	"syscall"
	"testing"
)

// A look takes nothing: what is there is read afterwards. It tells silence, a byte and the end apart, and does not wait.
func TestALookTakesNothing(t *testing.T) {
	near, far := pair(t)
	look := func(wait bool) (n int, err error) {
		// The poller calls again when there is something.
		if failed := near.raw.Read(func(fd uintptr) bool {
			n, err = Peek(fd)
			return !wait || !errors.Is(err, syscall.EAGAIN)
		}); failed != nil {
			t.Fatal(failed)
		}
		return n, err
	}

	if n, err := look(false); n != 0 || !errors.Is(err, syscall.EAGAIN) {
		t.Error(n, err)
	}
	if _, err := far.Write([]byte("ab")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if n, err := look(true); n != 1 || err != nil {
			t.Error(n, err)
		}
	}
	if n, err := near.Read(make([]byte, 9)); n != 2 || err != nil {
		t.Error(n, err)
	}
	far.Close()
	if n, err := look(true); n != 0 || err != nil {
		t.Error(n, err)
	}
}
