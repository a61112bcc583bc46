package upstream

import (
	"encoding/json"
	"fmt"
	"sync"

	"padlock/config"
)

// Targets are all that are in use, so that a reload finds those that stay: their connections, their health and what they have to do.
// The zero value is ready; it is safe for use from many goroutines.
type Targets struct {
	mu   sync.Mutex
	used map[string]*use
}

type use struct {
	target *Target
	groups int
}

// Group makes a group; its Close lets go of its targets.
func (t *Targets) Group(u *config.Upstream, timeouts config.Timeouts) (*Group, error) {
	g := &Group{o: *u, targets: t}
	g.budget.thousandths.Store(budgetFloor)
	for _, b := range u.To {
		target, err := t.take(u, b.Target, timeouts)
		if err != nil {
			g.Close()
			return nil, err
		}
		g.members = append(g.members, member{target, max(b.Weight, 1), fmt.Sprintf("%016x", mix(target.hash))})
	}
	switch u.Balance {
	case "least_conn":
		g.balance = &leastConn{}
	case "random":
		g.balance = twoChoices{}
	case "hash":
		g.balance = newConsistent(u.HashBy)
	default:
		g.balance = newRoundRobin(g.members)
	}
	return g, nil
}

// take finds the target that is reached in the same way, or makes it.
func (t *Targets) take(u *config.Upstream, target config.Target, timeouts config.Timeouts) (*Target, error) {
	key, err := json.Marshal([]any{
		target, u.Health, u.Passive, u.Timeouts, timeouts.Connect, timeouts.ResponseHeader, u.CA, u.ClientCert, u.ClientKey, u.ServerName, u.Insecure,
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
	made, err := newTarget(u, target, timeouts)
	if err != nil {
		return nil, err
	}
	if t.used == nil {
		t.used = map[string]*use{}
	}
	made.key = string(key)
	t.used[made.key] = &use{made, 1}
	return made, nil
}

func (t *Targets) release(target *Target) {
	t.mu.Lock()
	u := t.used[target.key]
	u.groups--
	last := u.groups == 0
	if last {
		delete(t.used, target.key)
	}
	t.mu.Unlock()
	if last {
		target.close()
	}
}
