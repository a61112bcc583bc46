package gateway

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
func (x *Exchange) again(now *Routes) fate {
	found := now.Hosts(x.request.Conn.Listener).Named(x.name)
	if found == nil || found.TCP != nil {
		return gone
	}
	if !found.Policy.Still(x.request.Conn) {
		return refused
	}

	path, err := paths.Parse(x.target, found.Paths)
	if err != nil {
		return refused
	}
	route, allowed := found.Route(x.request.Method, &path)
	switch {
	case route == nil && len(allowed) == 0, route != nil && route.Group == nil:
		return gone
	case route == nil, found.Ambiguous(x.request.Method, &path, route):
		return refused
	case !found.Access.Admits(x.addr) || !route.Access.Admits(x.addr):
		return refused
	}
	basic := route.BasicAuth(found)
	if basic != nil && (x.user == "" || basic.Users[x.user] != x.hash) {
		return refused
	}
	return stays
}

// dismisses reports whether the configuration has changed and refuses a request whose response may be an event stream, which has no end.
func (h *Gateway) dismisses(x *Exchange) bool {
	now := h.Routes()
	if now == x.routes {
		return false
	}
	x.routes = now
	return x.again(now) == refused
}

// follow ends the tunnels that a new snapshot does not let in, and returns how many.
func (t *tunnels) follow(now *Routes) (ended int) {
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
