package console

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"padlock/handshake"
	"padlock/handshake/wire"
)

// Trends counts, minute by minute, what clients agreed on in the last hour. It is a handshake.Sink, and safe for use
// from many goroutines.
type Trends struct {
	mu      sync.Mutex
	minutes [trendMinutes]minute
	all     uint64
	clock   func() time.Time
}

const trendMinutes = 60

// minute is what has happened in one minute since 1970.
type minute struct {
	at       int64
	complete int
	trouble  int // failures that a person should look at
	noise    int
	versions map[string]int
	groups   map[string]int
}

// NewTrends counts from now on.
func NewTrends() *Trends { return &Trends{clock: time.Now} }

// Handshake implements handshake.Sink.
func (t *Trends) Handshake(e *handshake.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all++
	at := t.clock().Unix() / 60
	m := &t.minutes[at%trendMinutes]
	if m.at != at {
		*m = minute{at: at, versions: map[string]int{}, groups: map[string]int{}}
	}

	switch {
	case attention(e):
		m.trouble++
	case e.Outcome != handshake.Complete:
		m.noise++
	default:
		m.complete++
		// A CA's validation over plain HTTP has no TLS version.
		if e.Version != 0 {
			m.versions["TLS "+wire.VersionName(e.Version)]++
			m.groups[cmp.Or(e.Group, "RSA")]++
		}
	}
}

// Share is a part of all handshakes of the last hour.
type Share struct {
	Name    string
	Count   int
	Minutes [trendMinutes]int // oldest first
}

// trend is the last hour.
type trend struct {
	All                      uint64 // since the start
	Complete, Trouble, Noise Share
	Versions, Groups         []Share // most first
}

func (t *Trends) hour() (h trend) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h.All = t.all
	h.Complete.Name, h.Trouble.Name, h.Noise.Name = "complete", "failed", "noise"
	now := t.clock().Unix() / 60
	versions, groups := map[string]*Share{}, map[string]*Share{}
	for _, m := range t.minutes {
		i := int(trendMinutes - 1 - (now - m.at))
		// The ring still holds minutes of an earlier hour, and the clock may have been set back.
		if i < 0 || i >= trendMinutes {
			continue
		}
		h.Complete.add(i, m.complete)
		h.Trouble.add(i, m.trouble)
		h.Noise.add(i, m.noise)
		addShares(versions, m.versions, i)
		addShares(groups, m.groups, i)
	}

	h.Versions, h.Groups = sorted(versions), sorted(groups)
	return h
}

func (s *Share) add(i, n int) { s.Count += n; s.Minutes[i] += n }

func addShares(shares map[string]*Share, counts map[string]int, i int) {
	for name, n := range counts {
		if shares[name] == nil {
			shares[name] = &Share{Name: name}
		}
		shares[name].add(i, n)
	}
}

func sorted(shares map[string]*Share) (all []Share) {
	for _, s := range shares {
		all = append(all, *s)
	}
	slices.SortFunc(all, func(a, b Share) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name)) })
	return all
}
