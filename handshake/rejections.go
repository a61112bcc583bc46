package handshake

import (
	"net"
	"sync"
	"time"
)

// rejections remembers for a while who rejected us, so that the next success of the same client can be told as what it is.
type rejections struct {
	mu   sync.Mutex
	last map[rejected]rejection
}

type rejected struct{ host, name string }

type rejection struct {
	id uint64
	at time.Time
}

const (
	rejectionMemory = 2 * time.Minute
	maxRejections   = 4096
)

// relate notes a rejection by the client, and says which one came before a success; nil if none did.
func (r *rejections) relate(e *Event) *Earlier {
	host, _, err := net.SplitHostPort(e.Remote)
	if err != nil || e.Outcome == NotTLS {
		return nil
	}
	key := rejected{host, e.SNI}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Outcome == Failed && e.Failure != nil && e.Failure.By == Client && e.Certificate != nil {
		if r.last == nil || len(r.last) >= maxRejections {
			r.last = map[rejected]rejection{}
		}
		r.last[key] = rejection{e.ID, e.Start}
		return nil
	}
	before, ok := r.last[key]
	if !ok || e.Outcome != Complete || e.Resumed {
		return nil
	}
	delete(r.last, key)
	ago := e.Start.Sub(before.at)
	if ago < 0 || ago > rejectionMemory {
		return nil
	}
	return &Earlier{before.id, ago}
}
