package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"padlock/config"
	"padlock/proxy/message"
)

// Succession is what becomes of a group whose targets a deploy replaces. Its requests wait until Release, and go on to
// the group that this names. It is safe for use from many goroutines.
type Succession struct {
	limit   int64 // of requests that wait at once
	waiting atomic.Int64

	released chan struct{}
	next     *Group // read after released was closed; nil: the group goes on as it was
}

// NewSuccession has up to limit requests wait.
func NewSuccession(limit int) *Succession {
	return &Succession{limit: int64(limit), released: make(chan struct{})}
}

// Release lets all requests go on, from now on without waiting. It is called once for each group that the succession
// was given to, or for none of them with nil.
func (s *Succession) Release(next *Group) {
	s.next = next
	close(s.released)
}

// Waiting is how many requests wait.
func (s *Succession) Waiting() int { return int(s.waiting.Load()) }

// Succeed has the requests of a group follow a succession, those, too, that know the group from a snapshot of before.
func (g *Group) Succeed(s *Succession) { g.succession.Store(s) }

// Succeeded reports whether the group has a succession.
func (g *Group) Succeeded() bool { return g.succession.Load() != nil }

// ErrHeld is given where too many requests wait for a deploy, or one has waited for too long.
var ErrHeld = errors.New("too many requests wait for a deploy")

// maxHeld is for how long a request waits: longer than a deploy may hold it.
const maxHeld = 40 * time.Second

// Successor is the group that a request goes to in the place of this one, for which it may have to wait.
func (g *Group) Successor(ctx *message.Context) (*Group, error) {
	for {
		s := g.succession.Load()
		if s == nil {
			return g, nil
		}
		if err := s.wait(ctx); err != nil {
			return nil, err
		}
		if s.next == nil {
			return g, nil
		}
		// There may have been another deploy since.
		g = s.next
	}
}

func (s *Succession) wait(ctx *message.Context) error {
	select {
	case <-s.released:
		return nil
	default:
	}

	if s.waiting.Add(1) > s.limit {
		s.waiting.Add(-1)
		return ErrHeld
	}
	defer s.waiting.Add(-1)
	timer := time.NewTimer(maxHeld)
	defer timer.Stop()

	select {
	case <-s.released:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return ErrHeld
	}
}

// Probe asks every target of the group for its health, once, and says of the first that is unhealthy why.
func (g *Group) Probe(ctx context.Context, o config.Health) error {
	select {
	case <-g.first:
	case <-ctx.Done():
		return ctx.Err()
	}

	members := g.current.Load().members
	if len(members) == 0 {
		return ErrUnresolved
	}
	low, high, err := config.ParseStatuses(o.Status)
	if err != nil {
		return err
	}

	for _, m := range members {
		c := &checker{target: m.target, o: o, host: cmp.Or(o.Host, m.target.authority), low: low, high: high}
		if err := c.ask(ctx); err != nil {
			return fmt.Errorf("%s: %s", m.target.name, c.reason(err))
		}
	}
	return nil
}
