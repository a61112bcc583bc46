package gateway

import (
	"errors"
	"net/netip"
	"slices"
	"sync"

	"padlock/proxy/message"
	"padlock/proxy/paths"
)

// errRules is why what is open ends after a reload.
var errRules = errors.New("the configuration has changed, and lets this client in no more")

// errMoved is why a tunnel ends whose client may not come from where it has moved to.
var errMoved = errors.New("the client has moved its connection to another address, and may not come from there")

// where is the address that a client counts by: where it has moved to, or where it was when its request began.
func (x *Exchange) where() netip.Addr {
	if moved := x.moved.Load(); moved != nil {
		return *moved
	}
	return x.addr
}

// follow notes where a client is now, and reports whether it has moved. One that a trusted proxy named is unknown if
// the connection comes from another place.
func (x *Exchange) follow(now *message.Conn) bool {
	before := x.at.Swap(now)
	if before == nil {
		before = x.request.Conn
	}
	if before.Addr == now.Addr {
		return false
	}

	addr := now.Addr
	if x.forwarded.trusted {
		addr = netip.Addr{}
	}
	x.moved.Store(&addr)
	return true
}

// A fate is what another configuration has for what is open.
type fate uint8

const (
	stays   fate = iota
	gone         // nothing is there any more: nobody says that the client may not come
	refused      // its address, certificate, password or path is refused
)

// again judges a request by another snapshot, as admit and what follows it have judged it by its own.
func (x *Exchange) again(now *Routes) fate {
	found := now.Hosts(x.request.Conn.Listener).Named(x.name)
	if found == nil || found.TCP != nil {
		return gone
	}
	if x.request.Conn.Plain && !found.Plain || !found.Policy.Still(x.request.Conn) {
		return refused
	}

	path, err := paths.Parse(x.target, found.Paths)
	if err != nil {
		return refused
	}
	// The target as it came is judged, and not what rewriting has made of it.
	asker := standing{x}
	route, allowed := found.Route(x.request.Method, &path, asker)
	switch {
	case route == nil && len(allowed) == 0:
		return gone
	case route == nil, found.Ambiguous(x.request.Method, &path, route, asker):
		return refused
	case !found.Access.Admits(x.where()) || !route.Access.Admits(x.where()):
		return refused
	case !x.proof.holds(found, route):
		return refused
	case (route.Group == nil) != (x.route.Group == nil), (route.Files == nil) != (x.route.Files == nil):
		return gone
	}
	return stays
}

// errElsewhere is for a request whose answer was to come from where its address does not lead any more.
var errElsewhere = busy(503, "What answers at this address has changed in the meantime")

// begins judges a request that may have waited before it goes to its target, or gets its file: by the rules that hold
// now. One that has begun is finished where its site or route is gone; one that has not is answered as a new one would
// be, or asked to come again.
func (x *Exchange) begins(now *Routes) error {
	if now == x.routes {
		return nil
	}
	switch x.again(now) {
	case refused:
		return errDismissed
	case gone:
		if now.Hosts(x.request.Conn.Listener).Named(x.name) == nil {
			return errMisdirected
		}
		return errElsewhere
	}
	if m := now.Hosts(x.request.Conn.Listener).Named(x.name).Maintenance; m != nil {
		return x.inMaintenance(m)
	}
	return nil
}

// standing is a request as conditions of routes see it when it is judged again, by goroutines that are not its own: it
// draws no number any more.
type standing struct{ *Exchange }

// Draw implements sites.Asker: the number that the client had when its request began. One that had none is with those
// who are in no share, and not there by chance.
func (s standing) Draw() float64 {
	if s.draw > 0 {
		return s.draw
	}
	if n, ok := s.drawnBefore(); ok {
		return n
	}
	return percentOf(draws - 1)
}

// underway are the requests that are being forwarded or get a file, until their responses have been sent. Each ends when a new
// snapshot refuses it, wherever it waits: for its client's content, for its target, or for the next event of a stream.
type underway struct {
	mu   sync.Mutex
	open []*Exchange // each knows its place
}

// add notes a request that ctx ends. It returns an error where another snapshot has come since the request was let in,
// and has another answer for it.
func (u *underway) add(ctx *message.Context, x *Exchange, routes func() *Routes) error {
	// Added before the snapshot is compared: a reload in between either sees the request, or is seen here.
	u.mu.Lock()
	u.open = append(u.open, x)
	x.ctx, x.content, x.place, x.group = ctx, x.request.Body, len(u.open)-1, x.route.Group
	u.mu.Unlock()

	// A snapshot that is published meanwhile is followed as well.
	return x.begins(routes())
}

// remove forgets a request, if it is there. Its context is not ended from then on: it may be another request's.
func (u *underway) remove(x *Exchange) {
	// Only this goroutine sets the field, so it is read without the lock.
	if x.ctx == nil {
		return
	}
	u.mu.Lock()
	end := len(u.open) - 1
	// The last one takes the place, as the order does not matter and a search would take longer.
	last := u.open[end]
	last.place, u.open[x.place], u.open[end] = x.place, last, nil
	u.open, x.ctx = u.open[:end], nil
	u.mu.Unlock()
	// Afterwards the content belongs to the connection again.
	x.closing.Wait()
}

// follow ends the requests that a new snapshot refuses, and returns how many. Those whose site or route is gone are
// finished.
func (u *underway) follow(now *Routes) (ended int) {
	u.mu.Lock()
	all := slices.Clone(u.open)
	u.mu.Unlock()

	// The work is done without the lock, which requests would wait for.
	for _, x := range all {
		if x.again(now) == refused && u.dismiss(x) {
			ended++
		}
	}
	return ended
}

// dismiss ends a request, unless it has ended.
func (u *underway) dismiss(x *Exchange) bool {
	u.mu.Lock()
	if x.ctx == nil {
		u.mu.Unlock()
		return false
	}

	x.dismissed.Store(true)
	x.ctx.Cancel()
	// remove waits for this, so that the content is not closed when it belongs to another request.
	x.closing.Add(1)
	defer x.closing.Done()
	u.mu.Unlock()
	if x.content != nil {
		// Whoever waits for a Read of it sees no end of a context.
		_ = x.content.Close()
	}

	return true
}

// follow ends the tunnels that a new snapshot does not let in, and returns how many.
func (t *tunnels) follow(now *Routes) (ended int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for v := range t.open {
		if v.again(now) != stays {
			v.dismissed.Store(true)
			// A client that does not read keeps this goroutine waiting.
			v.speaking.Go(v.end)
			ended++
		}
	}
	return ended
}
