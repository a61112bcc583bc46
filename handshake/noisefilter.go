package handshake

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"time"
)

// NoiseOptions of NewNoiseFilter. Zero numbers mean the defaults.
type NoiseOptions struct {
	Every     time.Duration    // how often what was held back is summed up; a minute
	PerSource int              // failures of one address that are passed on in that time; 60
	Total     int              // failures that are passed on in that time; 600
	Sample    int              // of complete handshakes one in this many is passed on; 1
	Dropped   func() uint64    // records lost before they came here; nil: unknown
	Clock     func() time.Time // time.Now
	Summary   func([]HeldBack) //
}

// HeldBack is what was counted instead of being passed on one by one.
type HeldBack struct {
	Source string // the client's address; empty for all others together
	Kind   string // scan, http, ssh, …, "failure" beyond the limits, or "lost"
	Count  uint64
	Over   time.Duration
}

// NoiseFilter passes on what a person should look at. Noise is counted and summed up by source, once a minute: of
// health checks, port scans and browsers' spare connections nothing else is passed on, of other noise the first from
// each source, and the next after a while of silence. Failures beyond a rate are counted likewise, so that nobody can
// fill a disk with them.
type NoiseFilter struct {
	next Sink
	o    NoiseOptions
	stop chan struct{}
	done sync.WaitGroup

	mu      sync.Mutex
	held    map[heldKey]uint64
	shown   map[heldKey]time.Time // noise of which the first was passed on, and when it last came
	passed  map[string]int        // failures by source
	all     int                   // failures
	seen    uint64                // complete handshakes
	since   time.Time
	dropped uint64
}

type heldKey struct{ source, kind string }

const maxSources = 1024

// NewNoiseFilter starts summing up; Close ends it.
func NewNoiseFilter(next Sink, o NoiseOptions) *NoiseFilter {
	o.Every = cmp.Or(o.Every, time.Minute)
	o.PerSource, o.Total, o.Sample = cmp.Or(o.PerSource, 60), cmp.Or(o.Total, 600), cmp.Or(o.Sample, 1)
	if o.Clock == nil {
		o.Clock = time.Now
	}
	q := &NoiseFilter{next: next, o: o, stop: make(chan struct{}), shown: map[heldKey]time.Time{}}
	// Before the goroutine starts, which reads what reset sets.
	q.reset()
	q.done.Go(func() {
		ticker := time.NewTicker(o.Every)
		defer ticker.Stop()

		for {
			select {
			case <-ticker.C:
				q.sumUp()
			case <-q.stop:
				return
			}
		}
	})
	return q
}

// Close sums up what is left. It is called once, after the last event.
func (q *NoiseFilter) Close() {
	close(q.stop)
	q.done.Wait()
	q.sumUp()
}

// Handshake implements Sink.
func (q *NoiseFilter) Handshake(e *Event) {
	if q.passes(e) {
		q.next.Handshake(e)
	}
}

func (q *NoiseFilter) passes(e *Event) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	source, _, err := net.SplitHostPort(e.Remote)
	if err != nil {
		source = e.Remote
	}

	switch {
	case e.Noise != "":
		key := heldKey{source, e.Noise}
		// A person who tries something by hand sees the first failure at once. Scans and spare connections nobody
		// makes by hand.
		if e.Noise != "scan" && e.Noise != spareNoise && q.fresh(key) {
			return true
		}
		q.hold(key)
		return false
	case e.Outcome == Complete:
		q.seen++
		// The first is shown, so that a new installation with sampling does not look dead.
		return (q.seen-1)%uint64(q.o.Sample) == 0
	}

	// Two limits: one client cannot use up the log's share of the others, and many clients together cannot fill the
	// disk.
	if q.passed[source] >= q.o.PerSource || q.all >= q.o.Total {
		q.hold(heldKey{source, "failure"})
		return false
	}

	q.passed[source]++
	q.all++
	return true
}

// fresh reports whether noise of this kind has not come from this source for a while: somebody who tries again sees
// that it fails again.
func (q *NoiseFilter) fresh(key heldKey) bool {
	now := q.o.Clock()
	last, known := q.shown[key]
	// Invented source addresses must not fill the memory.
	if !known && len(q.shown) >= maxSources {
		return false
	}
	q.shown[key] = now
	return !known || now.Sub(last) >= q.o.Every
}

func (q *NoiseFilter) hold(key heldKey) {
	if _, known := q.held[key]; !known && len(q.held) >= maxSources {
		// Beyond the bound, sources are counted together rather than not at all.
		key.source = ""
	}
	q.held[key]++
}

func (q *NoiseFilter) reset() {
	q.held, q.passed, q.all, q.since = map[heldKey]uint64{}, map[string]int{}, 0, q.o.Clock()
	if len(q.shown) >= maxSources {
		clear(q.shown)
	}
}

const maxSummary = 20

// sumUp passes on the largest sources, and the rest together.
func (q *NoiseFilter) sumUp() {
	q.mu.Lock()
	held, over := q.held, q.o.Clock().Sub(q.since)
	q.reset()
	if q.o.Dropped != nil {
		if dropped := q.o.Dropped(); dropped > q.dropped {
			held[heldKey{"", "lost"}] = dropped - q.dropped
			q.dropped = dropped
		}
	}
	// Sorting and writing happen without the lock, which every handshake takes.
	q.mu.Unlock()
	keys := slices.SortedFunc(maps.Keys(held), func(a, b heldKey) int {
		return cmp.Or(cmp.Compare(held[b], held[a]), cmp.Compare(a.source, b.source), cmp.Compare(a.kind, b.kind))
	})
	var out []HeldBack
	rest := map[string]uint64{}
	for i, key := range keys {
		if i < maxSummary {
			out = append(out, HeldBack{key.source, key.kind, held[key], over})
		} else {
			rest[key.kind] += held[key]
		}
	}

	for _, kind := range slices.Sorted(maps.Keys(rest)) {
		out = append(out, HeldBack{"", kind, rest[kind], over})
	}

	if len(out) > 0 && q.o.Summary != nil {
		q.o.Summary(out)
	}
}

// SummaryText writes what was held back as text, a line each.
func SummaryText(w io.Writer) func([]HeldBack) {
	return func(held []HeldBack) {
		for _, h := range held {
			fmt.Fprintf(w, "%s: %d × %s in the last %s\n", cmp.Or(h.Source, "others"), h.Count, heldText(h.Kind), h.Over.Round(time.Second))
		}
	}
}

// SummaryJSON writes what was held back as JSON, a line each.
func SummaryJSON(w io.Writer) func([]HeldBack) {
	return func(held []HeldBack) {
		for _, h := range held {
			o := object{b: []byte{'{'}}
			o.time("time", time.Now(), time.RFC3339Nano)
			o.text("msg", "handshakes held back")
			o.number("schema", schema)
			o.text("source", h.Source)
			o.text("kind", h.Kind)
			o.number("count", int64(h.Count))
			o.ms("over_ms", h.Over)
			_, _ = w.Write(append(o.b, "}\n"...))
		}
	}
}

func heldText(kind string) string {
	switch kind {
	case "scan":
		return "connected and left without a byte (health check or port scan)"
	case "waiting":
		return "connected, waited, and left without a byte (as clients that wait for a greeting do)"
	case spareNoise:
		return "connected in advance, and were not needed"
	case privateNoise:
		return "tried HTTP/3, which browsers use with public CAs only, and went on over HTTP/2"
	case "slow":
		return "never finished a hello (connected in advance, or a slow attack)"
	case "failure":
		return "failed, more than are told one by one"
	case "lost":
		return "lost, because more came than could be told"
	}
	return protocolNamed(kind).name + " on a TLS port"
}
