package console

import (
	"context"
	"strings"
	"sync"
	"time"

	"padlock/traffic"
)

// history is what the proxy has counted in each minute of the last hour. It compares the counters with what they were:
// requests know nothing of it. It is safe for use from many goroutines.
type history struct {
	counts func() traffic.Counts
	clock  func() time.Time

	mu    sync.Mutex
	now   int64 // the minute since 1970 that is under way
	kinds map[subject]*record
}

// subject is whose numbers they are.
type subject struct {
	Kind string // site | route | target
	Site string // of a route
	Name string
}

// record is what is known of one subject.
type record struct {
	before  tally  // its counters when they were looked at last
	minutes []tick // of the last hour, oldest first; those in which nothing was are not among them
	seen    int64  // the look at which it was there last
}

// tally is the state of a subject's counters.
type tally struct {
	all, refused, failed uint64
	took                 traffic.Distribution
}

// tick is what a minute has added.
type tick struct {
	minute               int64
	all, refused, failed uint32
	took                 [len(traffic.Bounds) + 1]uint32
}

func newHistory(counts func() traffic.Counts) *history {
	h := &history{counts: counts, clock: time.Now, kinds: map[subject]*record{}}
	h.now = h.minute()
	return h
}

func (h *history) minute() int64 { return h.clock().Unix() / 60 }

// run looks at the counters at the end of each minute, until ctx ends.
func (h *history) run(ctx context.Context) {
	for {
		now := h.clock()
		timer := time.NewTimer(now.Truncate(time.Minute).Add(time.Minute).Sub(now))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		h.mu.Lock()
		h.look()
		h.mu.Unlock()
	}
}

// look notes what has been counted since the last look, which was in the same minute, or at its end. It is called with
// the lock held.
func (h *history) look() {
	counts := h.counts()
	minute := h.minute()
	for i := range counts.Sites {
		s := &counts.Sites[i]
		all, failed := s.Requests()
		h.note(subject{"site", "", s.Name}, minute, &tally{all, s.Refused(), failed, s.Took})
		for j := range s.Routes {
			r := &s.Routes[j]
			h.note(subject{"route", s.Name, r.Name}, minute, &tally{r.Took.Count, r.Refused, r.Failed, r.Took})
		}
	}
	for i := range counts.Targets {
		t := &counts.Targets[i]
		h.note(subject{"target", "", t.Name}, minute, &tally{t.Requests, 0, t.Failed, t.ResponseHeader})
	}

	for of, r := range h.kinds {
		// Sites and targets that a reload has taken away.
		if r.seen != minute {
			delete(h.kinds, of)
		}
	}
	h.now = minute
}

func (h *history) note(of subject, minute int64, is *tally) {
	r := h.kinds[of]
	if r == nil && of.Kind == "route" && is.all == 0 {
		// Nobody shows a route that nobody has asked for.
		return
	}
	if r == nil {
		r = &record{}
		h.kinds[of] = r
	}
	r.seen = minute
	for len(r.minutes) > 0 && r.minutes[0].minute <= minute-trendMinutes {
		r.minutes = r.minutes[1:]
	}

	before := r.before
	if r.before = *is; is.all < before.all {
		// The counters began anew: a target went, and came back.
		before = tally{}
	}
	if is.all == before.all {
		return
	}
	// The clock may have been set back.
	if n := len(r.minutes); n == 0 || r.minutes[n-1].minute < h.now {
		r.minutes = append(r.minutes, tick{minute: h.now})
	}
	last := &r.minutes[len(r.minutes)-1]
	last.all += uint32(is.all - before.all)
	last.refused += uint32(is.refused - before.refused)
	last.failed += uint32(is.failed - before.failed)
	for i, n := range is.took.Buckets {
		last.took[i] += uint32(n - before.took.Buckets[i])
	}
}

// hour is the last hour of a subject, or of several together.
type hour struct {
	subject
	All, Refused, Failed Share
	Took                 traffic.Distribution
	took                 [trendMinutes]*traffic.Distribution // nil: nothing was
}

// total is a subject's numbers since the start.
type total struct {
	All, Refused, Failed uint64
	Took                 traffic.Distribution
}

// hours are those of all subjects of which keep reports true.
func (h *history) hours(keep func(subject) bool) (all []*hour) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.look()
	for of, r := range h.kinds {
		if !keep(of) {
			continue
		}
		one := &hour{subject: of}
		for i := range r.minutes {
			one.add(int(r.minutes[i].minute-h.now)+trendMinutes-1, &r.minutes[i])
		}
		all = append(all, one)
	}
	return all
}

// since is what a subject has counted since the start, as it was at the last look.
func (h *history) since(of subject) (t total, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.kinds[of]
	if r == nil {
		return total{}, false
	}
	return total{r.before.all, r.before.refused, r.before.failed, r.before.took}, true
}

func (h *hour) add(minute int, t *tick) {
	if minute < 0 || minute >= trendMinutes {
		return
	}
	h.All.add(minute, int(t.all))
	h.Refused.add(minute, int(t.refused))
	h.Failed.add(minute, int(t.failed))
	if h.took[minute] == nil {
		h.took[minute] = &traffic.Distribution{}
	}
	for _, d := range []*traffic.Distribution{h.took[minute], &h.Took} {
		for i, n := range t.took {
			d.Buckets[i] += uint64(n)
			d.Count += uint64(n)
		}
	}
}

// join adds what another subject has had.
func (h *hour) join(other *hour) {
	for i := range trendMinutes {
		h.All.add(i, other.All.Minutes[i])
		h.Refused.add(i, other.Refused.Minutes[i])
		h.Failed.add(i, other.Failed.Minutes[i])
		if took := other.took[i]; took != nil {
			if h.took[i] == nil {
				h.took[i] = &traffic.Distribution{}
			}
			h.took[i].Add(took)
		}
	}
	h.Took.Add(&other.Took)
}

// matches reports whether a text is part of the subject's names.
func (s subject) matches(text string) bool {
	return strings.Contains(strings.ToLower(s.Site+s.Name), text)
}
