package http2

import (
	"slices"
	"sync"
)

// turns are the streams that wait for the window of their connection, in the order in which they came. It is often
// enough for one of them alone, so one is woken at a time: when that has sent a frame, it waits behind the others, or has
// sent all, and the next is woken. A stream whose own window is used up waits for that, and in no line. The connection's
// lock guards them. The zero value is ready.
type turns struct{ waiting []turn }

type turn struct {
	stream *sync.Cond
	window *int64 // of the stream itself
}

// join has a stream wait behind those that do, unless it waits already.
func (t *turns) join(stream *sync.Cond, window *int64) {
	if !slices.ContainsFunc(t.waiting, func(other turn) bool { return other.stream == stream }) {
		t.waiting = append(t.waiting, turn{stream, window})
	}
}

// leave takes a stream out, if it waits.
func (t *turns) leave(stream *sync.Cond) {
	t.waiting = slices.DeleteFunc(t.waiting, func(other turn) bool { return other.stream == stream })
}

// first is the stream whose turn it is; nil: none waits that could send. The window of a stream may have become smaller
// than nothing while it waits.
func (t *turns) first() *sync.Cond {
	for _, other := range t.waiting {
		if *other.window > 0 {
			return other.stream
		}
	}
	return nil
}

// isFor reports whether a stream need not wait for others.
func (t *turns) isFor(stream *sync.Cond) bool {
	first := t.first()
	return first == nil || first == stream
}

// next wakes the stream whose turn it is, if the window of the connection lets it send. Whoever leaves something of the
// window calls it, before it waits and when it has ended.
func (t *turns) next(window int64) {
	if window > 0 {
		if first := t.first(); first != nil {
			first.Broadcast()
		}
	}
}
