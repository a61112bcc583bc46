package proxy

import (
	"errors"

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

// again judges a request by another snapshot, as admit has judged it by its own. A password is not compared anew: its hash must be the same.
func (x *exchange) again(now *routing) fate {
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
	basic := route.basicAuth(found)
	if basic != nil && (x.user == "" || basic.users[x.user] != x.hash) {
		return refused
	}
	return stays
}

// dismisses reports whether the configuration has changed and refuses a request whose response may be an event stream, which has no end.
func (h *handler) dismisses(x *exchange) bool {
	now := h.state()
	if now == x.state {
		return false
	}
	x.state = now
	return x.again(now) == refused
}

// follow ends the tunnels that a new snapshot does not let in, and returns how many.
func (t *tunnels) follow(now *routing) (ended int) {
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
