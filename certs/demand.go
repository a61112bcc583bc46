package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"padlock/certs/acme"
	"padlock/config"
	"padlock/internal/fair"
	"padlock/internal/mask"
	"padlock/internal/netname"
)

// demand decides which unknown names may have certificates. All that it remembers is bounded, as anybody can invent
// names, and what a client's names cost until somebody has agreed to them is its own: turns and budgets are by
// source.
type demand struct {
	config.OnDemand
	client *http.Client
	loads  *fair.Turns  // of reading the storage
	asks   *fair.Turns  // of asking whether a name may have a certificate
	orders *fair.Turns  // some of the client's are left to names that are listed
	fresh  *fair.Budget // names that the storage does not have, by source
	agreed *fair.Budget // names to which somebody has agreed, of all sources

	troubled atomic.Int64 // Unix time at which that the storage cannot be read was logged last

	mu     sync.Mutex
	denied map[string]time.Time // until when a name is not looked at again
	ring   []*managed           // names in memory
	hand   int
}

const (
	maxDenied    = 20_000
	denyNo       = 10 * time.Minute // the ask endpoint said no
	denyTrouble  = 3 * time.Second  // it could not be asked, or the storage was away
	denyLimit    = 5 * time.Second
	askTimeout   = 5 * time.Second
	stillAgreed  = 12 * time.Hour // how often a name in use is asked about again
	demandOrders = 3 * time.Minute
)

func newDemand(c config.OnDemand) *demand {
	return &demand{
		OnDemand: c, denied: map[string]time.Time{},
		// A redirect could lead the question, with the name in it, to another host. It counts as a no.
		client: &http.Client{Timeout: askTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		loads:  fair.NewTurns(fair.Limits{AtOnce: 32, Each: 24, PerSource: 1024, Waiting: 1024}),
		asks:   fair.NewTurns(fair.Limits{AtOnce: 16, Each: 4, PerSource: 32, Waiting: 1024}),
		orders: fair.NewTurns(fair.Limits{AtOnce: 6, Each: 2, PerSource: 32, Waiting: 256}),
		fresh:  fair.NewBudget(c.PerSource, time.Minute),
		agreed: fair.NewBudget(c.PerMinute, time.Minute),
	}
}

// onDemand finds or orders the certificate of a name that nobody has listed. Handshakes of one name share one look,
// which goes on as long as one of their sources has a turn to come: what a source may not do is no answer for the
// others.
func (m *Manager) onDemand(hello *tls.ClientHelloInfo, name string) *managed {
	// No public CA signs for these, and asking would cost a turn. The last would be in the place of a wildcard.
	if !strings.Contains(name, ".") || net.ParseIP(name) != nil || strings.HasPrefix(name, config.StoredWildcard) {
		return nil
	}
	source := fair.SourceOf(hello.Conn.RemoteAddr())
	for !m.demand.isDenied(name) {
		n := newManaged(name, true)
		n.wanted.Store(newWanted())
		n.used.Store(time.Now().Unix())
		n.start(time.Now())
		// Two handshakes may invent the same name at once. One look serves both.
		if other, loaded := m.names.LoadOrStore(name, n); loaded {
			n = other.(*managed)
		}

		// Without it the name has its certificate, or is listed.
		w := n.wanted.Load()
		if w == nil {
			return n
		}
		begins, over := w.join(source)
		if begins {
			// However long another source's look has taken already, this one has just begun.
			n.waitAnew()
			m.looking.Go(func() { m.first(n, w, source) })
		}

		if !over || n.await(hello.Context()) != nil {
			return n
		}
		if hello.Context().Err() != nil {
			return nil
		}
	}

	return nil
}

// wanted is what a name on demand has before it has a certificate.
type wanted struct {
	mu   sync.Mutex
	by   map[netip.Prefix]bool // sources that have a look at it
	over bool                  // it has its certificate, or will not have one

	load, ask, order *once
	bundle           *acme.Bundle // that a step has brought
}

func newWanted() *wanted {
	return &wanted{by: map[netip.Prefix]bool{}, load: newOnce(), ask: newOnce(), order: newOnce()}
}

// join notes a source. It begins a look where that source has none, unless it is all over.
func (w *wanted) join(source netip.Prefix) (begins, over bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over || w.by[source] {
		return false, w.over
	}
	w.by[source] = true
	return true, false
}

// leave reports whether the look has ended: it is decided, or nobody is left who could decide it. It does so once.
func (w *wanted) leave(source netip.Prefix, decided bool) (ends bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.by, source)
	if w.over || !decided && len(w.by) > 0 {
		return false
	}
	w.over = true
	return true
}

// once is a step that is taken once, by the first whose turn it is; the others get its result.
type once struct {
	taken      atomic.Bool
	begun, end context.Context // are cancelled when it has begun, and when it has ended
	begin      context.CancelFunc
	finish     context.CancelFunc
	err        error
}

func newOnce() *once {
	o := &once{}
	o.begun, o.begin = context.WithCancel(context.Background())
	o.end, o.finish = context.WithCancel(context.Background())
	return o
}

// take takes the step when it is the source's turn, or waits for whoever is faster, without keeping a turn from others.
func (o *once) take(ctx context.Context, turns *fair.Turns, source netip.Prefix, step func() error) error {
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	// Whoever waits in line leaves it as soon as the step has begun elsewhere, so that it keeps no turn from
	// others.
	defer context.AfterFunc(o.begun, stop)()

	done, err := turns.Take(waiting, source)
	switch {
	case err == nil && o.taken.CompareAndSwap(false, true):
		defer done()
		defer o.finish()
		o.begin()
		o.err = step()
		return o.err
	case err == nil:
		// The step was taken while this turn came. Its result is waited for without the turn.
		done()
	case !o.taken.Load():
		return &notNow{err.Error()}
	}

	select {
	case <-o.end.Done():
		return o.err
	case <-ctx.Done():
		return &notNow{ctx.Err().Error()}
	}
}

// first decides about a new name, for one source that wants it.
func (m *Manager) first(n *managed, w *wanted, source netip.Prefix) {
	// Not the handshake's context: other handshakes may wait for the same name.
	ctx, cancel := context.WithTimeout(m.alive, demandOrders)
	defer cancel()
	d := m.demand
	err := w.load.take(ctx, d.loads, source, m.step(func(ctx context.Context) (err error) {
		w.bundle, err = m.client.Load(ctx, n.name)
		return err
	}))
	switch {
	case err == nil:
	// What the storage has needs nobody's agreement a second time.
	case IsMissing(err):
		err = m.agree(ctx, n.name, w, source)
		if err == nil {
			err = w.order.take(ctx, d.orders, source, m.step(func(ctx context.Context) (err error) {
				w.bundle, err = m.client.Ensure(ctx, n.name, nil)
				return err
			}))
		}
	default:
		err = m.unread(err)
	}
	// At the end of padlock, whatever went wrong says nothing about the name.
	if err != nil && m.alive.Err() != nil {
		err = &notNow{"padlock ends"}
	}

	var own *notNow
	if w.leave(source, !errors.As(err, &own)) {
		m.settle(n, w.bundle, source, err)
	}
}

// unread is the denial of a name for which the storage could not be looked into. Anybody can invent such names, so it is
// logged now and then.
func (m *Manager) unread(err error) error {
	// One source that has had no turn says nothing about the storage.
	if own := (*notNow)(nil); errors.As(err, &own) || m.alive.Err() != nil {
		return err
	}
	now := time.Now().Unix()
	if last := m.demand.troubled.Load(); now-last >= 60 && m.demand.troubled.CompareAndSwap(last, now) {
		m.log.Warn("the storage cannot be read for certificates on demand", "error", err)
	}
	return &denial{"the storage cannot be read: " + err.Error(), denyTrouble}
}

// step is a step of a look, with its full time: the source that takes it may have waited for long, and its failure would
// be the others' too.
func (m *Manager) step(do func(ctx context.Context) error) func() error {
	return func() error {
		ctx, cancel := context.WithTimeout(m.alive, demandOrders)
		defer cancel()
		return do(ctx)
	}
}

// agree is nil where a name may have a certificate.
func (m *Manager) agree(ctx context.Context, name string, w *wanted, source netip.Prefix) error {
	d := m.demand
	if d.Ask == "" && !d.allows(name) {
		return &denial{"the name is not in certificates.on_demand.allow", denyNo}
	}
	// Spent before asking, so that invented names cost the one who invents them and not the endpoint.
	if !d.fresh.Spend(source) {
		return &notNow{"the client has brought its limit of new names in a minute"}
	}

	return w.ask.take(ctx, d.asks, source, m.step(func(ctx context.Context) error {
		if err := d.authorize(ctx, name); err != nil {
			return err
		}
		// Names that nobody agreed to do not count against the limit of all.
		if !d.agreed.Spend(netip.Prefix{}) {
			return &denial{"the limit of new names in a minute is reached", denyLimit}
		}
		return nil
	}))
}

func (d *demand) allows(name string) bool {
	return slices.ContainsFunc(d.Allow, func(pattern string) bool { return netname.Match(pattern, name) })
}

// settle ends the look at a new name.
func (m *Manager) settle(n *managed, bundle *acme.Bundle, source netip.Prefix, err error) {
	defer n.done()
	if err == nil {
		n.bundle.Store(bundle)
		n.wanted.Store(nil)
		n.mu.Lock()
		n.due = bundle.Due
		n.mu.Unlock()
		if old := m.demand.keep(n); old != nil {
			m.forget(old)
		}

		return
	}

	// A name without a certificate stays in memory only as a denial, whose number is bounded.
	m.forget(n)
	var no *denial
	var own *notNow
	switch {
	case errors.As(err, &own):
		m.log.Debug("no certificate on demand", "name", n.name, "source", source, "reason", own.reason)
	case errors.As(err, &no):
		m.demand.deny(n.name, no.pause)
		m.log.Debug("no certificate on demand", "name", n.name, "source", source, "reason", no.reason)
	default:
		wait := pause(1, err)
		// The CA counts failures, so the next handshake does not start another order at once.
		m.demand.deny(n.name, max(wait, denyTrouble))
		m.log.Error("there is no certificate", "name", n.name, "on_demand", true, "error", err, "next_try", time.Now().Add(wait).UTC().Format(time.RFC3339))
	}
}

// notNow is a no to one source, which says nothing about the name.
type notNow struct{ reason string }

func (n *notNow) Error() string { return n.reason }

// denial is a no that is not the CA's.
type denial struct {
	reason string
	pause  time.Duration
}

func (r *denial) Error() string { return r.reason }

func (d *demand) isDenied(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	until, ok := d.denied[name]
	if ok && time.Now().After(until) {
		delete(d.denied, name)
		return false
	}
	return ok
}

func (d *demand) deny(name string, pause time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for old := range d.denied {
		if len(d.denied) < maxDenied {
			break
		}
		// Any entry will do: the worst that happens is that its name is authorized once more.
		delete(d.denied, old)
	}
	d.denied[name] = time.Now().Add(pause)
}

// authorize agrees, or says why not.
func (d *demand) authorize(ctx context.Context, name string) error {
	if d.allows(name) {
		return nil
	}
	if d.Ask == "" {
		return &denial{"the name is not in certificates.on_demand.allow", denyNo}
	}

	// The endpoint's own query stays, as it may have a token in it.
	u, err := url.Parse(d.Ask)
	if err != nil {
		return &denial{"certificates.on_demand.ask is not a URL", denyNo}
	}
	query := u.Query()
	query.Set("domain", name)
	u.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return &denial{err.Error(), denyNo}
	}

	response, err := d.client.Do(request)
	if err != nil {
		return &denial{"certificates.on_demand.ask cannot be asked: " + mask.Text(err.Error()), denyTrouble}
	}
	response.Body.Close()
	switch {
	case response.StatusCode/100 == 2:
		return nil
	// An endpoint in trouble says nothing about the name, so it is asked again soon.
	case response.StatusCode >= 500, response.StatusCode == http.StatusTooManyRequests, response.StatusCode == http.StatusRequestTimeout:
		return &denial{fmt.Sprintf("certificates.on_demand.ask answers with status %d", response.StatusCode), denyTrouble}
	}

	return &denial{fmt.Sprintf("certificates.on_demand.ask says no (%d)", response.StatusCode), denyNo}
}

// still asks again before a name is renewed that somebody has used. What nobody uses is forgotten, and stays in the
// storage.
func (d *demand) still(ctx context.Context, n *managed) bool {
	// Nobody has agreed to a name without a certificate.
	bundle := n.bundle.Load()
	if bundle == nil {
		return false
	}
	if time.Now().Before(bundle.Pairs[0].Renewal) {
		return true
	}
	// Renewing names that nobody uses any more would spend the CA's limits on them.
	if time.Since(time.Unix(n.used.Load(), 0)) > stillAgreed {
		return false
	}
	var no *denial
	err := d.authorize(ctx, n.name)
	return !errors.As(err, &no) || no.pause != denyNo
}

// keep gives a name its place among those in memory. When all are taken it returns the name that loses its own: the
// next that has not been used since the last time round (CLOCK).
func (d *demand) keep(n *managed) (loser *managed) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.ring) < d.Cache {
		d.ring = append(d.ring, n)
		return nil
	}
	// A name that was used since the last round gets another one.
	for d.ring[d.hand].touched.Swap(false) {
		d.hand = (d.hand + 1) % len(d.ring)
	}
	loser, d.ring[d.hand] = d.ring[d.hand], n
	d.hand = (d.hand + 1) % len(d.ring)
	return loser
}
