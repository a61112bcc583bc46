// Package traffic counts what passes through padlock. The proxy counts on its way, without a lock; whoever shows it
// takes a snapshot.
//
//	route := book.Site("app.example.com").Route("/api")   // the same counters after a reload
//	route.Request(traffic.HTTP2, 200, took, in, out)
//	for _, s := range book.Sites() { … }
package traffic

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Protocol is what a client spoke.
type Protocol uint8

// The protocols.
const (
	HTTP1 Protocol = iota
	HTTP2
	HTTP3
	TCP
)

func (p Protocol) String() string { return [...]string{"h1", "h2", "h3", "tcp"}[p] }

// OfProto is the protocol of a request's version, such as HTTP/2.0.
func OfProto(proto string) Protocol {
	switch {
	case len(proto) < 6:
		return HTTP1
	case proto[5] == '2':
		return HTTP2
	case proto[5] == '3':
		return HTTP3
	}
	return HTTP1
}

// Book has the counters of every site. The zero value is ready; it is safe for use from many goroutines.
type Book struct {
	mu    sync.Mutex
	sites map[string]*Site
}

// Site finds the counters of a site, or makes them.
func (b *Book) Site(name string) *Site {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s, ok := b.sites[name]; ok {
		return s
	}
	if b.sites == nil {
		b.sites = map[string]*Site{}
	}
	s := &Site{name: name}
	s.own.site = s
	b.sites[name] = s
	return s
}

// Keep forgets the sites that are not named.
func (b *Book) Keep(names map[string]bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name := range b.sites {
		if !names[name] {
			delete(b.sites, name)
		}
	}
}

// Sites are the counters as they stand, by name.
func (b *Book) Sites() []SiteCount {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]SiteCount, 0, len(b.sites))
	for _, s := range b.sites {
		out = append(out, s.count())
	}
	slices.SortFunc(out, func(a, b SiteCount) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// maxAnswers bounds the pairs of protocol and status that a site counts one by one, as a target may answer with any
// status.
const maxAnswers = 64

// maxRoutes bounds the routes of a site that are counted one by one. Reloads may bring new ones for ever, and none is
// forgotten: the site's own numbers, which are their sum, must not fall.
const maxRoutes = 1000

// Site counts the requests of one site. It is safe for use from many goroutines.
type Site struct {
	name     string
	answers  atomic.Pointer[[]*answer]
	adding   sync.Mutex
	bytesIn  atomic.Uint64
	bytesOut atomic.Uint64

	own    Route // requests without a route, and connections of TCP
	mu     sync.Mutex
	routes map[string]*Route
}

// Route counts the requests of one route of a site. It is safe for use from many goroutines.
type Route struct {
	name            string
	site            *Site
	took            Histogram
	refused, failed atomic.Uint64 // 4xx, 5xx
}

// Route finds the counters of a route by its name, or makes them.
func (s *Site) Route(name string) *Route {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r := s.routes[name]; {
	case r != nil:
		return r
	case len(s.routes) >= maxRoutes:
		return &s.own
	case s.routes == nil:
		s.routes = map[string]*Route{}
	}
	r := &Route{name: name, site: s}
	s.routes[name] = r
	return r
}

// Request counts a request that no route was found for, or a connection of TCP.
func (s *Site) Request(protocol Protocol, status int, took time.Duration, in, out int64) {
	s.own.Request(protocol, status, took, in, out)
}

// Request counts a request that has ended, for the route and its site. A status that is no number of three digits
// counts as 0.
func (r *Route) Request(protocol Protocol, status int, took time.Duration, in, out int64) {
	if status < 100 || status > 999 {
		status = 0
	}
	s := r.site
	s.answer(protocol, status).count.Add(1)
	r.took.Observe(took)
	switch {
	case status >= 500:
		r.failed.Add(1)
	case status >= 400:
		r.refused.Add(1)
	}
	// A counter that only grows would take a count below zero for a huge one.
	s.bytesIn.Add(uint64(max(in, 0)))
	s.bytesOut.Add(uint64(max(out, 0)))
}

func (r *Route) count() RouteCount {
	return RouteCount{Name: r.name, Took: r.took.Distribution(), Refused: r.refused.Load(), Failed: r.failed.Load()}
}

type answer struct {
	protocol Protocol
	status   int // 0: more than are counted one by one
	count    atomic.Uint64
}

func (s *Site) answer(protocol Protocol, status int) *answer {
	if a := find(s.answers.Load(), protocol, status); a != nil {
		return a
	}

	s.adding.Lock()
	defer s.adding.Unlock()
	known := s.answers.Load()
	if a := find(known, protocol, status); a != nil {
		return a
	}

	var next []*answer
	if known != nil {
		next = slices.Clone(*known)
	}

	if len(next) >= maxAnswers {
		if a := find(known, protocol, 0); a != nil {
			return a
		}
		status = 0
	}

	a := &answer{protocol: protocol, status: status}
	next = append(next, a)
	s.answers.Store(&next)
	return a
}

func find(answers *[]*answer, protocol Protocol, status int) *answer {
	if answers == nil {
		return nil
	}
	for _, a := range *answers {
		if a.status == status && a.protocol == protocol {
			return a
		}
	}
	return nil
}

// SiteCount is what a site has counted.
type SiteCount struct {
	Name              string
	Answers           []AnswerCount
	Took              Distribution
	BytesIn, BytesOut uint64
	Routes            []RouteCount // by name
}

// RouteCount is what a route has counted. Its requests are those of Took.
type RouteCount struct {
	Name            string
	Took            Distribution
	Refused, Failed uint64 // that were answered with 4xx, and with 5xx
}

// AnswerCount is a number of answers of one kind.
type AnswerCount struct {
	Protocol Protocol
	Status   int // 0: none was sent, or it is not counted by itself
	Count    uint64
}

// Requests are all of them; Failed those that were answered with 5xx.
func (s *SiteCount) Requests() (all, failed uint64) {
	for _, a := range s.Answers {
		all += a.Count
		if a.Status >= 500 {
			failed += a.Count
		}
	}
	return all, failed
}

// Refused are the requests that were answered with 4xx.
func (s *SiteCount) Refused() (n uint64) {
	for _, a := range s.Answers {
		if a.Status >= 400 && a.Status < 500 {
			n += a.Count
		}
	}
	return n
}

func (s *Site) count() SiteCount {
	c := SiteCount{Name: s.name, Took: s.own.took.Distribution(), BytesIn: s.bytesIn.Load(), BytesOut: s.bytesOut.Load()}
	if known := s.answers.Load(); known != nil {
		for _, a := range *known {
			c.Answers = append(c.Answers, AnswerCount{a.protocol, a.status, a.count.Load()})
		}
	}
	slices.SortFunc(c.Answers, func(a, b AnswerCount) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Status, b.Status))
	})

	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.routes {
		one := r.count()
		c.Took.Add(&one.Took)
		c.Routes = append(c.Routes, one)
	}
	slices.SortFunc(c.Routes, func(a, b RouteCount) int { return cmp.Compare(a.Name, b.Name) })
	return c
}

// Bounds of the histograms' buckets, in seconds; the last bucket has none.
var Bounds = [...]float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}

// Histogram counts durations. The zero value is ready; it is safe for use from many goroutines.
type Histogram struct {
	buckets [len(Bounds) + 1]atomic.Uint64
	sum     atomic.Int64 // nanoseconds
}

// Observe counts a duration.
func (h *Histogram) Observe(took time.Duration) {
	i, seconds := 0, took.Seconds()
	for i < len(Bounds) && seconds > Bounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(int64(took))
}

// Distribution is what a Histogram has counted.
type Distribution struct {
	Buckets [len(Bounds) + 1]uint64 // each by itself
	Count   uint64
	Sum     time.Duration
}

// Distribution takes the counts as they stand.
func (h *Histogram) Distribution() (d Distribution) {
	for i := range h.buckets {
		d.Buckets[i] = h.buckets[i].Load()
		d.Count += d.Buckets[i]
	}
	d.Sum = time.Duration(h.sum.Load())
	return d
}

// Add joins what another distribution has counted.
func (d *Distribution) Add(other *Distribution) {
	for i, n := range other.Buckets {
		d.Buckets[i] += n
	}
	d.Count, d.Sum = d.Count+other.Count, d.Sum+other.Sum
}

// Quantile is an upper bound of the part q of what was counted, as exact as the buckets are; 0 where nothing was. What
// lies above the last bound counts as the last bound.
func (d *Distribution) Quantile(q float64) time.Duration {
	i := d.Bucket(q)
	if i < 0 {
		return 0
	}
	return time.Duration(Bounds[min(i, len(Bounds)-1)] * float64(time.Second))
}

// Bucket is the bucket that the part q of what was counted ends in; -1: nothing was counted.
func (d *Distribution) Bucket(q float64) int {
	rank, seen := uint64(q*float64(d.Count)), uint64(0)
	for i, n := range d.Buckets {
		if seen += n; n > 0 && (seen > rank || seen == d.Count) {
			return i
		}
	}
	return -1
}

// TargetCount is what a target has done, and its health.
type TargetCount struct {
	Name             string
	Healthy          bool   // passes its health checks, or has none
	Ejected          bool   // has failed requests of late
	Reason           string // why it is unhealthy or ejected; "": it is neither
	Open             int64
	Requests, Failed uint64
	ResponseHeader   Distribution // from sending a request to the header of its response
}

// Add joins what another target of the same name has counted. Both are healthy only together.
func (c *TargetCount) Add(other *TargetCount) {
	c.Healthy, c.Ejected = c.Healthy && other.Healthy, c.Ejected || other.Ejected
	c.Reason = cmp.Or(c.Reason, other.Reason)
	c.Open, c.Requests, c.Failed = c.Open+other.Open, c.Requests+other.Requests, c.Failed+other.Failed
	c.ResponseHeader.Add(&other.ResponseHeader)
}

// Counts are all that the proxy has counted, as it stands.
type Counts struct {
	Sites       []SiteCount
	Targets     []TargetCount
	Connections int // open, of clients
	Rejected    [Reasons]uint64
	LogDropped  uint64 // lines of the access log that could not be written, or not in time
	Trust       Trust
}

// Trust is what clients and targets are judged by.
type Trust struct {
	Unusable []TrustFile // files that cannot be used as they are now, or any more
	Lists    []RevocationList
}

// TrustFile is a file of CAs, revocation lists or certificates, and why it cannot be used.
type TrustFile struct{ File, Reason string }

// RevocationList is one that is in force.
type RevocationList struct {
	File, Issuer string
	Expires      time.Time // zero: never
}
