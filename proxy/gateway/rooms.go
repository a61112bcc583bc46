package gateway

import (
	"cmp"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"padlock/internal/fair"
)

// rooms is the memory for what routes buffer, of all clients together. A client that sends content without its end, or
// reads none of its answers, holds what it has got, so each gets a part only; who gets none is served without a buffer.
// It is safe for use from many goroutines.
type rooms struct {
	memory *fair.Memory
	log    *slog.Logger

	mu     sync.Mutex
	warned time.Time // that there was too little
}

const warnEvery = time.Minute // between two lines in the log

func newRooms(total int64, log *slog.Logger) *rooms {
	return &rooms{memory: fair.NewMemory(total), log: log}
}

// take counts n bytes more for a client. It reports false, and counts nothing, where that is too much.
func (r *rooms) take(client netip.Addr, n int64) bool {
	if r.memory.Take(client, n) {
		return true
	}
	r.warn()
	return false
}

// leave gives n bytes back.
func (r *rooms) leave(client netip.Addr, n int64) { r.memory.Leave(client, n) }

func (r *rooms) warn() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); now.Sub(r.warned) >= warnEvery {
		r.warned = now
		r.log.Warn("content is passed on as it comes, although its route buffers or compresses it: the memory for that is in use", "limit", r.memory.Total(), "key", "limits.buffers", "clients", r.memory.Sources())
	}
}

// firstRoom is what most contents that come in pieces fit into.
const firstRoom = 16 << 10

// fill reads content into memory for a client, up to limit bytes, of which want are taken at once where there are as
// many. It returns what it has read when that is all there is room for, or a Read fails, and adds what it has taken to
// held, for leave.
func (r *rooms) fill(content io.Reader, client netip.Addr, held *int64, want, limit int64) (data []byte, err error) {
	for err == nil {
		if len(data) == cap(data) {
			// The buffer doubles, so that a large content is copied a few times only, and a small one takes little.
			size := min(cmp.Or(max(want, 2*int64(cap(data))), firstRoom), limit)
			more := size - int64(cap(data))
			if more <= 0 || !r.take(client, more) {
				return data, nil
			}
			*held += more
			data = append(make([]byte, 0, size), data...)
		}

		var n int
		n, err = content.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
	}
	return data, err
}
