package daemon

import (
	"os"
	"slices"
	"sync"
)

// successor is the padlock that takes the place of this one. A signal that comes while it starts, or later to this one,
// may be about a file that it has read before: it gets the signal too. It is safe for use from many goroutines.
type successor struct {
	mu       sync.Mutex
	starting bool
	missed   []os.Signal
	process  *os.Process // nil: none serves
}

// heard passes a signal on if there is somebody to whom.
func (s *successor) heard(signal os.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.process != nil:
		// One that has ended needs to know nothing.
		_ = s.process.Signal(signal)
	case s.starting && !slices.Contains(s.missed, signal):
		s.missed = append(s.missed, signal)
	}
}

// starts is called before it can have read anything.
func (s *successor) starts() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.starting, s.missed = true, nil
}

// serves is called with the process when it serves, or with nil where it does not.
func (s *successor) serves(process *os.Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.starting, s.process = false, process
	if process != nil {
		for _, signal := range s.missed {
			_ = process.Signal(signal)
		}
	}
	s.missed = nil
}
