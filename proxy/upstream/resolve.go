package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"padlock/config"
	"padlock/internal/dnsquery"
	"padlock/proxy/message"
)

// answer is what a name leads to.
type answer struct {
	hosts []host
	ttl   time.Duration
	asked time.Time
}

type host struct {
	authority string // name:port
	at        string // address:port
	weight    int
}

const (
	shortestTTL  = time.Second
	longestTTL   = 5 * time.Minute
	standardTTL  = 30 * time.Second // where the system's resolver does not tell
	retryResolve = 2 * time.Second
	askTimeout   = 5 * time.Second
)

// named reports whether a target's address has a name that DNS knows.
func named(t config.Target) bool {
	name, _, err := net.SplitHostPort(t.Address)
	// localhost never changes, and its two addresses are one target.
	if err != nil || t.Network != "tcp" || config.IsLoopback(name) {
		return false
	}
	_, err = netip.ParseAddr(name)
	return err != nil
}

// watch keeps a group's targets what its names lead to, until Close.
func (g *Group) watch() {
	ctx, end := context.WithCancel(context.Background())
	g.end = end
	g.watching.Go(func() {
		first := g.first
		for {
			wait := g.refresh(ctx)
			if first != nil {
				close(first)
				first = nil
			}

			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
		}
	})
}

// refresh asks for all names, and returns when to ask again. A name that cannot be resolved keeps the targets that it
// had.
func (g *Group) refresh(ctx context.Context) time.Duration {
	wait := longestTTL
	for i := range g.o.To {
		b := &g.o.To[i]
		if !b.Target.SRV && !(g.o.Resolve == "each" && named(b.Target)) {
			continue
		}

		// Taken before the question, so that the answer to an earlier question never replaces a later one.
		asked := time.Now()
		found, err := g.targets.ask(ctx, b.Target)
		found.asked = asked

		if err != nil {
			wait = min(wait, retryResolve)
			continue
		}

		wait = min(wait, max(found.ttl, shortestTTL))
		g.targets.remember(b.Target, found)
	}

	// The group has been closed. Targets that are taken now would never be released.
	if ctx.Err() != nil {
		return wait
	}

	places := g.targets.remembered(&g.o)
	for i := range g.o.To {
		if b := &g.o.To[i]; !b.Target.SRV && !(g.o.Resolve == "each" && named(b.Target)) {
			places = append(places, place{b.Target, "", max(b.Weight, 1)})
		}
	}

	// An unchanged answer must not reset round robin and stickiness.
	if !g.has(places) {
		// The files were read before. A failure leaves the targets as they are.
		_ = g.become(places)
	}

	return wait
}

// has reports whether a group's targets are at these places already.
func (g *Group) has(places []place) bool {
	members := g.current.Load().members
	if len(members) != len(places) {
		return false
	}
	for _, p := range places {
		if !slices.ContainsFunc(members, func(m member) bool {
			return m.target.target == p.target && m.target.at == p.at && m.weight == p.weight
		}) {
			return false
		}
	}
	return true
}

// resolved waits until a group's names have been asked for; it reports false if they lead nowhere.
func (g *Group) resolved(ctx *message.Context) bool {
	if len(g.names) == 0 {
		return true
	}
	timer := time.NewTimer(g.timeouts.Connect)
	defer timer.Stop()
	select {
	case <-g.first:
	case <-timer.C:
	case <-ctx.Done():
	}
	return len(g.current.Load().members) > 0
}

func (t *Targets) remember(target config.Target, a answer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.found == nil {
		t.found = map[string]answer{}
	}
	// Another group may have asked later, and been answered sooner.
	if key := target.String(); a.asked.After(t.found[key].asked) {
		t.found[key] = a
	}
}

// remembered are the places of a group's names as they were last known, so that a reload begins with them.
func (t *Targets) remembered(u *config.Upstream) (places []place) {
	t.mu.Lock()
	defer t.mu.Unlock()

	for i := range u.To {
		b := &u.To[i]
		for _, h := range t.found[b.Target.String()].hosts {
			target := b.Target
			// An SRV record names the host that TLS and requests mean.
			if target.SRV {
				target = config.Target{Scheme: target.Scheme, Network: target.Network, Address: h.authority}
			}
			places = append(places, place{target, h.at, max(b.Weight, 1) * h.weight})
		}
	}

	return places
}

// ask looks a target's name up.
func (t *Targets) ask(ctx context.Context, target config.Target) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()

	if !target.SRV {
		name, port, _ := net.SplitHostPort(target.Address)
		return t.addresses(ctx, name, port, 1)
	}

	records, ttl, err := t.services(ctx, target.Address)
	if err != nil {
		return answer{}, err
	}
	best := slices.MinFunc(records, func(a, b *net.SRV) int { return cmp.Compare(a.Priority, b.Priority) }).Priority
	all := answer{ttl: ttl}
	for _, r := range records {
		// Targets of a higher number are for when none of these answers.
		if r.Priority != best {
			continue
		}

		found, err := t.addresses(ctx, r.Target, strconv.Itoa(int(r.Port)), max(int(r.Weight), 1))
		if err != nil {
			return answer{}, err
		}
		all.hosts = append(all.hosts, found.hosts...)
		all.ttl = min(all.ttl, found.ttl)
	}

	return all, nil
}

var errNoAddress = errors.New("the name has no address")

// addresses are those of a name, IPv4 and IPv6, in a fixed order.
func (t *Targets) addresses(ctx context.Context, name, port string, weight int) (answer, error) {
	var found []netip.Addr
	ttl := standardTTL
	if len(t.Resolvers) == 0 {
		system, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
		if err != nil {
			return answer{}, err
		}
		found = system
	} else {
		ttl = longestTTL
		for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
			records, err := dnsquery.Ask(ctx, t.Resolvers, name, kind)
			if err != nil {
				return answer{}, err
			}

			for _, r := range records {
				switch r := r.(type) {
				case *dns.A:
					addr, _ := netip.AddrFromSlice(r.A)
					found = append(found, addr)
				case *dns.AAAA:
					addr, _ := netip.AddrFromSlice(r.AAAA)
					found = append(found, addr)
				}
				ttl = min(ttl, time.Duration(r.Header().Ttl)*time.Second)
			}
		}
	}

	if len(found) == 0 {
		return answer{}, fmt.Errorf("%s: %w", name, errNoAddress)
	}

	a := answer{ttl: ttl}
	for _, addr := range found {
		a.hosts = append(a.hosts, host{net.JoinHostPort(strings.TrimSuffix(name, "."), port), net.JoinHostPort(addr.Unmap().String(), port), weight})
	}
	slices.SortFunc(a.hosts, func(x, y host) int { return cmp.Compare(x.at, y.at) })
	a.hosts = slices.Compact(a.hosts)
	return a, nil
}

func (t *Targets) services(ctx context.Context, name string) (found []*net.SRV, ttl time.Duration, err error) {
	if len(t.Resolvers) == 0 {
		_, found, err = net.DefaultResolver.LookupSRV(ctx, "", "", name)
		ttl = standardTTL
	} else {
		var records []dns.RR
		ttl = longestTTL
		records, err = dnsquery.Ask(ctx, t.Resolvers, name, dns.TypeSRV)
		for _, r := range records {
			if srv, ok := r.(*dns.SRV); ok {
				found = append(found, &net.SRV{Target: srv.Target, Port: srv.Port, Priority: srv.Priority, Weight: srv.Weight})
				ttl = min(ttl, time.Duration(srv.Hdr.Ttl)*time.Second)
			}
		}
	}

	if err == nil && len(found) == 0 {
		err = fmt.Errorf("%s: %w", name, errNoAddress)
	}
	return found, ttl, err
}
