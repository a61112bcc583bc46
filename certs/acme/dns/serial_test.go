package dns

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-acme/lego/v5/challenge/dns01"
	"github.com/mholt/acmez/v3/acme"
	"github.com/miekg/dns"
)

// slow is a provider that notes how many records it has at once in each place.
type slow struct {
	mu          sync.Mutex
	open        map[string]int
	most, total map[string]int
	freed       time.Time
	shortest    time.Duration
	arrived     chan struct{}
	fail        atomic.Bool
}

func newSlow() *slow {
	return &slow{open: map[string]int{}, most: map[string]int{}, total: map[string]int{}, shortest: time.Hour, arrived: make(chan struct{}, 100)}
}

func at(domain, keyAuth string) string {
	return dns01.GetChallengeInfo(context.Background(), domain, keyAuth).EffectiveFQDN
}

func (p *slow) Present(_ context.Context, domain, _, keyAuth string) error {
	if p.fail.Load() {
		return errors.New("the API is away")
	}
	place := at(domain, keyAuth)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[place]++
	p.open[""]++
	p.total[place]++
	p.most[place], p.most[""] = max(p.most[place], p.open[place]), max(p.most[""], p.open[""])
	if !p.freed.IsZero() {
		p.shortest = min(p.shortest, time.Since(p.freed))
	}
	p.arrived <- struct{}{}
	return nil
}

func (p *slow) CleanUp(_ context.Context, domain, _, keyAuth string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[at(domain, keyAuth)]--
	p.open[""]--
	p.freed = time.Now()
	return nil
}

type slowSequential struct{ *slow }

func (slowSequential) Sequential() time.Duration { return 200 * time.Millisecond }

// aliases is a DNS server in which names of example.com are CNAMEs of one record, and others are nothing.
func aliases(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		if q := r.Question[0]; strings.HasSuffix(q.Name, ".example.com.") {
			m.Answer = []dns.RR{&dns.CNAME{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: "Challenges.Example.NET."}}
		}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = server.Shutdown() })
	return conn.LocalAddr().String()
}

func solver(t *testing.T, p provider, locker Locker) *Solver {
	t.Helper()
	options := dns01.NewOptions()
	options.RecursiveNameservers = []string{aliases(t)}
	dns01.SetDefaultClient(dns01.NewClient(options))
	s := newSolver(p, Options{Provider: "slow", Locker: locker, Log: slog.New(slog.DiscardHandler)})
	return s
}

func of(name string, n int) acme.Challenge {
	return acme.Challenge{Type: "dns-01", KeyAuthorization: name + string(rune('a'+n)), Identifier: acme.Identifier{Type: "dns", Value: name}}
}

// run has several orders at once, each of which ends when it has its record and somebody else is waiting for long enough.
func run(t *testing.T, solvers []*Solver, names ...string) {
	t.Helper()
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() {
			s, c := solvers[i%len(solvers)], of(name, i)
			if err := s.Present(t.Context(), c); err != nil {
				t.Error(err)
				return
			}
			time.Sleep(20 * time.Millisecond) // as a CA takes to look; what must not happen would happen here
			if err := s.CleanUp(t.Context(), c); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// locks are those of a storage that several nodes share.
type locks struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

func (l *locks) Lock(ctx context.Context, name string) error {
	for {
		l.mu.Lock()
		other, taken := l.held[name]
		if !taken {
			l.held[name] = make(chan struct{})
		}
		l.mu.Unlock()
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

func (l *locks) Unlock(_ context.Context, name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.held[name])
	delete(l.held, name)
	return nil
}

// Records that lie in the same place, be it for a name and its wildcard or because CNAMEs lead there, are made one after the other, by
// whatever node. Others are not kept waiting.
func TestRecordsOfOnePlaceAreMadeOneAfterTheOther(t *testing.T) {
	p, shared := newSlow(), &locks{held: map[string]chan struct{}{}}
	nodes := []*Solver{solver(t, p, shared), newSolver(p, Options{Provider: "slow", Locker: shared, Log: slog.New(slog.DiscardHandler)})}
	run(t, nodes, "a.example.com", "a.example.com", "b.example.com", "c.example.com", "own.test", "own.test", "other.test")
	if p.most["Challenges.Example.NET."] != 1 || p.total["Challenges.Example.NET."] != 4 || p.most["_acme-challenge.own.test."] != 1 {
		t.Errorf("at most, at once: %v; all: %v", p.most, p.total)
	}
	if len(nodes[0].busy)+len(nodes[0].at)+len(shared.held) > 0 {
		t.Error("something is still held")
	}

	// While one place is taken, another is not.
	taken := of("a.example.com", 0)
	if err := nodes[0].Present(t.Context(), taken); err != nil {
		t.Fatal(err)
	}
	run(t, nodes, "own.test")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for _, node := range nodes {
		if err := node.Present(ctx, of("b.example.com", 1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("two records in one place: %v", err)
		}
	}
	if err := nodes[0].CleanUp(t.Context(), taken); err != nil {
		t.Fatal(err)
	}
	run(t, nodes, "b.example.com")
}

// A provider that takes one challenge at a time gets one at a time, with its pause between them.
func TestASequentialProviderGetsOneAtATime(t *testing.T) {
	p := newSlow()
	run(t, []*Solver{solver(t, slowSequential{p}, nil)}, "a.test", "b.test", "c.test")
	if p.most[""] != 1 || p.shortest < 200*time.Millisecond {
		t.Errorf("%d at once, %s after the one before", p.most[""], p.shortest)
	}
}

// What a provider does not take is its error, and keeps nobody waiting: neither the next order nor, where certmagic cleans up what was
// never there, one that has the place by then.
func TestARecordThatCannotBeMadeKeepsNobodyWaiting(t *testing.T) {
	p := newSlow()
	s := solver(t, p, nil)
	p.fail.Store(true)
	var reason *Error
	if err := s.Present(t.Context(), of("a.example.com", 0)); !errors.As(err, &reason) || reason.Provider != "slow" {
		t.Fatal(err)
	}
	p.fail.Store(false)
	if err := s.Present(t.Context(), of("b.example.com", 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.CleanUp(t.Context(), of("a.example.com", 0)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Present(ctx, of("c.example.com", 2)); err == nil {
		t.Error("the place was given away while it was taken")
	}
}
