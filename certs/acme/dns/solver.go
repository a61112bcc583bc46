// Package dns answers challenges of dns-01 (RFC 8555 section 8.4) through the providers of lego, whose settings are environment
// variables as lego documents them, and a few of its own where lego's cannot be used.
//
//	solver, err := dns.New(dns.Options{Provider: "cloudflare", Log: log})   // CLOUDFLARE_DNS_API_TOKEN is set
package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-acme/lego/v5/challenge/dns01"
	"github.com/mholt/acmez/v3/acme"

	"padlock/internal/mask"
)

// Options of New.
type Options struct {
	Provider  string
	Resolvers []string      // host:port; the system's if there are none
	Timeout   time.Duration // for the record to be seen; 0: the provider's
	Log       *slog.Logger
}

// provider is what lego's packages and our own offer. The context bounds each call.
type provider interface {
	Present(ctx context.Context, domain, token, keyAuth string) error
	CleanUp(ctx context.Context, domain, token, keyAuth string) error
}

// patient providers say how long a record may take to be seen, and how often to look.
type patient interface {
	Timeout() (timeout, interval time.Duration)
}

// Solver is an acmez.Solver and Waiter. It is safe for use from many goroutines.
type Solver struct {
	provider provider
	o        Options
	timeout  time.Duration
	interval time.Duration

	mu   sync.Mutex
	busy map[string]chan struct{} // record names that an order has now: a name and its wildcard share one
}

// ErrSettings is wrapped by what New returns where the environment does not have what the provider needs.
var ErrSettings = errors.New("dns-01")

// New makes the provider from the environment; what is missing there is an error that names it.
func New(o Options) (*Solver, error) {
	if len(o.Resolvers) > 0 {
		options := dns01.NewOptions()
		options.RecursiveNameservers = o.Resolvers
		dns01.SetDefaultClient(dns01.NewClient(options)) // lego's providers find the zone with it
	}
	p, err := newProvider(o)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSettings, mask.Error(err))
	}
	s := &Solver{provider: p, o: o, timeout: time.Minute, interval: 2 * time.Second, busy: map[string]chan struct{}{}}
	if timed, ok := p.(patient); ok {
		s.timeout, s.interval = timed.Timeout()
	}
	if o.Timeout > 0 {
		s.timeout, s.interval = o.Timeout, min(s.interval, max(o.Timeout/10, 100*time.Millisecond))
	}
	return s, nil
}

// Present implements acmez.Solver.
func (s *Solver) Present(ctx context.Context, c acme.Challenge) error {
	if err := s.enter(ctx, c.DNS01TXTRecordName()); err != nil {
		return err
	}
	if err := s.provider.Present(ctx, c.Identifier.Value, c.Token, c.KeyAuthorization); err != nil {
		s.leave(c.DNS01TXTRecordName()) // nothing is cleaned up that was never there
		return fmt.Errorf("publishing the record %s with %s: %w", c.DNS01TXTRecordName(), s.o.Provider, mask.Error(err))
	}
	return nil
}

// CleanUp implements acmez.Solver.
func (s *Solver) CleanUp(ctx context.Context, c acme.Challenge) error {
	defer s.leave(c.DNS01TXTRecordName())
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return mask.Error(s.provider.CleanUp(ctx, c.Identifier.Value, c.Token, c.KeyAuthorization)) // some services take their keys in the query
}

func (s *Solver) enter(ctx context.Context, name string) error {
	for {
		s.mu.Lock()
		other, taken := s.busy[name]
		if !taken {
			s.busy[name] = make(chan struct{})
		}
		s.mu.Unlock()
		if !taken {
			return nil
		}
		select {
		case <-other:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Solver) leave(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if done, ok := s.busy[name]; ok {
		close(done)
		delete(s.busy, name)
	}
}

// Wait implements acmez.Waiter: it returns when the record is seen. One that is not seen in time may still be seen by the CA, whose
// word counts.
func (s *Solver) Wait(ctx context.Context, c acme.Challenge) error {
	name, value := c.DNS01TXTRecordName(), c.DNS01KeyAuthorization()
	deadline := time.Now().Add(s.timeout)
	for !s.sees(ctx, name, value) {
		if time.Now().After(deadline) {
			s.o.Log.Warn("the DNS record was not seen in time; the CA is asked to look all the same", "record", name, "waited", s.timeout)
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(s.interval):
		}
	}
	return nil
}

// sees asks every resolver; all of them must have the record.
func (s *Solver) sees(ctx context.Context, name, value string) bool {
	resolvers := []*net.Resolver{net.DefaultResolver}
	if len(s.o.Resolvers) > 0 {
		resolvers = nil
	}
	for _, address := range s.o.Resolvers {
		resolvers = append(resolvers, &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, address)
		}})
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, r := range resolvers {
		values, err := r.LookupTXT(ctx, strings.TrimSuffix(name, ".")+".")
		if err != nil || !slices.Contains(values, value) {
			return false
		}
	}
	return true
}
