package upstream

import (
	"cmp"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"padlock/config"
	"padlock/internal/lastgood"
	"padlock/proxy/outbound"
	"padlock/traffic"
)

// Targets are all that are in use, so that a reload finds those that stay: their connections, their health and what
// they have to do. The zero value is ready; it is safe for use from many goroutines.
type Targets struct {
	Resolvers []string     // host:port of DNS servers; none: the system's. Set before use
	Log       *slog.Logger // of targets that become unhealthy, and healthy again; nil: none. Set before use

	sticky stickyKey

	mu    sync.Mutex
	used  map[string]*use
	found map[string]answer // names that groups have watched

	queues queues
}

type use struct {
	target *Target
	groups int
}

// Group makes a group whose files are read now; its Close lets go of its targets.
func (t *Targets) Group(u *config.Upstream, timeouts config.Timeouts) (*Group, error) {
	return t.GroupOf(u, timeouts, lastgood.After(nil))
}

// GroupOf is Group with files that may have been read already.
func (t *Targets) GroupOf(u *config.Upstream, timeouts config.Timeouts, files *lastgood.Values) (*Group, error) {
	trust, err := newTrust(u, files)
	if err != nil {
		return nil, err
	}
	g := &Group{o: *u, timeouts: timeouts, trust: trust, targets: t, first: make(chan struct{})}
	g.budget.thousandths.Store(budgetFloor)
	var fixed []place
	for i := range u.To {
		if b := &u.To[i]; b.Target.SRV || u.Resolve == "each" && named(b.Target) {
			g.names = append(g.names, b.Target.Address)
		} else {
			fixed = append(fixed, place{b.Target, "", max(b.Weight, 1)})
		}
	}

	if len(g.names) == 0 {
		close(g.first)
	} else {
		fixed = append(fixed, t.remembered(u)...)
	}

	// Targets from the last known addresses serve at once. The names are asked for in the background.
	if err := g.become(fixed); err != nil {
		return nil, err
	}
	if len(g.names) > 0 {
		g.watch()
	}

	return g, nil
}

// place is where a target is: at one of the addresses of its name, or "" for whatever its name means.
type place struct {
	target config.Target
	at     string
	weight int
}

// become gives a group other targets; those that stay keep what they have.
func (g *Group) become(places []place) error {
	next := &set{}
	for _, p := range places {
		target, err := g.targets.take(&g.o, p.target, p.at, g.timeouts, g.trust)
		if err != nil {
			g.releaseAll(next)
			return err
		}
		next.members = append(next.members, member{target, p.weight})
	}

	switch {
	case g.o.Balance == "least_conn":
		next.balance = &leastConn{}
	case g.o.Balance == "random":
		next.balance = twoChoices{}
	case g.o.Balance == "hash":
		next.balance = newConsistent(g.o.HashBy)
	case len(next.members) > 0:
		next.balance = newRoundRobin(next.members)
	}

	// The old ones are released only after the new ones were taken: targets that stay keep their connections that
	// way.
	if before := g.current.Swap(next); before != nil {
		g.releaseAll(before)
	}
	return nil
}

// take finds the target that is reached in the same way, or makes it.
func (t *Targets) take(u *config.Upstream, target config.Target, at string, timeouts config.Timeouts, trust trust) (*Target, error) {
	// Everything that makes a connection different is in the key. What is left out here would be ignored by a
	// reload.
	key, err := json.Marshal([]any{
		target, at, u.Protocol, u.Health, u.PassiveHealth, u.Timeouts, u.KeepAlive, timeouts.Connect, timeouts.ResponseHeader, trust.digest, u.ServerName, u.Insecure,
	})
	if err != nil {
		return nil, err
	}

	t.mu.Lock()
	defer t.mu.Unlock()

	if found, ok := t.used[string(key)]; ok {
		found.groups++
		return found.target, nil
	}

	log := t.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	made := newTarget(u, target, at, timeouts, trust, outbound.Resolver(t.Resolvers), log)
	if t.used == nil {
		t.used = map[string]*use{}
	}
	made.key = string(key)
	t.used[made.key] = &use{made, 1}
	return made, nil
}

// Counts are how each target fares, by name. Targets that are reached in different ways may have the same name; they
// count as one.
func (t *Targets) Counts() []traffic.TargetCount {
	t.mu.Lock()
	byName := map[string]traffic.TargetCount{}
	for _, u := range t.used {
		one := u.target.count()
		if before, ok := byName[one.Name]; ok {
			one.Add(&before)
		}
		byName[one.Name] = one
	}
	t.mu.Unlock()
	return slices.SortedFunc(maps.Values(byName), func(a, b traffic.TargetCount) int { return cmp.Compare(a.Name, b.Name) })
}

// release reports whether nobody uses the target any more: then it is closed by whoever released it, as that waits for
// a health check, which must not happen under the lock.
func (t *Targets) release(target *Target) (last bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	u := t.used[target.key]
	u.groups--
	if u.groups > 0 {
		return false
	}
	delete(t.used, target.key)
	return true
}
