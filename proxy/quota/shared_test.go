package quota

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"padlock/internal/servicetest"
)

func opened(t *testing.T, url string, log *slog.Logger) *Redis {
	t.Helper()
	r, err := OpenRedis(url, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// Nodes count together: of all that come to either, exactly the burst gets through, and then the even pace, as with a
// Rate of one's own; under other names they do not.
func TestNodesCountTogether(t *testing.T) {
	server := servicetest.StartRedis(t)
	log := slog.New(slog.DiscardHandler)
	one, two := opened(t, server.URL, log), opened(t, server.URL+"?prefix=", log)
	nodes := []*Shared{NewShared(one, "login", 10, time.Hour, 10, 4), NewShared(two, "login", 10, time.Hour, 10, 4)}

	var allowed, failed atomic.Int32
	var asking sync.WaitGroup
	for i := range 8 {
		asking.Go(func() {
			for range 20 {
				if _, wait, ok, err := nodes[i%2].Take("a", ""); err != nil {
					failed.Add(1)
				} else if ok {
					allowed.Add(1)
				} else if wait <= 0 || wait > 6*time.Minute {
					t.Errorf("wait %s", wait)
				}
			}
		})
	}
	asking.Wait()
	if allowed.Load() != 10 || failed.Load() > 0 {
		t.Errorf("%d were allowed, %d not counted", allowed.Load(), failed.Load())
	}

	if left, _, ok, err := nodes[0].Take("b", ""); left != 9 || !ok || err != nil {
		t.Errorf("another client: %d %v %v", left, ok, err)
	}
	if left, _, ok, err := nodes[1].Take("b", ""); left != 8 || !ok || err != nil {
		t.Errorf("at the other node: %d %v %v", left, ok, err)
	}
	other := NewShared(one, "else", 1, time.Hour, 1, 4)
	if _, _, ok, err := other.Take("a", ""); !ok || err != nil {
		t.Errorf("another limit: %v %v", ok, err)
	}

	// A network has the budget of four clients.
	few := NewShared(one, "few", 2, time.Hour, 2, 4)
	allowed.Store(0)
	for _, client := range []string{"a", "b", "c", "d", "e", "f"} {
		for range 3 {
			if _, _, ok, err := few.Take(client, "n"); err != nil {
				t.Fatal(err)
			} else if ok {
				allowed.Add(1)
			}
		}
	}
	if n := allowed.Load(); n != 8 {
		t.Errorf("a network has %d", n)
	}

	// Keys end by themselves, and hold nothing of the client.
	quick := NewShared(one, "quick", 1000, time.Second, 1, 4)
	if _, _, ok, err := quick.Take("secret", ""); !ok || err != nil {
		t.Errorf("%v %v", ok, err)
	}
	keys, err := one.client.Keys(t.Context(), "*").Result()
	if err != nil || len(keys) < 3 {
		t.Errorf("%v %v", keys, err)
	}
	for _, key := range keys {
		if ttl := one.client.PTTL(t.Context(), key).Val(); ttl == -1 || strings.Contains(key, "secret") || !strings.HasPrefix(key, "rate:") {
			t.Errorf("%s ends after %s", key, ttl)
		}
	}
}

// A Redis that is frozen, and one that has gone, cost one request its patience, and the others nothing; when it is back
// it counts on.
func TestNobodyWaitsForARedisThatIsAway(t *testing.T) {
	server := servicetest.StartRedis(t)
	said := &servicetest.Buffer{}
	redis := opened(t, server.URL, slog.New(slog.NewTextHandler(said, nil)))
	limit := NewShared(redis, "login", 3, time.Hour, 3, 4)
	take := func() error { _, _, _, err := limit.Take("a", ""); return err }
	if err := take(); err != nil {
		t.Fatal(err)
	}

	for name, end := range map[string]struct{ away, back func() }{"frozen": {server.Pause, server.Resume}, "gone": {server.Stop, server.Start}} {
		end.away()
		began := time.Now()
		for range 1000 {
			if err := take(); !errors.Is(err, ErrAway) {
				t.Fatalf("%s: %v", name, err)
			}
		}
		// A second passes before it is asked once more.
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: a thousand requests took %s", name, took)
		}
		end.back()
		for limit := time.Now().Add(30 * time.Second); take() != nil; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(limit) {
				t.Fatalf("%s: it is not asked again", name)
			}
		}
	}

	text := said.String()
	if strings.Count(text, "rate limits are not shared") != 2 || strings.Count(text, "rate limits are shared again") != 2 {
		t.Errorf("%s", text)
	}
}
