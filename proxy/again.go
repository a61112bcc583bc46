package proxy

import (
	"errors"
	"time"

	"padlock/proxy/message"
	"padlock/proxy/paths"
)

// errRules is why what is open ends after a reload.
var errRules = errors.New("the configuration has changed, and lets this client in no more")

// A fate is what another configuration has for what is open.
type fate uint8

const (
	stays   fate = iota
	gone         // nothing is there any more: nobody says that the client may not come
	refused      // its address, certificate, password or path is refused
)

// again judges a request by another state, as admit has judged it by its own. A password is not compared anew: its hash must be the same.
func (x *exchange) again(now *state) fate {
	found := now.table(x.request.Conn.Listener).named(x.name)
	if found == nil || found.tcp != nil {
		return gone
	}
	if !found.policy.still(x.request.Conn) {
		return refused
	}

	path, err := paths.Parse(x.target, found.paths)
	if err != nil {
		return refused
	}
	route, allowed := found.route(x.request.Method, &path)
	switch {
	case route == nil && len(allowed) == 0, route != nil && route.group == nil:
		return gone
	case route == nil, found.ambiguous(x.request.Method, &path, route):
		return refused
	case !found.access.admits(x.addr) || !route.access.admits(x.addr):
		return refused
	}
	basic := route.basic(found)
	if basic != nil && (x.user == "" || basic.users[x.user] != x.hash) {
		return refused
	}
	return stays
}

// basic is whose passwords a route of a site asks for, nil where nobody's.
func (r *route) basic(of *site) *basicAuth {
	if r.access.basic != nil {
		return r.access.basic
	}
	return of.access.basic
}

// still reports whether a connection that was made under another policy would have been let in by this one.
func (p *tlsPolicy) still(facts *message.Conn) bool {
	if p == facts.Policy || p.auth == nil || facts.TLS == nil {
		return true
	}
	one := &guard{facts: facts, policies: []*tlsPolicy{p}, verified: !facts.Until.IsZero()}
	_, passes := one.judge(time.Now())
	return passes
}

// again judges a connection of a service by another state.
func (c *stream) again(now *state) fate {
	table := now.table(c.facts.Listener)
	found := table.asked(c.name, c.facts.Local)
	switch {
	case found == nil || found.tcp == nil:
		return gone
	case found.tcp.passthrough != c.site.passthrough, !found.policy.still(c.facts), !found.access.admits(c.facts.Addr):
		return refused
	}
	return stays
}

// follow ends the tunnels that a new state does not let in, and returns how many.
func (t *tunnels) follow(now *state) (ended int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for v := range t.open {
		if v.again(now) != stays {
			v.dismissed.Store(true)
			v.speaking.Go(v.end) // a client that does not read keeps it waiting
			ended++
		}
	}
	return ended
}

// follow is that of tunnels, for services.
func (s *streams) follow(now *state) (ended int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.again(now) != stays {
			c.interrupt(errRules)
			ended++
		}
	}
	return ended
}
