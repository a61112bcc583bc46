// Package upstream reaches backends: groups of targets, how one of them is chosen, their pools, their health, and what
// went wrong in plain words.
//
//	group, err := targets.Group(&route.Upstream, timeouts)
//	response, err := group.RoundTrip(ctx, request, interim, &attempt)
//	…; attempt.End(); group.Close()
package upstream

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"padlock/config"
	"padlock/proxy/http1"
	"padlock/proxy/http2"
	"padlock/proxy/message"
)

// Group is a route's targets. It is safe for use from many goroutines.
type Group struct {
	UpstreamHost bool // requests name the target as their host; set before use

	o        config.Upstream
	timeouts config.Timeouts
	trust    trust
	current  atomic.Pointer[set]
	targets  *Targets
	queue    queue
	budget   budget

	succession atomic.Pointer[Succession] // nil: no deploy has replaced the targets

	names    []string      // whose addresses are targets each, or come with their ports (SRV)
	first    chan struct{} // closed when all names have been asked for once
	end      context.CancelFunc
	watching sync.WaitGroup
}

// set is a group's targets at one time. It never changes.
type set struct {
	members []member
	balance balance
}

// member is a target's part in a group.
type member struct {
	target *Target
	weight int
}

// Attempt is one request's way to a target. The zero value is ready; it belongs to one request, which calls End when it
// has finished.
type Attempt struct {
	member  *member
	group   *Group
	from    netip.Prefix  // that the place counts for
	Retries int           // targets that were tried in vain
	Wait    time.Duration // for a place at a target
	Answer  time.Duration // from the place to the response's head, or to a connection

	// Chosen is called when a target was chosen, with the scheme that it is spoken to by and the authority of its
	// address, and may change the request's fields; its Host is what the target gets. Nil: it is not called.
	Chosen func(scheme, authority string)

	// Late is called for a target without a response timeout whose answer has taken LateAfter, with what may help or "".
	// It is called from another goroutine, possibly when the request has ended. Nil: it is not called.
	Late      func(target, help string)
	LateAfter time.Duration

	// Begin is called when the request has a target's place, for which it may have waited. The request goes nowhere if it
	// returns an error, which RoundTrip returns as well. Nil: it is not called.
	Begin func() error

	Follower Follower // nil: nobody follows the request
	Cookie   string   // Set-Cookie that makes the client stick, or ""
}

// Follower follows a request to its targets. Its methods are called in turn, by the request's goroutine.
type Follower interface {
	// Trying is called before the request goes to a target, whose place it has had since placed, and may change its fields.
	Trying(target *config.Target, placed time.Time)
	// Answered is called when the head of the response is there, as the target has sent it.
	Answered(response *message.Response)
	// Missed is called where none came.
	Missed(err *Error)
}

// Target names where the request went, or "".
func (a *Attempt) Target() string {
	if a.member == nil {
		return ""
	}
	return a.member.target.name
}

// Failed is a failure of the target that was chosen last, after its answer has begun.
func (a *Attempt) Failed(err error) *Error {
	if a.member == nil {
		return &Error{Err: err}
	}
	return &Error{Target: a.member.target.target, Err: err}
}

// Place is the scheme by which the request's target was spoken to, and the authority of its address.
func (a *Attempt) Place() (scheme, authority string) {
	t := a.member.target
	if scheme = "http"; t.target.Scheme == "https" {
		scheme = "https"
	}
	return scheme, t.authority
}

func (a *Attempt) hold(g *Group, m *member, f *filter) { a.group, a.member, a.from = g, m, f.from }

// End gives the target's place back. It may be called more than once.
func (a *Attempt) End() {
	g := a.group
	if g == nil {
		return
	}
	a.member.target.leave(&filter{limit: int64(g.o.Circuit.Requests), from: a.from})
	g.targets.queues.wake()
	a.group = nil
}

var (
	// ErrUnhealthy is given where no target is healthy.
	ErrUnhealthy = errors.New("no target is healthy")
	// ErrFull is given where all targets have as many requests as they may, and none has ended in time.
	ErrFull = errors.New("all targets are busy")
	// ErrUnresolved is given where the names of targets lead to no address.
	ErrUnresolved = errors.New("the names of the targets cannot be resolved")
)

const maxAttempts = 8

// RoundTrip sends a request to a target of the group, and to another where the first has surely not acted on it. Its
// errors are *Error, ErrUnhealthy, ErrFull, what Begin has returned, or the context's.
func (g *Group) RoundTrip(ctx *message.Context, r *message.Request, interim message.Interim, a *Attempt) (response *message.Response, err error) {
	again := func(failure *Error) bool { return safe(r, failure) }
	err = g.try(ctx, r, a, again, func(m *member, placed time.Time) (err error) {
		// All of this is done for each attempt, as it depends on the target.
		g.stick(r, a)
		if g.UpstreamHost {
			r.Host = m.target.authority
		}
		if a.Chosen != nil {
			a.Chosen(a.Place())
		}
		if a.Follower != nil {
			a.Follower.Trying(&m.target.target, placed)
		}

		settled := a.watch(m.target)
		response, err = m.target.transport.RoundTrip(ctx, r, interim)
		settled()
		return err
	})
	if err != nil {
		return nil, err
	}

	if a.Follower != nil {
		a.Follower.Answered(response)
	}
	return response, nil
}

// try calls once with a target of the group and, where that fails, with another for which the request may be repeated:
// again says so of a failure, and the route's number of attempts and its budget must allow it.
func (g *Group) try(ctx *message.Context, r *message.Request, a *Attempt, again func(*Error) bool, once func(m *member, placed time.Time) error) error {
	g.budget.request(float64(g.o.Retry.Budget))
	f := g.filter(r)
	start := time.Now()
	for {
		m, err := g.acquire(ctx, r, f)
		placed := time.Now()
		a.Wait += placed.Sub(start)
		if err != nil {
			return err
		}

		// From here on the attempt owns the place, and gives it back whatever happens.
		a.hold(g, m, &f)
		if a.Begin != nil {
			if err := a.Begin(); err != nil {
				a.End()
				return err
			}
		}
		err = once(m, placed)
		start = time.Now()
		a.Answer = start.Sub(placed)
		if err == nil {
			m.target.report(nil, a.Answer)
			return nil
		}

		// The place goes back before the next target is chosen, which may be in short supply as well.
		a.End()
		failure := &Error{Target: m.target.target, Err: err}
		if a.Follower != nil {
			a.Follower.Missed(failure)
		}
		// The client's fault must not eject a target.
		if ctx.Err() != nil || isClients(err) {
			return failure
		}

		m.target.report(failure, a.Answer)
		// The budget is asked last, as asking spends it.
		f.tried[a.Retries] = m
		if a.Retries+1 >= min(g.o.Retry.Attempts, len(g.current.Load().members), maxAttempts) || !again(failure) || !g.budget.retry() {
			return failure
		}

		a.Retries++
	}
}

// Queues reports whether requests may wait for a place at a target.
func (g *Group) Queues() bool { return g.o.Circuit.Pending > 0 }

// Patient reports whether a target may take as long as it takes to answer.
func (g *Group) Patient() bool {
	return cmp.Or(g.o.Timeouts.ResponseHeader, g.timeouts.ResponseHeader) == config.Endless
}

// watch waits for an answer that may take as long as it takes, beside the request, until it is told that the request
// has settled.
func (a *Attempt) watch(t *Target) (settled func()) {
	if a.Late == nil || !t.patient {
		return func() {}
	}
	late := a.Late
	timer := time.AfterFunc(a.LateAfter, func() {
		help := ""
		if pool, ok := t.transport.(pool); ok && pool.Idle() > 0 {
			help = oneAtATime
		}
		late(t.name, help)
	})
	return func() { timer.Stop() }
}

// isClients reports whether no target is to blame, and no other would do better.
func isClients(err error) bool {
	var unread *message.BodyError
	var unsent *message.InterimError
	var unwritable *message.Unwritable
	return errors.As(err, &unread) || errors.As(err, &unsent) || errors.As(err, &unwritable) || errors.Is(err, http2.ErrUpgrade) || errors.Is(err, http2.ErrOneConnection)
}

// safe reports whether a request may go to another target: the first has not got it, or it is idempotent (RFC 9110
// section 9.2.2), and ended the connection before its answer's head was whole. Content whose reading has begun is gone.
func safe(r *message.Request, failure *Error) bool {
	if r.Body != nil && (r.Spent || r.Body.Received() > 0) {
		return false
	}

	// No connection means that no byte of the request has arrived.
	var dial *net.OpError
	if errors.As(failure.Err, &dial) && dial.Op == "dial" {
		return true
	}

	switch {
	case errors.Is(failure.Err, http2.ErrUnprocessed):
		return true
	// The target has the request, and may still act on it, or already has.
	case failure.Timeout(), errors.Is(failure.Err, http1.ErrMalformed), errors.Is(failure.Err, http2.ErrMalformed):
		return false
	}

	// A protocol that was agreed on may have begun on the target's side.
	return message.Idempotent(r.Method) && r.Upgrade == ""
}

// filter is where a request may go, to begin with.
func (g *Group) filter(r *message.Request) (f filter) {
	if f.limit = int64(g.o.Circuit.Requests); f.limit > 0 {
		f.from = client(r.Client)
	}
	return f
}

// acquire chooses a target and takes a place there, for which the request may have to wait.
func (g *Group) acquire(ctx *message.Context, r *message.Request, f filter) (*member, error) {
	if m := g.choose(r, f); m != nil {
		return m, nil
	}

	if len(g.current.Load().members) == 0 {
		if !g.resolved(ctx) {
			return nil, ErrUnresolved
		}
		if m := g.choose(r, f); m != nil {
			return m, nil
		}
	}

	// For waiting in line, a target that has failed of late is better than none.
	f.lenient = true
	members := g.current.Load().members
	for i := range members {
		if f.candidate(&members[i]) {
			return g.wait(ctx, r, f)
		}
	}

	return nil, unhealthy(members)
}

// choose takes a place at a healthy target and has one. Those that failed requests of late come last.
func (g *Group) choose(r *message.Request, f filter) *member {
	s := g.current.Load()
	if len(s.members) == 1 { // nothing to choose
		if m := &s.members[0]; m.target.healthy() && m.target.enter(&f) {
			return m
		}
		return nil
	}

	if len(s.members) == 0 {
		return nil
	}
	// Authentication binds the client to the target that has seen it, which therefore comes before stickiness and
	// balance.
	if m := s.owner(r.Conn); m != nil && f.fit(m) && m.target.enter(&f) {
		return m
	}

	if m := g.stuck(s, r); m != nil && f.fit(m) && m.target.enter(&f) {
		return m
	}

	for _, f.lenient = range [...]bool{false, true} {
		// Another request may take the place between the choice and the attempt.
		for range 3 {
			m := s.balance.choose(s, r, f)
			if m == nil {
				break
			}
			if m.target.enter(&f) {
				return m
			}
		}
	}

	return nil
}

// owner is the target at which a connection is kept for the client's: what has been authenticated there is good there
// alone.
func (s *set) owner(c *message.Conn) *member {
	if c == nil || !c.Bound() {
		return nil
	}
	for i := range s.members {
		if t, ok := s.members[i].target.transport.(pool); ok && t.Owns(c) {
			return &s.members[i]
		}
	}
	return nil
}

// Close lets go of the targets; open requests finish.
func (g *Group) Close() {
	if g.end != nil {
		g.end()
		// Names are looked up in the background, which must not change the set while it is released.
		g.watching.Wait()
	}
	g.releaseAll(g.current.Load())
}

func (g *Group) releaseAll(s *set) {
	var all sync.WaitGroup
	for _, m := range s.members {
		// Each waits for its health check, and a group may have hundreds.
		if g.targets.release(m.target) {
			all.Go(m.target.close)
		}
	}
	all.Wait()
}

// budget keeps retries a part of the requests, so that they do not bring down what is left when targets fail.
type budget struct{ thousandths atomic.Int64 }

const (
	budgetFloor = 10_000  // ten retries are always there to begin with
	budgetRoof  = 100_000 // and a hundred at most
)

func (b *budget) request(ratio float64) {
	if b.thousandths.Load() < budgetRoof {
		b.thousandths.Add(int64(ratio * 1000))
	}
}

func (b *budget) retry() bool {
	if b.thousandths.Add(-1000) >= 0 {
		return true
	}
	// What was taken without being there is put back.
	b.thousandths.Add(1000)
	return false
}

// wait stands in line for a place.
func (g *Group) wait(ctx *message.Context, r *message.Request, f filter) (*member, error) {
	q, o := &g.queue, &g.o.Circuit
	w := q.join(f.from, o.Pending, func() bool {
		return slices.ContainsFunc(g.current.Load().members, func(m member) bool { return f.fit(&m) })
	})
	if w == nil {
		return nil, ErrFull
	}

	// Announced before the first look, so that a place that becomes free in between wakes this queue.
	g.targets.queues.add(q, 1)
	defer g.targets.queues.add(q, -1)
	timer := time.NewTimer(o.Wait)
	defer timer.Stop()

	for {
		turn := q.stand(w)
		// A place may have become free before this request joined the queue.
		if m := g.choose(r, f); m != nil {
			q.leave(w)
			// More than one request may have waited for the place that has become free.
			g.targets.queues.wake()
			return m, nil
		}

		select {
		case <-turn:
			// The turn was no place, but a client with fewer requests that needed the room in the queue.
			if q.refused(w) {
				return nil, ErrFull
			}
		case <-timer.C:
			q.leave(w)
			return nil, ErrFull
		case <-ctx.Done():
			q.leave(w)
			return nil, ctx.Err()
		}
	}
}
