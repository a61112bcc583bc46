//go:build race || poison

package coding

import (
	"bytes"
	"testing"
)

// In builds that poison, whoever uses an encoder's room after giving it back is found, and what the library
// remembers was overwritten.
func TestAnEncoderThatWasGivenBackIsPoisoned(t *testing.T) {
	found := false
	for n := 0; n < 200 && !found; n++ {
		func() {
			defer func() { found = recover() != nil }()
			e := NewEncoder("gzip", Default)
			room := e.Room()
			_ = e.Write([]byte("secret of one client"))
			_ = e.Close()
			e.Release()
			if bytes.Contains(e.out[:cap(e.out)], []byte("secret")) {
				t.Error("what was encoded is still there")
			}
			room[3] = 'x'
			NewEncoder("gzip", Default)
		}()
	}
	if !found {
		t.Error("an encoder whose room was written to after it was given back was lent again")
	}
}
