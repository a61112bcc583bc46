package coding

import (
	"io"

	"github.com/andybalholm/brotli"
	"github.com/andybalholm/brotli/matchfinder"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"padlock/internal/pool"
)

// Level is how much work an encoder does for smaller content.
type Level int

// The levels.
const (
	Default Level = iota
	Fast
	Best
)

// Levels are the names of levels.
var Levels = map[string]Level{"fast": Fast, "default": Default, "best": Best}

const (
	roomSize = 16 << 10
	mib      = 1 << 20
)

// method is one coding at one level.
type method struct {
	memory int64 // of an encoder, as measured by TestEncodersTakeTheMemoryThatTheySay
	make   func() writer
}

// writer is an encoder of one of the libraries. None of them starts a goroutine.
type writer interface {
	io.WriteCloser
	Reset(io.Writer)
}

var methods = map[string][]method{
	"gzip": {Default: {5 * mib / 4, gzipAt(5)}, Fast: {mib, gzipAt(1)}, Best: {5 * mib / 4, gzipAt(8)}},
	"zstd": {
		Default: {5 * mib / 2, zstdAt(zstd.SpeedDefault, 256<<10)}, Fast: {mib, zstdAt(zstd.SpeedFastest, 128<<10)},
		Best: {6 * mib, zstdAt(zstd.SpeedBetterCompression, 512<<10)},
	},
	"br": {
		Default: {3 * mib, brotliBy(func() matchfinder.MatchFinder { return &matchfinder.ZM{MaxDistance: brotliWindow} })},
		Fast:    {3 * mib, brotliBy(func() matchfinder.MatchFinder { return &matchfinder.ZM{MaxDistance: brotliWindow} })},
		Best:    {6 * mib, brotliBy(func() matchfinder.MatchFinder { return &matchfinder.Trio{MaxDistance: brotliWindow} })},
	},
}

func gzipAt(level int) func() writer {
	return func() writer {
		w, err := gzip.NewWriterLevel(nil, level)
		if err != nil {
			// The level is one of padlock's own, so an error is a mistake in this package.
			panic(err)
		}
		return w
	}
}

// zstdAt has a window that every client accepts: browsers refuse more than 8 MiB (RFC 9659). One encoder at a time
// is one that starts no goroutine.
func zstdAt(level zstd.EncoderLevel, window int) func() writer {
	return func() writer {
		w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithZeroFrames(true))
		if err != nil {
			panic(err) // the options are ours
		}
		return w
	}
}

const (
	brotliWindow = 256 << 10
	brotliBlock  = 64 << 10
)

func brotliBy(find func() matchfinder.MatchFinder) func() writer {
	return func() writer {
		return &matchfinder.Writer{MatchFinder: find(), Encoder: &brotli.Encoder{}, BlockSize: brotliBlock}
	}
}

// Flushes reports whether an encoder of a coding has Flush. That of Brotli cannot end a part at a byte.
func Flushes(coding string) bool { return coding != "br" }

// Memory is what an encoder takes.
func Memory(coding string, level Level) int64 { return methods[coding][level].memory }

// Encoder encodes one content. It belongs to one goroutine, which gives it back by Release once it has taken
// everything; one that is not given back is left to the collector. No goroutine, callback or timer has it.
type Encoder struct {
	room   [roomSize]byte
	method *method
	from   *pool.Pool[Encoder]
	w      writer
	out    []byte
	taken  int // of out
}

// pools has one for each method.
var pools = func() map[string][]*pool.Pool[Encoder] {
	all := map[string][]*pool.Pool[Encoder]{}
	for coding, levels := range methods {
		for range levels {
			all[coding] = append(all[coding], pool.Of(func(e *Encoder) []byte { return e.room[:] }))
		}
	}
	return all
}()

// NewEncoder returns an encoder of one of the codings in All.
func NewEncoder(coding string, level Level) *Encoder {
	from := pools[coding][level]
	e := from.Get()
	if e.w == nil {
		e.from, e.method = from, &methods[coding][level]
		e.w = e.method.make()
	}

	e.out, e.taken = e.out[:0], 0
	e.w.Reset(appender{e})
	return e
}

// appender is where the library writes to.
type appender struct{ e *Encoder }

// Write implements io.Writer.
func (a appender) Write(p []byte) (int, error) {
	a.e.out = append(a.e.out, p...)
	return len(p), nil
}

// Room is where content may be read to, for the next Write.
func (e *Encoder) Room() []byte { return e.room[:] }

// Write encodes content. What comes of it may be taken then, or later.
func (e *Encoder) Write(p []byte) error {
	_, err := e.w.Write(p)
	return err
}

// Flush makes all that was written available.
func (e *Encoder) Flush() error { return e.w.(interface{ Flush() error }).Flush() }

// Close ends the content.
func (e *Encoder) Close() error { return e.w.Close() }

// Pending is how much can be taken.
func (e *Encoder) Pending() int { return len(e.out) - e.taken }

// Take moves what was encoded to p.
func (e *Encoder) Take(p []byte) int {
	n := copy(p, e.out[e.taken:])
	if e.taken += n; e.taken == len(e.out) {
		e.out, e.taken = e.out[:0], 0
	}
	return n
}

// keptOut is how much room for output an encoder keeps: more than a block makes.
const keptOut = 256 << 10

// Release gives the encoder back. Nobody may use it afterwards.
func (e *Encoder) Release() {
	if cap(e.out) > keptOut {
		e.out = nil
	}
	if pool.Poisoned {
		e.poison()
	}
	e.from.Put(e)
}

// poison overwrites what the library remembers of the content.
func (e *Encoder) poison() {
	out := e.out[:cap(e.out)]
	for i := range out {
		out[i] = 0xdb
	}

	e.w.Reset(io.Discard)
	filler := make([]byte, roomSize)
	for i := range filler {
		filler[i] = 0xdb
	}
	for range brotliWindow/roomSize + 1 {
		_, _ = e.w.Write(filler)
	}
	_ = e.w.Close()
}
