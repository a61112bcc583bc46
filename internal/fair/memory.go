package fair

import (
	"net/netip"
	"sync"
)

// Memory is what all sources together may hold. Once half of it is in use, each gets a part only, as one that gives
// nothing back would hold what it has got. It is safe for use from many goroutines.
type Memory struct {
	total int64

	mu   sync.Mutex
	all  int64
	held Tally
}

// memoryPart is how much of all the memory a source may hold once half of it is in use.
const memoryPart = 8

// NewMemory returns memory of total bytes, all of it free.
func NewMemory(total int64) *Memory { return &Memory{total: total} }

// Total is how much there is.
func (m *Memory) Total() int64 { return m.total }

// Take counts n bytes more for a client. It reports false, and counts nothing, where that is too much.
func (m *Memory) Take(client netip.Addr, n int64) bool {
	from := Source(client)
	m.mu.Lock()
	defer m.mu.Unlock()
	if all := m.all + n; all > m.total || all > m.total/2 && m.held.With(from, n) > m.total/memoryPart {
		return false
	}
	m.all += n
	m.held.Add(from, n)
	return true
}

// Leave gives n bytes back.
func (m *Memory) Leave(client netip.Addr, n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all -= n
	m.held.Add(Source(client), -n)
}

// Sources is how many hold any.
func (m *Memory) Sources() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held.Sources()
}

// Share is what one connection may hold: some of its own, and beyond that what a Memory gives to its client. It is safe
// for use from many goroutines.
type Share struct {
	memory *Memory // nil: there is any amount
	client netip.Addr
	own    int64

	mu    sync.Mutex
	held  int64
	taken int64 // of the memory
}

// NewShare returns a share of which own bytes are the connection's, whatever others hold. Close ends it.
func NewShare(memory *Memory, client netip.Addr, own int64) *Share {
	return &Share{memory: memory, client: client, own: own}
}

// Take counts n bytes more. It reports false, and counts nothing, where that is too much.
func (s *Share) Take(n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if more := s.held + n - s.own - s.taken; more > 0 && s.memory != nil {
		if !s.memory.Take(s.client, more) {
			return false
		}
		s.taken += more
	}
	s.held += n
	return true
}

// Leave gives n bytes back.
func (s *Share) Leave(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held -= n
	s.leave(s.taken - max(0, s.held-s.own))
}

// Close gives back all that is left.
func (s *Share) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = 0
	s.leave(s.taken)
}

// leave is called with the lock held.
func (s *Share) leave(n int64) {
	if n > 0 {
		s.memory.Leave(s.client, n)
		s.taken -= n
	}
}
