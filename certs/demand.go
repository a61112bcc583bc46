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
	"time"

	"padlock/config"
)

// demand decides which unknown names may have certificates. All that it remembers is bounded, as anybody can invent names.
type demand struct {
	config.OnDemand
	client  *http.Client
	pending chan struct{} // names that are being looked at for the first time
	loads   chan struct{} // those of them that read the storage

	mu      sync.Mutex
	denied  map[string]time.Time // until when a name is not looked at again
	sources map[netip.Prefix]int // new names in this minute, by client
	total   int
	minute  time.Time
	ring    []*managed // names in memory
	hand    int
}

const (
	maxPending   = 1024
	maxLoads     = 32
	maxDenied    = 20_000
	maxSources   = 20_000
	denyNo       = 10 * time.Minute // the ask endpoint said no
	denyTrouble  = 3 * time.Second  // it could not be asked, or the storage was away
	denyLimit    = 5 * time.Second
	askTimeout   = 5 * time.Second
	stillAgreed  = 12 * time.Hour // how often a name in use is asked about again
	demandOrders = 3 * time.Minute
)

func newDemand(c config.OnDemand) *demand {
	return &demand{
		OnDemand: c, pending: make(chan struct{}, maxPending), loads: make(chan struct{}, maxLoads), denied: map[string]time.Time{}, sources: map[netip.Prefix]int{},
		client: &http.Client{Timeout: askTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
}

// onDemand finds or orders the certificate of a name that nobody has listed. Handshakes of one name share one look.
func (m *Manager) onDemand(hello *tls.ClientHelloInfo, name string) *managed {
	if !strings.Contains(name, ".") || net.ParseIP(name) != nil || m.demand.isDenied(name) {
		return nil
	}
	select {
	case m.demand.pending <- struct{}{}:
	default:
		return nil // so many names at once are an attack, or the storage is slow
	}
	n := newManaged(name, true)
	n.used.Store(time.Now().Unix())
	done, _ := n.start(time.Now())
	if other, loaded := m.names.LoadOrStore(name, n); loaded {
		<-m.demand.pending
		return other.(*managed)
	}
	source := hello.Conn.RemoteAddr().String()
	m.looking.Go(func() {
		defer done()
		defer func() { <-m.demand.pending }()
		ctx, cancel := context.WithTimeout(context.Background(), demandOrders)
		defer cancel()
		m.first(ctx, n, source)
	})
	return n
}

// first decides about a new name: what the storage has is served; an order needs room in the limits, and an agreement.
func (m *Manager) first(ctx context.Context, n *managed, source string) {
	m.demand.loads <- struct{}{}
	held, err := m.client.Load(ctx, n.name)
	<-m.demand.loads
	if IsMissing(err) {
		if err = m.demand.admit(source); err == nil {
			err = m.demand.ask(ctx, n.name)
		}
		if err == nil {
			held, err = m.client.Ensure(ctx, n.name, nil)
		}
	}
	if err == nil {
		n.held.Store(held)
		n.mu.Lock()
		n.due = held.Due
		n.mu.Unlock()
		if old := m.demand.keep(n); old != nil {
			m.forget(old)
		}
		return
	}
	m.forget(n)
	var no *refusal
	if errors.As(err, &no) {
		m.demand.deny(n.name, no.pause)
		m.log.Debug("no certificate on demand", "name", n.name, "source", source, "reason", no.reason)
		return
	}
	wait := pause(1, err)
	m.demand.deny(n.name, max(wait, denyTrouble))
	m.log.Error("there is no certificate", "name", n.name, "on_demand", true, "error", err, "next_try", time.Now().Add(wait).UTC().Format(time.RFC3339))
}

// refusal is a no that is not the CA's.
type refusal struct {
	reason string
	pause  time.Duration
}

func (r *refusal) Error() string { return r.reason }

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
		delete(d.denied, old) // any: it would be asked about once more
	}
	d.denied[name] = time.Now().Add(pause)
}

// admit counts a new name against the limits of its client and of all.
func (d *demand) admit(source string) error {
	prefix := network(source)
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); now.Sub(d.minute) > time.Minute {
		d.minute, d.total = now, 0
		clear(d.sources)
	}
	switch {
	case d.total >= d.PerMinute:
		return &refusal{"the limit of new names in a minute is reached", denyLimit}
	case d.sources[prefix] >= d.PerSource || len(d.sources) >= maxSources:
		return &refusal{"the client has brought its limit of new names in a minute", denyLimit}
	}
	d.total++
	d.sources[prefix]++
	return nil
}

// network is what counts as one client: an IPv4 address, or the /64 of an IPv6 address.
func network(source string) netip.Prefix {
	addr, err := netip.ParseAddrPort(source)
	if err != nil {
		return netip.Prefix{}
	}
	ip, bits := addr.Addr().Unmap(), 32
	if ip.Is6() {
		bits = 64
	}
	prefix, _ := ip.Prefix(bits)
	return prefix
}

// ask agrees, or says why not.
func (d *demand) ask(ctx context.Context, name string) error {
	if slices.ContainsFunc(d.Allow, func(pattern string) bool { return matches(pattern, name) }) {
		return nil
	}
	if d.Ask == "" {
		return &refusal{"the name is not in certificates.on_demand.allow", denyNo}
	}
	u, err := url.Parse(d.Ask)
	if err != nil {
		return &refusal{"certificates.on_demand.ask is not a URL", denyNo}
	}
	query := u.Query()
	query.Set("domain", name)
	u.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return &refusal{err.Error(), denyNo}
	}
	response, err := d.client.Do(request)
	if err != nil {
		return &refusal{"certificates.on_demand.ask cannot be asked: " + err.Error(), denyTrouble}
	}
	response.Body.Close()
	switch {
	case response.StatusCode/100 == 2:
		return nil
	case response.StatusCode >= 500:
		return &refusal{fmt.Sprintf("certificates.on_demand.ask answers with status %d", response.StatusCode), denyTrouble}
	}
	return &refusal{fmt.Sprintf("certificates.on_demand.ask says no (%d)", response.StatusCode), denyNo}
}

// matches compares as certificates do: a wildcard stands for one label.
func matches(pattern, name string) bool {
	if suffix, wildcard := strings.CutPrefix(pattern, "*."); wildcard {
		_, parent, _ := strings.Cut(name, ".")
		return parent == suffix
	}
	return pattern == name
}

// still asks again before a name is renewed that somebody has used. What nobody uses is forgotten, and stays in the storage.
func (d *demand) still(ctx context.Context, n *managed) bool {
	held := n.held.Load()
	if held == nil || time.Now().Before(held.Pairs[0].Renewal) {
		return true
	}
	if time.Since(time.Unix(n.used.Load(), 0)) > stillAgreed {
		return false
	}
	var no *refusal
	err := d.ask(ctx, n.name)
	return !errors.As(err, &no) || no.pause != denyNo
}

// keep gives a name its place among those in memory. When all are taken it returns the name that loses its own: the next that has not
// been used since the last time round (CLOCK).
func (d *demand) keep(n *managed) (loser *managed) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.ring) < d.Cache {
		d.ring = append(d.ring, n)
		return nil
	}
	for d.ring[d.hand].touched.Swap(false) {
		d.hand = (d.hand + 1) % len(d.ring)
	}
	loser, d.ring[d.hand] = d.ring[d.hand], n
	d.hand = (d.hand + 1) % len(d.ring)
	return loser
}
