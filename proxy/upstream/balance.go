package upstream

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"padlock/proxy/message"
)

// balance chooses among the targets that a request may go to.
type balance interface {
	choose(s *set, r *message.Request, f filter) *member
}

// filter says which targets a request may go to.
type filter struct {
	tried   [maxAttempts]*member // in vain; nil behind the last
	limit   int64                // requests at once; 0: any number
	from    netip.Prefix         // whose request it is; only where there is a limit
	lenient bool                 // targets that failed of late may be used too
	except  *member
}

// candidate reports whether a healthy target could take the request, now or later.
func (f *filter) candidate(m *member) bool {
	if !m.target.healthy() || m == f.except || !f.lenient && m.target.ejected() {
		return false
	}
	// A target that has just failed this request is not asked again for it.
	for _, t := range f.tried {
		if t == nil {
			break
		}
		if t == m {
			return false
		}
	}
	return true
}

func (f *filter) fit(m *member) bool {
	return f.candidate(m) && m.target.hasPlace(f)
}

// roundRobin follows a schedule in which each target stands as often as its weight says, evenly spread.
type roundRobin struct {
	schedule []int32
	next     atomic.Uint64
}

const longestSchedule = 10_000

func newRoundRobin(members []member) *roundRobin {
	total, divisor := 0, 0
	for _, m := range members {
		// Weights such as 100 and 200 need a schedule of three, not of three hundred.
		divisor = gcd(divisor, m.weight)
	}

	current := make([]int, len(members))
	for _, m := range members {
		total += m.weight / divisor
	}

	b := &roundRobin{}

	// Beyond this length, nearly the same shares will do.
	if total > longestSchedule {
		scaled := slices.Clone(members)
		for i := range scaled {
			scaled[i].weight = max(scaled[i].weight/divisor*longestSchedule/2/total, 1)
		}
		return newRoundRobin(scaled)
	}

	// This is nginx's smooth weighted round robin, run in advance.
	for range total {
		best := 0
		for i, m := range members {
			current[i] += m.weight / divisor
			if current[i] > current[best] {
				best = i
			}
		}

		current[best] -= total
		b.schedule = append(b.schedule, int32(best))
	}

	return b
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func (b *roundRobin) choose(s *set, _ *message.Request, f filter) *member {
	m := &s.members[b.schedule[b.next.Add(1)%uint64(len(b.schedule))]]
	// A target that has recovered gets its turn only now and then, until its share has grown.
	if f.fit(m) && (m.target.share() >= 1 || rand.Float64() < m.target.share()) {
		return m
	}
	// The next target in turn would get all of the excluded one's share.
	return weighted(s, f)
}

// weighted chooses at random, by weight.
func weighted(s *set, f filter) *member {
	total := 0.0
	var chosen *member
	for i := range s.members {
		m := &s.members[i]
		if !f.fit(m) {
			continue
		}
		weight := float64(m.weight) * m.target.share()
		total += weight
		// Reservoir sampling: one pass, without knowing the total beforehand.
		if chosen == nil || rand.Float64()*total < weight {
			chosen = m
		}
	}

	return chosen
}

// leastConn chooses the target with the fewest open requests for its weight.
type leastConn struct{ turn atomic.Uint32 }

func (b *leastConn) choose(s *set, _ *message.Request, f filter) *member {
	var best *member
	least := math.Inf(1)
	n := len(s.members)
	// Of equal targets, the first to be looked at changes, so that each gets its share.
	first := int(b.turn.Add(1)) % n
	for i := range n {
		m := &s.members[(first+i)%n]
		if load := m.load(); load < least && f.fit(m) {
			best, least = m, load
		}
	}
	return best
}

// load is how much a target has to do for its weight; one more is counted, so that weights matter to idle targets too.
func (m *member) load() float64 {
	return float64(m.target.open.Load()+1) / (float64(m.weight) * m.target.share())
}

// twoChoices takes the less loaded of two that chance has chosen (Mitzenmacher, 2001).
type twoChoices struct{}

func (twoChoices) choose(s *set, _ *message.Request, f filter) *member {
	a := weighted(s, f)
	if a == nil {
		return nil
	}
	// Comparing a target with itself would be no choice.
	f.except = a
	b := weighted(s, f)
	if b != nil && b.pressure() < a.pressure() {
		return b
	}
	return a
}

// pressure is a target's open requests for its weight. Those that have none are alike: weights have had their say in
// the choice.
func (m *member) pressure() float64 {
	return float64(m.target.open.Load()) / (float64(m.weight) * m.target.share())
}

// consistent keeps a key at its target for as long as it fits: rendezvous hashing (Thaler and Ravishankar, 1998), with
// weights.
type consistent struct{ kind, name string }

func newConsistent(by string) consistent {
	kind, name, _ := strings.Cut(by, ":")
	return consistent{kind, name}
}

func (b consistent) choose(s *set, r *message.Request, f filter) *member {
	key := hash(b.key(r))
	var best *member
	highest := math.Inf(-1)
	for i := range s.members {
		m := &s.members[i]
		// A uniform number from 0 to 1, of the key and the target alone.
		u := (float64(mix(key^m.target.hash)>>11) + 0.5) / (1 << 53)
		// When a target leaves, only its own keys move, and they spread over the others by weight.
		if score := -float64(m.weight) / math.Log(u); score > highest && f.fit(m) {
			best, highest = m, score
		}
	}
	return best
}

func (b consistent) key(r *message.Request) string {
	switch b.kind {
	case "header":
		if value, ok := r.Fields.Get(b.name); ok {
			return value
		}
	case "cookie":
		if value, ok := r.Fields.Cookie(b.name); ok {
			return value
		}
	}
	// Without the header or cookie, the client's address keeps at least each client at one target.
	return r.Client
}

// hash is FNV-1a, the same on every node and after every start.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// mix is the end of MurmurHash3, by which every bit comes to depend on all.
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
