package proxy

import (
	"slices"
	"strings"
	"sync"
)

// waits are what the end of a server waits for. It is safe for use from many goroutines.
type waits struct {
	mu    sync.Mutex
	names []string
}

// during waits for something that has a name.
func (w *waits) during(name string, wait func()) {
	w.mu.Lock()
	w.names = append(w.names, name)
	w.mu.Unlock()
	wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	at := slices.Index(w.names, name)
	w.names = slices.Delete(w.names, at, at+1)
}

// Ending names what the end of Serve waits for now. It may be called at any time.
func (s *Server) Ending() string {
	s.waits.mu.Lock()
	defer s.waits.mu.Unlock()
	if len(s.waits.names) == 0 {
		return "the proxy"
	}
	return "the proxy (" + strings.Join(slices.Sorted(slices.Values(s.waits.names)), ", ") + ")"
}
