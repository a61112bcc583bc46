// Package traffic counts what passes through padlock. The proxy counts on its way, without a lock; whoever shows it
// takes a snapshot.
//
//	site := book.Site("app.example.com")   // the same counters after a reload
//	site.Request(traffic.HTTP2, 200, took)
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

// Site counts the requests of one site. It is safe for use from many goroutines.
type Site struct {
	name     string
	answers  atomic.Pointer[[]*answer]
	adding   sync.Mutex
	took     Histogram
	bytesIn  atomic.Uint64
	bytesOut atomic.Uint64
}

type answer struct {
	protocol Protocol
	status   int // 0: more than are counted one by one
	count    atomic.Uint64
}

// Request counts a request, or a connection of TCP, that has ended. A status that is no number of three digits counts
// as 0.
func (s *Site) Request(protocol Protocol, status int, took time.Duration, in, out int64) {
	if status < 100 || status > 999 {
		status = 0
	}
	s.answer(protocol, status).count.Add(1)
	s.took.Observe(took)
	// A counter that only grows would take a count below zero for a huge one.
	s.bytesIn.Add(uint64(max(in, 0)))
	s.bytesOut.Add(uint64(max(out, 0)))
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

func (s *Site) count() SiteCount {
	c := SiteCount{Name: s.name, Took: s.took.Distribution(), BytesIn: s.bytesIn.Load(), BytesOut: s.bytesOut.Load()}
	if known := s.answers.Load(); known != nil {
		for _, a := range *known {
			c.Answers = append(c.Answers, AnswerCount{a.protocol, a.status, a.count.Load()})
		}
	}
	slices.SortFunc(c.Answers, func(a, b AnswerCount) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Status, b.Status))
	})
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

// Quantile is an upper bound of the part q of what was counted, as exact as the buckets are; 0 where nothing was.
func (d *Distribution) Quantile(q float64) time.Duration {
	if d.Count == 0 {
		return 0
	}
	rank, seen := uint64(q*float64(d.Count)), uint64(0)
	for i, n := range d.Buckets {
		if seen += n; seen > rank || seen == d.Count {
			return time.Duration(Bounds[min(i, len(Bounds)-1)] * float64(time.Second))
		}
	}
	return 0
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
	for i, n := range other.ResponseHeader.Buckets {
		c.ResponseHeader.Buckets[i] += n
	}
	c.ResponseHeader.Count, c.ResponseHeader.Sum = c.ResponseHeader.Count+other.ResponseHeader.Count, c.ResponseHeader.Sum+other.ResponseHeader.Sum
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
