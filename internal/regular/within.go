package regular

import (
	"fmt"
	"path/filepath"
	"sync"
	"time"
)

// Patience is how long a file may keep its reader waiting.
const Patience = 10 * time.Second

// Within does something to a file, and returns an error that wraps ErrSilent if that takes longer than Patience. What
// was begun goes on then by itself, as nobody can take a system call back from the kernel, and its result is dropped;
// do must not touch what others use.
//
// A directory with a file that keeps somebody waiting is not asked again at once: each attempt would cost another of
// the operating system's threads. The pauses between attempts grow with the time that it has been silent.
func Within[T any](name string, do func() (T, error)) (T, error) {
	return within(&silences, Patience, name, do)
}

func within[T any](s *silence, patience time.Duration, name string, do func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	directory := filepath.Dir(name)
	// Each attempt on a hung file server costs a thread that cannot be taken back.
	if !s.admits(directory, time.Now()) {
		var none T
		return none, fmt.Errorf("%s %w", name, ErrSilent)
	}

	done := make(chan result, 1)
	// When the answer comes after all, the directory may be asked again at once.
	go func() {
		value, err := do()
		done <- result{value, err}
	}()

	timer := time.NewTimer(patience)
	defer timer.Stop()

	select {
	case r := <-done:
		s.answered(directory)
		return r.value, r.err
	case <-timer.C:
	}

	s.silent(directory, time.Now(), patience)
	go func() {
		<-done
		s.answered(directory)
	}()

	var none T
	return none, fmt.Errorf("%s %w", name, ErrSilent)
}

// silence knows the directories that do not answer. There is one for the process, as its threads are what is to be
// saved.
type silence struct {
	mu          sync.Mutex
	directories map[string]*pauses
}

type pauses struct {
	since, next time.Time
}

var silences silence

// admits reports whether a directory may be asked, and makes whoever comes next wait where it is silent.
func (s *silence) admits(directory string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.directories[directory]
	if p == nil {
		return true
	}
	if now.Before(p.next) {
		return false
	}
	// The pause doubles with each attempt, as the time since the beginning has doubled by then.
	p.next = now.Add(now.Sub(p.since))
	return true
}

func (s *silence) silent(directory string, now time.Time, patience time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.directories == nil {
		s.directories = map[string]*pauses{}
	}
	if s.directories[directory] == nil {
		s.directories[directory] = &pauses{since: now.Add(-patience), next: now.Add(patience)}
	}
}

func (s *silence) answered(directory string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.directories, directory)
}
