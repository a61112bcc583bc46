package handshake

import (
	"net"
	"sync"
	"time"
)

// rejections remembers for a while who rejected us, so that the next success of the same client can be told as what it
// is, and who did not, so that a connection that this client leaves unused is none. A client is the same with the same
// address, name and fingerprint: several programs may come from one address.
type rejections struct {
	mu       sync.Mutex
	last     map[client]rejection
	accepted map[client]time.Time
}

type client struct{ host, name, fingerprint string }

type rejection struct {
	id uint64
	at time.Time
}

const (
	rejectionMemory  = 2 * time.Minute
	acceptanceMemory = 10 * time.Minute // browsers keep unused connections for so long
	maxRejections    = 4096
)

func clientOf(e *Event) (client, bool) {
	host, _, err := net.SplitHostPort(e.Remote)
	return client{host, e.SNI, e.JA4}, err == nil && e.JA4 != ""
}

// relate notes a rejection by the client, and says which one came before a success; nil if none did.
func (r *rejections) relate(e *Event) *Earlier {
	key, ok := clientOf(e)
	if !ok || e.Outcome == NotTLS {
		return nil
	}

	r.mu.Lock()
	defer r.mu.Unlock()

	if e.rejected() {
		if r.last == nil || len(r.last) >= maxRejections {
			// Starting over bounds the memory, at the price of some remarks that are not made.
			r.last = map[client]rejection{}
		}
		r.last[key] = rejection{e.ID, e.Start}
		// A client that rejects us now has lost its trust, for example after padlock untrust.
		delete(r.accepted, key)
		return nil
	}

	if e.Outcome != Complete {
		return nil
	}
	if r.accepted == nil || len(r.accepted) >= maxRejections {
		r.accepted = map[client]time.Time{}
	}

	r.accepted[key] = e.Start
	before, ok := r.last[key]
	// A resumed session says nothing about trust: the certificate was not looked at again.
	if !ok || e.Resumed {
		return nil
	}

	delete(r.last, key)
	ago := e.Start.Sub(before.at)
	if ago < 0 || ago > rejectionMemory {
		return nil
	}

	return &Earlier{before.id, ago}
}

// rejected reports whether a handshake failed by the client's doing after it was shown a certificate.
func (e *Event) rejected() bool {
	return e.Outcome == Failed && e.Failure != nil && e.Failure.By == Client && e.Certificate != nil
}

// trusted reports whether the client has accepted our certificate a short time ago.
func (r *rejections) trusted(e *Event) bool {
	key, ok := clientOf(e)
	if !ok {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.accepted[key]
	return ok && e.Start.Sub(at).Abs() < acceptanceMemory
}
