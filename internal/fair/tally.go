package fair

import "net/netip"

// Tally counts what sources have. As a client may have many an IPv6 source, all that are in one network (a /48) count
// for each of them, too: by the part that would be one source's if four had it all. The zero value is ready. It is not
// safe for use from many goroutines.
type Tally struct {
	sources  map[netip.Prefix]int64
	networks map[netip.Prefix]int64 // of several sources
}

// Add counts n more for a source, or, below 0, less.
func (t *Tally) Add(from netip.Prefix, n int64) {
	if t.sources == nil {
		t.sources, t.networks = map[netip.Prefix]int64{}, map[netip.Prefix]int64{}
	}
	add(t.sources, from, n)
	if network := site(from); network != from {
		add(t.networks, network, n)
	}
}

func add(counts map[netip.Prefix]int64, to netip.Prefix, n int64) {
	if counts[to] += n; counts[to] == 0 {
		delete(counts, to)
	}
}

// Load is what a source has, or what counts for it of its network's, whichever is more.
func (t *Tally) Load(from netip.Prefix) int64 { return t.With(from, 0) }

// With is the load of a source if it had n more.
func (t *Tally) With(from netip.Prefix, n int64) int64 {
	own := t.sources[from] + n
	network := site(from)
	if network == from {
		return own
	}
	return max(own, (t.networks[network]+n+networkShare-1)/networkShare)
}

// Most is the source with the largest load, and of those in its network the one that has most itself, but for
// those that are exempt; the zero prefix where nobody has any.
func (t *Tally) Most(exempt func(netip.Prefix) bool) (most netip.Prefix) {
	for from := range t.sources {
		if (t.sources[most] == 0 || t.Less(most, from)) && !exempt(from) {
			most = from
		}
	}
	return most
}

// Nobody is exempt from Most.
func Nobody(netip.Prefix) bool { return false }

// Less reports whether a source has less than another: by their loads, and by what they have themselves where these are
// the same.
func (t *Tally) Less(one, other netip.Prefix) bool {
	a, b := t.Load(one), t.Load(other)
	return a < b || a == b && t.sources[one] < t.sources[other]
}

// Exceeds reports whether a source has so much more than another that it still has as much when one of its own has gone
// to that: within a network by what they have themselves.
func (t *Tally) Exceeds(one, other netip.Prefix) bool {
	if site(one) == site(other) {
		return t.sources[one] >= t.sources[other]+2
	}
	return t.Load(one) >= t.Load(other)+2
}

// Sources is how many have any.
func (t *Tally) Sources() int { return len(t.sources) }
