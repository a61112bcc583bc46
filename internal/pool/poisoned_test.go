//go:build race || poison

package pool

import "testing"

type four [4]byte

// What was given back is not read again, and a buffer that somebody still uses is not lent to others.
func TestWhatIsGivenBackIsPoisoned(t *testing.T) {
	p := Of(func(b *four) []byte { return b[:] })
	b := p.Get()
	copy(b[:], "text")
	p.Put(b)
	if string(b[:]) != "\xdb\xdb\xdb\xdb" {
		t.Errorf("%q is left", b[:])
	}
	found := false
	for n := 0; n < 1000 && !found; n++ { // with the race detector, sync.Pool forgets some
		func() {
			defer func() { found = recover() != nil }()
			p := Of(func(b *four) []byte { return b[:] })
			b := p.Get()
			p.Put(b)
			b[2] = 'x'
			p.Get()
		}()
	}
	if !found {
		t.Error("a buffer that was written to after it was given back was lent again")
	}
}

// A buffer that is given back twice is lent to one borrower only.
func TestWhatIsGivenBackTwiceIsFound(t *testing.T) {
	found := false
	for n := 0; n < 1000 && !found; n++ {
		func() {
			defer func() { found = recover() != nil }()
			p := Of(func(b *four) []byte { return b[:] })
			b := p.Get()
			p.Put(b)
			p.Put(b)
			p.Get()
			p.Get()
		}()
	}
	if !found {
		t.Error("one buffer was lent to two")
	}
}
