package upstream

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
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
		target, u.Health, u.Passive, u.Timeouts, timeouts.Connect, timeouts.ResponseHeader, digest(u.CA), digest(u.ClientCert), digest(u.ClientKey),
		u.ServerName, u.Insecure,
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

// digest is of a file's content, so that a target whose CA or certificate has changed is another. Whoever needs the file will say why it
// cannot be read.
func digest(name string) []byte {
	content, err := os.ReadFile(name)
	if name == "" || err != nil {
		return nil
	}
	sum := sha256.Sum256(content)
	return sum[:]
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
