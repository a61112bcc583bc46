package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"padlock/certs/acme"
	"padlock/config"
	"padlock/internal/netname"
)

// Client gets certificates from CAs: acme.Client or acme.Autocert.
type Client interface {
	// Ensure returns what to serve for a name from now on, and when to call again. After an error it returns what it has.
	Ensure(ctx context.Context, name string, bundle *acme.Bundle) (*acme.Bundle, error)
	// Load returns what the storage has, without ordering.
	Load(ctx context.Context, name string) (*acme.Bundle, error)
	Renew(ctx context.Context, name string) error
	AnswerHTTP(w http.ResponseWriter, r *http.Request) bool
	ChallengeCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error)
	Close()
}

// Manager keeps certificates of names fresh. It is safe for use from many goroutines.
type Manager struct {
	client    Client
	log       *slog.Logger
	names     sync.Map // canonical name → *managed
	demand    *demand  // nil: only the names that were given
	preflight func(ctx context.Context, name string) []string

	looking sync.WaitGroup  // first looks at names on demand, and advice
	alive   context.Context // of first looks; it ends with Run
	end     context.CancelFunc
}

// managed is one name.
type managed struct {
	name     string
	onDemand bool
	bundle   atomic.Pointer[acme.Bundle]
	used     atomic.Int64           // Unix time of the last handshake
	touched  atomic.Bool            // since the last search for a name to forget
	wanted   atomic.Pointer[wanted] // nil: the name is listed, or has its certificate
	gone     atomic.Bool            // it is managed no longer: nothing is ordered for it

	mu     sync.Mutex
	due    time.Time     // of the next look
	busy   bool          // a look is under way
	begin  time.Time     // of that look
	answer chan struct{} // closed when the look has found something to serve, or has ended; nil when none is to come
	failed int           // looks in a row that ended in an error
	err    error
}

func newManaged(name string, onDemand bool) *managed {
	// Handshakes wait for the first look.
	return &managed{name: name, onDemand: onDemand, answer: make(chan struct{}), begin: time.Now()}
}

// ManagerOptions of NewManager.
type ManagerOptions struct {
	Names    []string // canonical
	OnDemand *config.OnDemand
	// Preflight says what would keep a CA from validating a name. It is asked beside the first order; nil: never.
	Preflight func(ctx context.Context, name string) []string
	Log       *slog.Logger
}

// NewManager manages names from Run on.
func NewManager(client Client, o ManagerOptions) *Manager {
	m := &Manager{client: client, log: o.Log, preflight: o.Preflight}
	m.alive, m.end = context.WithCancel(context.Background())
	for _, name := range o.Names {
		m.names.Store(name, newManaged(name, false))
	}
	if o.OnDemand != nil {
		m.demand = newDemand(*o.OnDemand)
	}
	return m
}

// SetNames manages these names from now on, instead of those before. What stays keeps its certificate.
func (m *Manager) SetNames(names []string) {
	wanted := map[string]bool{}
	for _, name := range names {
		wanted[name] = true
		// A name on demand that is listed now is managed like any other, and is never forgotten.
		found, ok := m.names.Load(name)
		if ok && !found.(*managed).onDemand {
			continue
		}
		if before, ok := m.names.Swap(name, newManaged(name, false)); ok {
			before.(*managed).gone.Store(true)
		}
	}
	m.names.Range(func(_, value any) bool {
		if n := value.(*managed); !n.onDemand && !wanted[n.name] {
			m.forget(n)
		}
		return true
	})
}

const (
	tick  = 250 * time.Millisecond // between looks at what is due; bounds how short a certificate may live
	looks = 32                     // at once; orders are bounded by the client
)

// Run looks at each name when it is due, until ctx ends; then it waits for the looks that are under way.
func (m *Manager) Run(ctx context.Context) {
	var wg sync.WaitGroup
	// A CA may take minutes, which the end of padlock has not.
	defer func() { m.end(); wg.Wait(); m.looking.Wait() }()
	m.preload(ctx)
	slots := make(chan struct{}, looks)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()

	for {
		now := time.Now()
		m.names.Range(func(_, value any) bool {
			n := value.(*managed)
			done, ok := n.start(now)
			if !ok {
				return true
			}

			select {
			// Looks beyond the bound wait here. A CA with hundreds of due names gets them in turn.
			case slots <- struct{}{}:
			case <-ctx.Done():
				done()
				return false
			}

			wg.Go(func() {
				defer func() { <-slots }()
				defer done()
				m.look(ctx, n)
			})
			return true
		})

		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// preload serves what the storage has, before anything is asked of a CA, which may keep us waiting.
func (m *Manager) preload(ctx context.Context) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, looks)

	m.names.Range(func(_, value any) bool {
		n := value.(*managed)
		// The storage may be a service, which thousands of reads at once would overload at every start.
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if bundle, err := m.client.Load(ctx, n.name); err == nil {
				n.serve(bundle)
			}
		})
		return ctx.Err() == nil
	})
	wg.Wait()
}

// serve begins with what the storage has. An expired certificate is left for later: handshakes wait for the next, for
// a while.
func (n *managed) serve(bundle *acme.Bundle) {
	if time.Now().Before(bundle.Pairs[0].Leaf.NotAfter) {
		n.bundle.Store(bundle)
		n.answered()
	}
}

// start claims a name that is due; done ends the claim. A name that is gone is never claimed: whoever goes through the
// names may have found it before it went.
func (n *managed) start(now time.Time) (done func(), ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.busy || n.gone.Load() || now.Before(n.due) {
		return nil, false
	}
	n.busy, n.begin = true, now
	// A handshake that comes now, without a certificate, waits for this look.
	if n.answer == nil {
		n.answer = make(chan struct{})
	}
	return n.done, true
}

// done ends a claim.
func (n *managed) done() {
	n.mu.Lock()
	n.busy = false
	n.mu.Unlock()
	n.answered()
}

// waitAnew has handshakes wait for a look that goes on as if it had just begun.
func (n *managed) waitAnew() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.begin = time.Now()
}

// answered lets the handshakes go on that wait for a look.
func (n *managed) answered() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.answer != nil {
		close(n.answer)
		n.answer = nil
	}
}

// look brings one name up to date.
func (m *Manager) look(ctx context.Context, n *managed) {
	// It may have waited for its turn since it was claimed.
	if n.gone.Load() {
		return
	}
	if n.onDemand && !m.demand.still(ctx, n) {
		m.forget(n)
		return
	}

	before := n.bundle.Load()
	if before == nil {
		before = m.stored(ctx, n)
	}

	bundle, err := m.client.Ensure(ctx, n.name, before)
	// An error at the end of padlock is no failure of the name.
	if ctx.Err() != nil {
		return
	}
	// Published before the error is looked at: an order may have failed for one key type and succeeded for another.
	if bundle != nil {
		n.bundle.Store(bundle)
	}

	n.mu.Lock()
	defer n.mu.Unlock()

	if err == nil {
		if n.err != nil {
			m.log.Info("the certificate is in order again", "name", n.name, "not_after", bundle.Pairs[0].Leaf.NotAfter)
		}
		n.failed, n.err, n.due = 0, nil, bundle.Due
		return
	}

	n.failed, n.err = n.failed+1, err
	n.due = time.Now().Add(pause(n.failed, err))
	m.logFailure(n, bundle)
}

// stored looks for what was not there at the start. Where that is still nothing, it logs what is likely to go wrong,
// beside an order that is not kept waiting for it.
func (m *Manager) stored(ctx context.Context, n *managed) *acme.Bundle {
	bundle, err := m.client.Load(ctx, n.name)
	if err == nil {
		n.serve(bundle)
		return bundle
	}

	n.mu.Lock()
	first := n.failed == 0
	n.mu.Unlock()
	// The advice asks DNS and the network, so only the first failure of a listed name is worth it.
	if m.preflight != nil && first && !n.onDemand && IsMissing(err) {
		m.looking.Go(func() {
			for _, advice := range m.preflight(ctx, n.name) {
				if ctx.Err() == nil {
					m.log.Warn("the CA may not be able to validate this name", "name", n.name, "advice", advice)
				}
			}
		})
	}

	return nil
}

// Pauses between tries. What is wrong here or on the way may be mended at any moment, and costs nobody anything; what
// the CA has refused counts against its limits.
const (
	pauseFirst   = 3 * time.Second
	pauseLongest = 40 * time.Second
	refusedFirst = time.Minute
	refusedMost  = time.Hour
	waitMost     = 12 * time.Hour // whatever date the CA names: limits are lifted early at times, and CAs err
)

func pause(failed int, err error) time.Duration {
	first, longest := pauseFirst, pauseLongest
	var reason *acme.Error
	if errors.As(err, &reason) {
		if reason.Refused {
			first, longest = refusedFirst, refusedMost
		}
		if wait := time.Until(reason.Wait); wait > 0 {
			// The CA has named a time. Asking earlier would extend it with most CAs.
			return min(wait, waitMost) + rand.N(refusedFirst)
		}
	}

	wait := longest
	// The shift is bounded, as a name may fail for years.
	if shift := failed - 1; shift < 10 {
		wait = min(longest, first<<shift)
	}

	// The random part keeps many names, and many nodes, from coming to the CA at the same time.
	return wait + rand.N(wait/4)
}

// logFailure logs a failed look. A certificate in its last third is warned about at every try until it is renewed.
func (m *Manager) logFailure(n *managed, bundle *acme.Bundle) {
	attrs := []any{"name", n.name, "error", n.err, "tries", n.failed, "next_try", n.due.UTC().Format(time.RFC3339)}
	if bundle == nil {
		m.log.Error("there is no certificate", attrs...)
		return
	}

	leaf := bundle.Pairs[0].Leaf
	left := time.Until(leaf.NotAfter)
	attrs = append(attrs, "not_after", leaf.NotAfter, "left", left.Round(time.Second))
	switch lifetime := leaf.NotAfter.Sub(leaf.NotBefore); {
	case left <= 0:
		m.log.Error("the certificate has expired, and could not be renewed", attrs...)
	// Renewal begins with a third left, so from here on it is late.
	case left < lifetime/3:
		m.log.Warn("the certificate expires soon, and could not be renewed", attrs...)
	// With most of the lifetime left, one line is enough until something changes.
	case n.failed == 1:
		m.log.Warn("the certificate could not be looked after", attrs...)
	default:
		m.log.Debug("the certificate could not be looked after", attrs...)
	}
}

func (m *Manager) forget(n *managed) {
	n.gone.Store(true)
	m.names.CompareAndDelete(n.name, n)
}

// find is the managed name that covers a canonical name: itself, or the wildcard above it.
func (m *Manager) find(name string) *managed {
	if n, ok := m.names.Load(name); ok {
		return n.(*managed)
	}
	if n, ok := m.names.Load(netname.Wildcard(name)); ok {
		return n.(*managed)
	}
	return nil
}

// Manages reports whether a canonical name, or *.name, is looked after.
func (m *Manager) Manages(name string) bool { return m.find(name) != nil }

// patience is how long a handshake waits for the certificate that is being ordered for its name.
const patience = 8 * time.Second

// certificate is nil where there is none.
func (m *Manager) certificate(hello *tls.ClientHelloInfo, name string) *tls.Certificate {
	n := m.find(name)
	// A name that others want is not theirs: this client may have a turn that they wait for.
	if n == nil || n.wanted.Load() != nil {
		if m.demand == nil {
			return nil
		}
		if n = m.onDemand(hello, name); n == nil {
			return nil
		}
	}

	if n.onDemand {
		n.used.Store(time.Now().Unix())
		n.touched.Store(true)
	}

	bundle := n.bundle.Load()
	if bundle == nil {
		if bundle = n.await(hello.Context()); bundle == nil {
			return nil
		}
	}

	chosen := choose(bundle, hello)
	// An expired certificate is better than none, but a wildcard that is valid is better than both.
	if !validAt(chosen.Leaf, time.Now()) {
		if pair := m.valid(hello, name); pair != nil {
			return pair
		}
	}

	return chosen
}

// valid is what is in memory for a canonical name and valid now: of the name itself, or of the wildcard above it. Nil
// where nothing is.
func (m *Manager) valid(hello *tls.ClientHelloInfo, name string) *tls.Certificate {
	for _, name := range [...]string{name, netname.Wildcard(name)} {
		found, ok := m.names.Load(name)
		if !ok {
			continue
		}
		if bundle := found.(*managed).bundle.Load(); bundle != nil {
			if pair := choose(bundle, hello); validAt(pair.Leaf, time.Now()) {
				return pair
			}
		}
	}
	return nil
}

// choose prefers the first key type that the client can use, and of those one that is valid now.
func choose(bundle *acme.Bundle, hello *tls.ClientHelloInfo) *tls.Certificate {
	best := bundle.Pairs[0].Certificate
	if len(bundle.Pairs) == 1 {
		return best
	}
	var least rank
	for i, p := range bundle.Pairs {
		// A client that cannot use the first key type would fail, so support comes before validity and order.
		r := rank{hello.SupportsCertificate(p.Certificate) != nil, !validAt(p.Leaf, time.Now()), false, i}
		if i == 0 || r.before(least) {
			best, least = p.Certificate, r
		}
	}
	return best
}

// await waits for the look that is under way, or the first that is to come, unless it has taken too long already.
func (n *managed) await(ctx context.Context) *acme.Bundle {
	n.mu.Lock()
	// A CA that takes minutes must not keep every handshake waiting for its full patience.
	answer, late := n.answer, time.Since(n.begin) > 4*patience
	n.mu.Unlock()
	if answer == nil || late {
		return n.bundle.Load()
	}

	timer := time.NewTimer(patience)
	defer timer.Stop()

	select {
	case <-answer:
	case <-timer.C:
	case <-ctx.Done():
	}

	return n.bundle.Load()
}

// IsMissing reports whether an error means that the storage has no certificate for a name.
func IsMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
