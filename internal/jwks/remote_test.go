package jwks

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// server has a set, as long as it is told to.
type server struct {
	mu    sync.Mutex
	ids   []string
	away  bool
	asked atomic.Int32
	key   *ecdsa.PrivateKey
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case r.URL.Path == "/elsewhere":
		http.Redirect(w, r, "/", http.StatusFound)
		return
	case r.URL.Path == "/large":
		_, _ = w.Write(make([]byte, MaxSet+10))
		return
	case s.away:
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	var set jose.JSONWebKeySet
	for _, id := range s.ids {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: &s.key.PublicKey, KeyID: id})
	}
	_ = json.NewEncoder(w).Encode(set)
}

func (s *server) has(away bool, ids ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids, s.away = ids, away
}

// remote fetches from a server, at a time of its own.
func remote(t *testing.T, path string) (*server, *Remote, *atomic.Int64, *strings.Builder) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{ids: []string{"one"}, key: key}
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	var log strings.Builder
	r := NewRemote(RemoteOptions{URL: web.URL + path, Keep: time.Hour, Log: slog.New(slog.NewTextHandler(&log, nil))})
	t.Cleanup(r.Close)
	clock := new(atomic.Int64)
	r.clock = func() time.Time { return time.Unix(clock.Load()+1, 0) }
	return s, r, clock, &log
}

// settled waits until nobody fetches.
func (r *Remote) settled() {
	r.mu.Lock()
	done := r.fetching
	r.mu.Unlock()
	if done != nil {
		<-done
	}
}

func (r *Remote) has(t *testing.T, id string) bool {
	t.Helper()
	found, err := r.Find(t.Context(), id)
	if err != nil && !errors.Is(err, ErrKeys) {
		t.Fatal(err)
	}
	return len(found) > 0
}

// A new key is fetched when a token names it, but not more often than every few seconds, however many tokens name keys that nobody has.
func TestANewKeyIsFetchedOnce(t *testing.T) {
	t.Parallel()
	s, r, clock, _ := remote(t, "/")
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if !r.has(t, "one") {
				t.Error("the key is not there")
			}
		})
	}
	all.Wait()
	if n := s.asked.Load(); n != 1 {
		t.Errorf("fetched %d times", n)
	}

	s.has(false, "one", "two")
	clock.Add(20)
	if !r.has(t, "two") || s.asked.Load() != 2 {
		t.Errorf("the new key is not there, fetched %d times", s.asked.Load())
	}
	for range 100 {
		if r.has(t, "invented") {
			t.Error("a key that nobody has")
		}
	}
	if n := s.asked.Load(); n != 2 {
		t.Errorf("fetched %d times", n)
	}

	// A key that is gone is not good any more once the set was fetched again, beside requests.
	s.has(false, "two")
	clock.Add(int64(fresh / time.Second))
	r.has(t, "two")
	r.settled()
	if r.has(t, "one") || !r.has(t, "two") {
		t.Error("the set was not fetched again")
	}
}

// While the keys cannot be fetched, those that are known are good, for as long as was said and no longer.
func TestKeysOutliveTheirServerForAWhile(t *testing.T) {
	t.Parallel()
	s, r, clock, log := remote(t, "/")
	if !r.has(t, "one") {
		t.Fatal("the key is not there")
	}
	s.has(true)
	for _, seconds := range []int64{700, 1400, 2800, 3599} {
		clock.Store(seconds)
		if !r.has(t, "one") {
			t.Errorf("after %d seconds the key is gone", seconds)
		}
		r.settled()
	}
	if lines := strings.Count(log.String(), "cannot be fetched"); lines < 1 || lines > 4 {
		t.Errorf("the log: %s", log)
	}
	clock.Store(3601)
	_, err := r.Find(t.Context(), "one")
	if !errors.Is(err, ErrKeys) || !strings.Contains(err.Error(), "502") {
		t.Errorf("after an hour: %v", err)
	}
	s.has(false, "one")
	clock.Add(int64(between / time.Second))
	if !r.has(t, "one") {
		t.Error("the server is back, and its keys are not")
	}
}

// Answers that are no set, and those from elsewhere, are none.
func TestOnlySetsAreFetched(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/elsewhere", "/large"} {
		_, r, _, _ := remote(t, path)
		if _, err := r.Find(t.Context(), "one"); !errors.Is(err, ErrKeys) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
