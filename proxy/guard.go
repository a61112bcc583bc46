package proxy

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"padlock/proxy/message"
	"padlock/proxy/sites"
)

// guards are the open connections of sites that ask for client certificates. A connection lasts for longer than what
// its handshake has found: a certificate or a list expires, and another list revokes. So all of them are judged again
// when the configuration or a file changes, and closed at the end of what their certificates prove, whatever is open on
// them. It is safe for use from many goroutines.
type guards struct {
	mu    sync.Mutex
	open  map[*guard]struct{}
	first time.Time // before which none of them ends; zero: none does
}

// guard is one connection.
type guard struct {
	facts    *message.Conn
	policies []*sites.Policy // whose every judgement it must pass: of all hosts that it may have been made for
	verified bool            // the client has shown a good certificate
	until    time.Time       // zero: nothing ends
	end      context.CancelCauseFunc
	close    func()
}

// errOver is why a connection ends.
var errOver = errors.New("the client's certificate is no longer good for this site")

// add notes a connection whose handshake has ended, and gives it its Standing. closing must not block.
func (g *guards) add(s *Server, facts *message.Conn, closing func()) *guard {
	made, _ := facts.Policy.(*sites.Policy)
	c := &guard{facts: facts, policies: []*sites.Policy{made}, until: facts.Until, verified: !facts.Until.IsZero(), close: closing}
	facts.Standing, c.end = context.WithCancelCause(context.Background())

	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == nil {
		g.open = map[*guard]struct{}{}
	}

	g.open[c] = struct{}{}
	current := s.current.Load()
	// A reload came during the handshake, and does not know of this connection.
	if !current.Has(made) {
		c.policies = nil
		if asked := current.Hosts(facts.Listener).Asked(facts.TLS.ServerName, facts.Local); asked != nil {
			c.policies = []*sites.Policy{asked.Policy}
		}
		until, passes := c.judge(time.Now())
		if c.until = until; !passes {
			c.over()
			delete(g.open, c)
		}
	}

	g.note(c.until)
	return c
}

// note is called with the lock held.
func (g *guards) note(until time.Time) {
	if !until.IsZero() && (g.first.IsZero() || until.Before(g.first)) {
		g.first = until
	}
}

// remove forgets a connection that has ended.
func (g *guards) remove(c *guard) {
	g.mu.Lock()
	delete(g.open, c)
	g.mu.Unlock()
	c.end(context.Canceled)
}

// expire ends the connections of which nothing is proved any more, and returns how many.
func (g *guards) expire(now time.Time) (ended int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.first.IsZero() || !now.After(g.first) {
		return 0
	}

	g.first = time.Time{}
	for c := range g.open {
		if !c.until.IsZero() && now.After(c.until) {
			c.over()
			delete(g.open, c)
			ended++
		} else {
			g.note(c.until)
		}
	}

	return ended
}

// follow judges the connections by the snapshot that comes after an older one, ends those that do not pass, and returns
// how many. It is called by one goroutine at a time.
func (g *guards) follow(older, built *snapshot) (ended int) {
	successors := older.Successors(built.Snapshot)
	g.mu.Lock()
	all := slices.Collect(maps.Keys(g.open))
	g.mu.Unlock()

	// The work is done without the lock, which handshakes would wait for.
	for _, c := range all {
		next := c.after(successors, built)
		if slices.Equal(next, c.policies) {
			continue
		}
		c.policies = next
		until, passes := c.judge(time.Now())
		g.mu.Lock()
		c.until = until
		if passes {
			g.note(until)
		} else {
			delete(g.open, c)
		}

		g.mu.Unlock()

		if !passes {
			c.over()
			ended++
		}
	}

	return ended
}

// after are the policies of the hosts that the connection may have been made for, in a new snapshot.
func (c *guard) after(successors map[*sites.Policy][]*sites.Policy, built *snapshot) (next []*sites.Policy) {
	for _, policy := range c.policies {
		now, known := successors[policy]
		// No host had the policy before, so the connection was made under the new snapshot.
		if !known && built.Has(policy) {
			now = []*sites.Policy{policy}
		}
		for _, p := range now {
			if !slices.Contains(next, p) {
				next = append(next, p)
			}
		}
	}
	return next
}

// judge reports whether the connection passes all its policies, and until when. Without any, all that it was made for
// is gone.
func (c *guard) judge(now time.Time) (until time.Time, passes bool) {
	return sites.Judge(c.facts, c.verified, c.policies, now)
}

// over ends the connection, and what is open on it.
func (c *guard) over() {
	c.end(errOver)
	c.close()
}

// logEnded logs how many connections were ended.
func (s *Server) logEnded(ended int) {
	if ended > 0 {
		s.deps.Log.Info("connections were closed, as their clients' certificates are no longer good", "connections", ended)
	}
}
