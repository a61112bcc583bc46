package certs

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ocsp"

	"padlock/certs/acme"
)

// staples are what OCSP responders have said of certificates of files (RFC 6960). It is safe for use from many
// goroutines.
type staples struct {
	mu  sync.Mutex
	all map[string]staple // by the certificate itself
}

// staple is what is known of one certificate.
type staple struct {
	response []byte    // nil: there is none that is good
	until    time.Time // when it is not good any more; zero: the responder has not said
	next     time.Time // when to ask again
	revoked  bool
	warned   time.Time // when something wrong was last logged
}

func (s *staples) of(leaf *x509.Certificate) staple {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[string(leaf.Raw)]
}

func (s *staples) keep(leaf *x509.Certificate, one staple) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[string]staple{}
	}
	s.all[string(leaf.Raw)] = one
}

// TakeStaples serves what other Files have learnt from responders, as after a reload. It is called before Watch.
func (f *Files) TakeStaples(from *Files) {
	from.staples.mu.Lock()
	all := maps.Clone(from.staples.all)
	from.staples.mu.Unlock()
	f.staples.mu.Lock()
	f.staples.all = all
	f.staples.mu.Unlock()
	// Published at once, so that must-staple certificates are never served without a response after a reload.
	f.publish()
}

// stapled is a certificate as it is served now.
func (f *Files) stapled(c *tls.Certificate, now time.Time) *tls.Certificate {
	if len(c.Leaf.OCSPServer) == 0 {
		return c
	}
	s := f.staples.of(c.Leaf)
	if s.response == nil || !s.until.IsZero() && now.After(s.until) {
		return c
	}
	// A certificate that is served is never changed, as handshakes read it without a lock.
	with := *c
	with.OCSPStaple = s.response
	return &with
}

// answer is what a responder said of one pair.
type answer struct {
	pair     pair
	raw      []byte
	response *ocsp.Response
	err      error
}

// due are pairs whose responder is to be asked now.
func (f *Files) due(now time.Time) (all []pair) {
	for _, e := range f.entries {
		for _, p := range e.pairs {
			if len(p.Leaf.OCSPServer) > 0 && validAt(p.Leaf, now) && !now.Before(f.staples.of(p.Leaf).next) {
				all = append(all, p)
			}
		}
	}
	return all
}

var errNoIssuer = errors.New("the issuer's certificate is not there, and without it nothing can be asked: add it to the file")

// ask asks the responders of several pairs, a few at a time.
func ask(ctx context.Context, all []pair) []answer {
	out := make([]answer, len(all))
	slots := make(chan struct{}, 8)
	var wg sync.WaitGroup
	for i, p := range all {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			out[i] = answer{pair: p, err: errNoIssuer}
			if p.issuer != nil {
				out[i].raw, out[i].response, out[i].err = acme.OCSP(ctx, p.Leaf, p.issuer)
			}
		})
	}

	wg.Wait()
	return out
}

const (
	ocspRetry   = 5 * time.Minute
	ocspSoonest = time.Minute
	ocspLatest  = time.Hour // so that a revocation is noticed
)

// learn keeps what responders have said, and serves it.
func (f *Files) learn(answers []answer, now time.Time) {
	for _, a := range answers {
		leaf, s := a.pair.Leaf, f.staples.of(a.pair.Leaf)
		s.next = now.Add(ocspRetry)
		switch {
		case a.err != nil:
			f.log.Debug("no OCSP response", "file", a.pair.file, "names", leaf.DNSNames, "error", a.err)
		case a.response.Status == ocsp.Good:
			s.response, s.until, s.revoked = a.raw, a.response.NextUpdate, false
			s.next = now.Add(min(ocspLatest, max(a.response.NextUpdate.Sub(now)/2, ocspSoonest)))
		case a.response.Status == ocsp.Revoked:
			s.response, s.revoked = nil, true
			s.next = now.Add(ocspLatest)
		}

		if now.Sub(s.warned) >= remindEvery && f.warnStaple(a, s, now) {
			s.warned = now
		}
		f.staples.keep(leaf, s)
	}
	f.publish()
}

// warnStaple warns of what clients refuse, and reports whether it was something.
func (f *Files) warnStaple(a answer, s staple, now time.Time) bool {
	attrs := []any{"file", a.pair.file, "names", a.pair.Leaf.DNSNames}
	switch {
	case s.revoked:
		f.log.Error("the CA has revoked a certificate", append(attrs, "revoked", a.response.RevokedAt, "remedy", "put a new one in its place: it is taken at once")...)
	case mustStaple(a.pair.Leaf) && (s.response == nil || !s.until.IsZero() && now.After(s.until)):
		f.log.Warn("a certificate demands an OCSP response (must-staple), and there is none: clients that check refuse it", append(attrs, "responder", a.pair.Leaf.OCSPServer[0], "error", a.err)...)
	default:
		return false
	}
	return true
}

// warnMustStaple warns of certificates that demand what nobody gives out.
func (f *Files) warnMustStaple(entries []*entry) {
	for _, e := range entries {
		for _, p := range e.pairs {
			if mustStaple(p.Leaf) && len(p.Leaf.OCSPServer) == 0 {
				f.log.Warn("a certificate demands an OCSP response (must-staple), and names no responder: clients that check refuse it",
					"file", cmp.Or(p.file, e.name), "names", p.Leaf.DNSNames, "remedy", "order one without must-staple")
			}
		}
	}
}

// mustStaple reports whether a client shall refuse a certificate that comes without an OCSP response (RFC 7633).
func mustStaple(leaf *x509.Certificate) bool {
	const statusRequest = 5
	for _, e := range leaf.Extensions {
		var features []int
		if e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}) {
			rest, err := asn1.Unmarshal(e.Value, &features)
			return err == nil && len(rest) == 0 && slices.Contains(features, statusRequest)
		}
	}
	return false
}
