package proxy

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"padlock/internal/fair"
	"padlock/traffic"
)

// abuseLog counts the clients that were disconnected, refused or delayed because of their behavior, and logs them: the
// first of a reason at once, further ones once a minute. It is safe for use from many goroutines.
type abuseLog struct {
	log      *slog.Logger
	truncate bool // addresses are logged as networks
	every    time.Duration
	tallies  [traffic.Reasons]tally
}

// tally is for one reason.
type tally struct {
	count atomic.Uint64

	mu       sync.Mutex
	unlogged uint64
	from     map[netip.Prefix]uint64 // unlogged, by client
	what     string                  // was wrong in particular with the last of the unlogged; "": not known
	logged   time.Time
	timer    *time.Timer // nil: there is nothing to log
	closed   bool
}

func newAbuseLog(log *slog.Logger, truncate bool) *abuseLog {
	return &abuseLog{log: log, truncate: truncate, every: time.Minute}
}

// add counts one. client may be the zero address.
func (c *abuseLog) add(reason traffic.Reason, client netip.Addr) { c.addDetail(reason, client, "") }

// addDetail counts one, and logs what was wrong in particular; the text is padlock's own.
func (c *abuseLog) addDetail(reason traffic.Reason, client netip.Addr, what string) {
	t := &c.tallies[reason]
	t.count.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}

	t.unlogged++
	if what != "" {
		t.what = what
	}
	t.add(c.source(client))
	if t.timer == nil {
		// Nobody here waits for the log.
		t.timer = time.AfterFunc(max(0, c.every-time.Since(t.logged)), func() { c.write(reason) })
	}
}

const maxSources = 64

// add keeps count of those who come most often: where there are too many, the next takes the place of the rarest, and
// its count (Metwally, Agrawal, El Abbadi: Efficient Computation of Frequent and Top-k Elements in Data Streams).
func (t *tally) add(client netip.Prefix) {
	if !client.IsValid() {
		return
	}
	if t.from == nil {
		t.from = map[netip.Prefix]uint64{}
	}
	if _, known := t.from[client]; !known && len(t.from) >= maxSources {
		rarest := slices.MinFunc(slices.Collect(maps.Keys(t.from)), func(a, b netip.Prefix) int { return cmp.Compare(t.from[a], t.from[b]) })
		t.from[client] = t.from[rarest]
		delete(t.from, rarest)
	}
	t.from[client]++
}

// source is what counts as one client, or what may be kept of it.
func (c *abuseLog) source(client netip.Addr) netip.Prefix {
	if c.truncate {
		return fair.Truncated(client)
	}
	return fair.Source(client)
}

// write logs what has come since the line before.
func (c *abuseLog) write(reason traffic.Reason) {
	t := &c.tallies[reason]
	t.mu.Lock()
	n, from, what := t.unlogged, t.from, t.what
	t.unlogged, t.from, t.what, t.logged, t.timer = 0, nil, "", time.Now(), nil
	// Logging happens without the lock, which the next rejection takes.
	t.mu.Unlock()
	attrs := []any{"reason", reason.String(), "count", n, "total", t.count.Load(), "why", reason.Why()}
	if key := reason.Key(); key != "" {
		attrs = append(attrs, "limit", key)
	}
	if what != "" {
		attrs = append(attrs, "latest", what)
	}
	if len(from) > 0 {
		attrs = append(attrs, "from", often(from))
	}

	c.log.Warn("clients were rejected", attrs...)
}

const maxNamed = 5

// often names the most frequent clients.
func often(from map[netip.Prefix]uint64) string {
	clients := slices.SortedFunc(maps.Keys(from), func(a, b netip.Prefix) int {
		return cmp.Or(cmp.Compare(from[b], from[a]), a.Compare(b))
	})
	var text strings.Builder
	for i, client := range clients[:min(len(clients), maxNamed)] {
		if i > 0 {
			text.WriteString(", ")
		}
		name := client.String()
		if client.IsSingleIP() {
			name = client.Addr().String()
		}
		fmt.Fprintf(&text, "%s (%d)", name, from[client])
	}

	if more := len(clients) - maxNamed; more > 0 {
		fmt.Fprintf(&text, " and %d more", more)
	}
	return text.String()
}

// counts are all, by reason.
func (c *abuseLog) counts() (counts [traffic.Reasons]uint64) {
	for i := range c.tallies {
		counts[i] = c.tallies[i].count.Load()
	}
	return counts
}

// close tells what is unlogged.
func (c *abuseLog) close() {
	for i := range c.tallies {
		t := &c.tallies[i]
		t.mu.Lock()
		t.closed = true
		unlogged := t.timer != nil && t.timer.Stop()
		t.mu.Unlock()
		if unlogged {
			c.write(traffic.Reason(i))
		}
	}
}
