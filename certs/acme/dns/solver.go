// Package dns answers challenges of dns-01 (RFC 8555 section 8.4) through the providers of lego, whose settings are
// environment variables as lego documents them, and a few of its own where lego's cannot be used.
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
	"github.com/go-acme/lego/v5/log"
	"github.com/mholt/acmez/v3/acme"

	"padlock/internal/mask"
)

// Options of New.
type Options struct {
	Provider  string
	Resolvers []string      // host:port; the system's if there are none
	Timeout   time.Duration // for the record to be seen; 0: the provider's
	Locker    Locker        // nil: this process is the only one
	Log       *slog.Logger
}

// Locker keeps the orders of several nodes apart. Lock waits; who has a lock calls Unlock with the same name.
type Locker interface {
	Lock(ctx context.Context, name string) error
	Unlock(ctx context.Context, name string) error
}

// Error is a record that a provider did not take.
type Error struct {
	Provider, Record string
	Err              error
}

func (e *Error) Error() string {
	return fmt.Sprintf("publishing the record %s with %s: %v", e.Record, e.Provider, e.Err)
}

// Unwrap returns what the provider said.
func (e *Error) Unwrap() error { return e.Err }

// provider is what lego's packages and our own offer. The context bounds each call.
type provider interface {
	Present(ctx context.Context, domain, token, keyAuth string) error
	CleanUp(ctx context.Context, domain, token, keyAuth string) error
}

// patient providers say how long a record may take to be seen, and how often to look.
type patient interface {
	Timeout() (timeout, interval time.Duration)
}

// sequential providers take one challenge after the other, with a pause between them.
type sequential interface {
	Sequential() time.Duration
}

// Solver is an acmez.Solver and Waiter. It is safe for use from many goroutines.
type Solver struct {
	provider provider
	o        Options
	timeout  time.Duration
	interval time.Duration

	single bool          // the provider takes one challenge at a time
	pause  time.Duration // and that long after the one before

	mu sync.Mutex
	// Places that an order has now: a name and its wildcard share one, and so do names whose CNAMEs lead to one.
	busy map[string]chan struct{}
	at   map[string]string // by challenge, where its record lies
}

// ErrSettings is wrapped by what New returns where the environment does not have what the provider needs.
var ErrSettings = errors.New("dns-01")

// New makes the provider from the environment; what is missing there is an error that names it.
func New(o Options) (*Solver, error) {
	if len(o.Resolvers) > 0 {
		options := dns01.NewOptions()
		options.RecursiveNameservers = o.Resolvers
		// lego's providers find the zone through this client.
		dns01.SetDefaultClient(dns01.NewClient(options))
	}
	// lego logs globally. What it has to report is in its errors.
	log.SetDefault(slog.New(slog.DiscardHandler))
	p, err := newProvider(o)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSettings, mask.Error(err))
	}
	return newSolver(p, o), nil
}

func newSolver(p provider, o Options) *Solver {
	s := &Solver{provider: p, o: o, timeout: time.Minute, interval: 2 * time.Second, busy: map[string]chan struct{}{}, at: map[string]string{}}
	if one, ok := p.(sequential); ok {
		s.single, s.pause = true, one.Sequential()
	}
	if timed, ok := p.(patient); ok {
		s.timeout, s.interval = timed.Timeout()
	}
	if o.Timeout > 0 {
		s.timeout, s.interval = o.Timeout, min(s.interval, max(o.Timeout/10, 100*time.Millisecond))
	}
	return s
}

// Present implements acmez.Solver.
func (s *Solver) Present(ctx context.Context, c acme.Challenge) error {
	if err := s.enter(ctx, c); err != nil {
		return err
	}
	if err := s.provider.Present(ctx, c.Identifier.Value, c.Token, c.KeyAuthorization); err != nil {
		// Nothing is cleaned up that was never created.
		s.leave(c, 0)
		return &Error{s.o.Provider, c.DNS01TXTRecordName(), mask.Error(err)}
	}
	return nil
}

// CleanUp implements acmez.Solver.
func (s *Solver) CleanUp(ctx context.Context, c acme.Challenge) error {
	s.mu.Lock()
	_, present := s.at[challenge(c)]
	s.mu.Unlock()
	if !present {
		return nil // Present has failed
	}
	defer s.leave(c, s.pause)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	// Some services take their keys in the query.
	return mask.Error(s.provider.CleanUp(ctx, c.Identifier.Value, c.Token, c.KeyAuthorization))
}

func challenge(c acme.Challenge) string { return c.DNS01TXTRecordName() + " " + c.KeyAuthorization }

// place is where a challenge's record lies, which is where a CNAME leads. A provider that takes one at a time has one
// place.
func (s *Solver) place(ctx context.Context, c acme.Challenge) string {
	if s.single {
		return s.o.Provider
	}
	return strings.ToLower(dns01.GetChallengeInfo(ctx, c.Identifier.Value, c.KeyAuthorization).EffectiveFQDN)
}

// enter waits until nobody else, of this process or another, has a record in the same place.
func (s *Solver) enter(ctx context.Context, c acme.Challenge) error {
	place := s.place(ctx, c)
	if ctx.Err() != nil {
		// Nobody has said yet where the record lies.
		return ctx.Err()
	}

	for {
		s.mu.Lock()
		other, taken := s.busy[place]
		if !taken {
			s.busy[place], s.at[challenge(c)] = make(chan struct{}), place
		}

		s.mu.Unlock()
		if !taken {
			return s.lock(ctx, c, place)
		}

		select {
		case <-other:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Solver) lock(ctx context.Context, c acme.Challenge, place string) error {
	if s.o.Locker == nil {
		return nil
	}
	err := s.o.Locker.Lock(ctx, lockOf(place))
	if err != nil {
		s.free(c)
		return fmt.Errorf("waiting for other nodes' records in %s: %w", place, err)
	}
	return nil
}

// lockOf is the name of a place's lock. What a CNAME leads to may have any character.
func lockOf(place string) string {
	return "dns01_" + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_' {
			return r
		}
		return '_'
	}, strings.TrimSuffix(place, "."))
}

// leave lets the next one in, after a pause. Nobody waits for that pause but who comes next.
func (s *Solver) leave(c acme.Challenge, pause time.Duration) {
	if pause > 0 {
		time.AfterFunc(pause, func() { s.leave(c, 0) })
		return
	}

	if s.o.Locker != nil {
		s.mu.Lock()
		place := s.at[challenge(c)]
		s.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.o.Locker.Unlock(ctx, lockOf(place)); err != nil {
			// The lease ends by itself, so this delays the next order and breaks nothing.
			s.o.Log.Debug("the lock of a DNS record could not be given back", "record", place, "error", err)
		}
	}
	s.free(c)
}

func (s *Solver) free(c acme.Challenge) {
	s.mu.Lock()
	defer s.mu.Unlock()
	place := s.at[challenge(c)]
	delete(s.at, challenge(c))
	if done, ok := s.busy[place]; ok {
		close(done)
		delete(s.busy, place)
	}
}

// Wait implements acmez.Waiter: it returns when the record is seen. One that is not seen in time may still be seen by
// the CA, whose word counts.
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
