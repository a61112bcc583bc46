package jwks

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	fresh    = 10 * time.Minute // until the set is fetched again, beside requests
	between  = 10 * time.Second // at least, between two times that it is fetched
	patience = 10 * time.Second // with a server that has it
	remind   = 10 * time.Minute // between lines of the log about the same
)

// Remote is a set that is fetched from a URL. Whoever needs it first waits for it; later it is fetched beside requests,
// and once more for a key that it does not have. It is safe for use from many goroutines.
type Remote struct {
	url    string
	shown  string        // of the URL, in the log
	keep   time.Duration // how long keys are good that cannot be fetched again
	log    *slog.Logger
	client *http.Client
	clock  func() time.Time

	ctx    context.Context // of fetching
	cancel context.CancelFunc
	wait   sync.WaitGroup

	mu       sync.Mutex
	set      *Set
	had      time.Time     // when it was fetched
	tried    time.Time     // last
	failed   error         // then; nil: it was fetched
	logged   time.Time     // that it could not be
	fetching chan struct{} // closed when that has ended; nil: nobody fetches
	closed   bool
}

// RemoteOptions are how a set is fetched.
type RemoteOptions struct {
	URL   string
	Shown string         // of the URL, in logs
	Roots *x509.CertPool // nil: the system's
	Keep  time.Duration  // how long keys are good that cannot be fetched again
	Log   *slog.Logger
}

// NewRemote fetches nothing yet. Close ends it.
func NewRemote(o RemoteOptions) *Remote {
	r := &Remote{url: o.URL, shown: o.Shown, keep: o.Keep, log: o.Log, clock: time.Now}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots}
	transport.MaxIdleConnsPerHost, transport.IdleConnTimeout = 1, 30*time.Second
	r.client = &http.Client{
		Timeout: patience, Transport: transport,
		// The configuration names the place, and nobody else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return r
}

// Close waits until nobody fetches any more.
func (r *Remote) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	r.wait.Wait()
	r.client.CloseIdleConnections()
}

// Find implements Keys.
func (r *Remote) Find(ctx context.Context, id string) ([]jose.JSONWebKey, error) {
	set, done := r.current(id)
	if done != nil {
		select {
		case <-done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		set, _ = r.current("")
	}
	if set == nil {
		return nil, fmt.Errorf("%w: %w", ErrKeys, r.why())
	}
	return set.Find(ctx, id)
}

// Prepare has the set fetched, so that the first request need not wait for it.
func (r *Remote) Prepare() { r.current("") }

// current is the set as far as it is good, and what has to be waited for before it is used; nil: nothing.
func (r *Remote) current(id string) (set *Set, done <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock()
	if r.set != nil && now.Sub(r.had) < r.keep {
		set = r.set
	}

	missing := set == nil
	if set != nil && id != "" {
		found, _ := set.Find(r.ctx, id)
		missing = len(found) == 0
	}
	old := set == nil || now.Sub(r.had) >= fresh
	if !missing && !old {
		return set, nil
	}

	// Unknown keys are cheap to invent, so no client can have the set fetched more often than this.
	if r.fetching == nil && !r.closed && (r.tried.IsZero() || now.Sub(r.tried) >= between) {
		r.tried, r.fetching = now, make(chan struct{})
		r.wait.Go(r.fetch)
	}
	if !missing {
		return set, nil
	}
	return set, r.fetching
}

// fetch gets the set.
func (r *Remote) fetch() {
	set, err := r.get()
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock()
	if r.failed = err; err == nil {
		r.set, r.had, r.logged = set, now, time.Time{}
	} else if r.ctx.Err() == nil && now.Sub(r.logged) >= remind {
		r.logged = now
		until := "there are none: requests get 503"
		if r.set != nil {
			until = "those that are known count until " + r.had.Add(r.keep).Format(time.RFC3339)
		}
		r.log.Warn("the keys of tokens cannot be fetched", "jwks", r.shown, "error", err, "meanwhile", until)
	}
	close(r.fetching)
	r.fetching = nil
}

func (r *Remote) get() (*Set, error) {
	request, err := http.NewRequestWithContext(r.ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	request.Header.Set("User-Agent", "padlock")
	response, err := r.client.Do(request)
	if err != nil {
		// The URL is shown without its secrets, if at all.
		var about *url.Error
		if errors.As(err, &about) {
			err = about.Err
		}
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %s", response.Status)
	}

	set, err := read(response.Body)
	if err != nil {
		return nil, fmt.Errorf("the answer %w", err)
	}
	return set, nil
}

// why is why there is no set.
func (r *Remote) why() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed != nil {
		return r.failed
	}
	return errors.New("they were not fetched yet")
}
