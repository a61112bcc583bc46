// Package pool lends buffers of bytes, and nothing else: what is lent never leaves its borrower, who gives it back
// when nobody reads or writes it any more.
//
//	var rooms = pool.Of(func(r *[4 << 10]byte) []byte { return r[:] })
//	room := rooms.Get()
//	defer rooms.Put(room)
//
// Objects that a callback, a timer or another goroutine may still hold are not pooled anywhere. In builds with the
// race detector, and with the build tag poison, a buffer is overwritten when it is given back, and looked at before
// it is lent again: whoever still reads it sees nothing of anybody else's, and whoever still writes to it, or gives
// it back twice, is found.
package pool

import (
	"bytes"
	"sync"
)

// Pool lends buffers of type T. It is safe for use from many goroutines.
type Pool[T any] struct {
	content func(*T) []byte
	free    sync.Pool
}

// Of returns a pool of buffers; content is all of a buffer's memory.
func Of[T any](content func(*T) []byte) *Pool[T] { return &Pool[T]{content: content} }

// Get lends a buffer, whatever is in it.
func (p *Pool[T]) Get() *T {
	buffer, ok := p.free.Get().(*T)
	if !ok {
		return new(T)
	}
	if Poisoned {
		content := p.content(buffer)
		checkPoison(content)
		if len(content) > 0 {
			// Mark the buffer as lent, so that it is not taken for one that was given back.
			content[0] = lent
		}
	}
	return buffer
}

// Put takes a buffer back. Nobody may use it afterwards.
func (p *Pool[T]) Put(buffer *T) {
	if Poisoned {
		poison(p.content(buffer))
	}
	p.free.Put(buffer)
}

// pattern is what a buffer that was given back is filled with: no HTTP, no frame and no text.
var pattern = bytes.Repeat([]byte{0xdb}, 4<<10)

const lent = 0x5a

func poison(b []byte) {
	for len(b) > 0 {
		b = b[copy(b, pattern):]
	}
}

func checkPoison(b []byte) {
	for len(b) > 0 {
		n := min(len(b), len(pattern))
		if !bytes.Equal(b[:n], pattern[:n]) {
			panic("pool: a buffer was written to, or lent to somebody else, after it was given back")
		}
		b = b[n:]
	}
}
