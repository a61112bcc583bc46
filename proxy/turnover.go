package proxy

import (
	"padlock/config"
	"padlock/proxy/upstream"
)

// RouteAt is the place of a route in a configuration.
type RouteAt struct{ Site, Route int }

// Turnover moves requests of routes from their targets to others. Its methods are called in this order: Hold, if at
// all; then, after a Reload in which the same routes stand at the same places with other targets, Switch, or else
// Abandon.
type Turnover struct {
	s      *Server
	routes []RouteAt
	old    []*upstream.Group
	moves  []*upstream.Succession // of each of old, once it has one
}

// Turnover begins one with what the routes have now.
func (s *Server) Turnover(routes []RouteAt) *Turnover {
	return &Turnover{s: s, routes: routes, old: s.groupsOf(routes)}
}

// groupsOf are the groups of routes, in their order.
func (s *Server) groupsOf(routes []RouteAt) (groups []*upstream.Group) {
	now := s.current.Load()
	for _, at := range routes {
		for _, r := range now.Sites[at.Site].Routes {
			if r.Config != nil && r.Number == at.Route {
				groups = append(groups, r.Group)
			}
		}
	}
	return groups
}

// Hold has new requests wait, up to a number for each route.
func (t *Turnover) Hold(limit int) {
	for _, g := range t.old {
		move := upstream.NewSuccession(limit)
		g.Succeed(move)
		t.moves = append(t.moves, move)
	}
}

// Held is how many requests wait.
func (t *Turnover) Held() (n int) {
	for _, move := range t.moves {
		n += move.Waiting()
	}
	return n
}

// Switch sends what waits, and what was let in before the Reload, to the new targets.
func (t *Turnover) Switch() {
	for i, next := range t.s.groupsOf(t.routes) {
		if i < len(t.moves) {
			t.moves[i].Release(next)
			continue
		}
		move := upstream.NewSuccession(0)
		move.Release(next)
		t.old[i].Succeed(move)
	}
}

// Abandon lets what waits go on to the old targets.
func (t *Turnover) Abandon() {
	for i, move := range t.moves {
		// Taken away first: who comes from now on finds the group as it was.
		t.old[i].Succeed(nil)
		move.Release(nil)
	}
}

// Open is how many requests and tunnels the old targets still have.
func (t *Turnover) Open() (requests, tunnels int) { return t.s.gateway.Open(t.old) }

// EndTunnels ends the tunnels of the old targets, those of WebSockets with a Close, and returns how many.
func (t *Turnover) EndTunnels() int { return t.s.gateway.EndTunnels(t.old) }

// Candidate makes a group of targets that no route has yet, as a route with these settings would reach them. Its Close
// lets go of them; a route that has them by then keeps their connections.
func (s *Server) Candidate(u *config.Upstream) (*upstream.Group, error) {
	return s.targets.Group(u, s.config().Timeouts)
}
