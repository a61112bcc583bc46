package quota

import (
	"hash/maphash"
	"sync"
	"time"
)

// Rate limits how often each of many clients does something, by the generic cell rate algorithm (ITU-T I.371): a client
// that has waited long enough may do it burst times at once, and then once each per/requests. It is safe for use from
// many goroutines.
//
//	login := quota.NewRate(5, time.Minute, 5)
//	if left, wait, ok := login.Take("192.0.2.1"); !ok { … } // again after wait
type Rate struct {
	every  time.Duration // between two
	burst  time.Duration // how far ahead of the even pace a client may be
	began  time.Time
	seed   maphash.Seed
	shards [shards]shard
}

const (
	shards = 64
	// MaxClients is how many clients a Rate remembers. Beyond that, one that it has forgotten begins anew.
	MaxClients = 1 << 20
)

// shard has some of the clients: when each would be even with the pace, since the beginning.
type shard struct {
	mu    sync.Mutex
	due   map[uint64]time.Duration
	swept time.Duration
}

// NewRate allows requests in each span of per, of which burst may come at once. All are above zero.
func NewRate(requests int, per time.Duration, burst int) *Rate {
	every := max(per/time.Duration(requests), 1)
	return &Rate{every: every, burst: every * time.Duration(burst), began: time.Now(), seed: maphash.MakeSeed()}
}

// Take counts one of a client's. left is how many more it may do at once; where it may not do this one, wait says when
// it may.
func (r *Rate) Take(client string) (left int, wait time.Duration, ok bool) {
	// The seed is random, so nobody can choose names that collide.
	key := maphash.String(r.seed, client)
	s := &r.shards[key%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Since(r.began)
	due, known := s.due[key]
	due = max(due, now) + r.every
	if wait := due - r.burst - now; wait > 0 {
		return 0, wait, false
	}
	if !known {
		s.makeRoom(now)
	}

	s.due[key] = due
	return int((r.burst - (due - now)) / r.every), 0, true
}

// makeRoom forgets those that are even with the pace, as unknown ones are, and if there are none, somebody.
func (s *shard) makeRoom(now time.Duration) {
	if s.due == nil {
		s.due = map[uint64]time.Duration{}
	}
	if len(s.due) < MaxClients/shards {
		return
	}

	// A sweep looks at all entries, so it runs once a second at most.
	if now-s.swept > time.Second {
		s.swept = now
		for key, due := range s.due {
			if due <= now {
				delete(s.due, key)
			}
		}
	}

	for key := range s.due {
		if len(s.due) < MaxClients/shards {
			return
		}
		delete(s.due, key)
	}
}
