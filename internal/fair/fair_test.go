package fair

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func from(addr string) netip.Prefix { return Source(netip.MustParseAddr(addr)) }

func TestASourceIsAnAddressOrANetworkOf64Bits(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7": "192.0.2.7/32", "::ffff:192.0.2.7": "192.0.2.7/32", "2001:db8:1:2:3::4": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := from(addr).String(); got != want {
			t.Errorf("%s: %s", addr, got)
		}
	}
	if Source(netip.Addr{}).IsValid() {
		t.Error("no address is a source")
	}
}

// order takes turns for sources that come one after the other while the only turn is taken, and tells in which order they get theirs.
func order(t *testing.T, limits Limits, sources ...netip.Prefix) (served []netip.Prefix) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		turns := NewTurns(limits)
		release, err := turns.Take(t.Context(), from("203.0.113.200"))
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		for _, s := range sources {
			go func() {
				done, err := turns.Take(context.Background(), s)
				if err != nil {
					return
				}
				mu.Lock()
				served = append(served, s)
				mu.Unlock()
				done()
			}()
			synctest.Wait()
		}
		release()
		synctest.Wait()
	})
	return served
}

// What is kept of an address names a network, and nothing of nobody's.
func TestATruncatedAddressIsANetwork(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.7": "192.0.2.0/24", "::ffff:192.0.2.7": "192.0.2.0/24", "2001:db8:1:2::7": "2001:db8:1::/48", "fe80::1%eth0": "fe80::/48",
	} {
		if got := Truncated(netip.MustParseAddr(address)); got.String() != want {
			t.Errorf("%s is %s", address, got)
		}
	}
	if Truncated(netip.Addr{}).IsValid() {
		t.Error("nobody has a network")
	}
}

// Who comes behind a hundred of another source is the second to get a turn; a network of many sources counts as one.
func TestSourcesTakeTurns(t *testing.T) {
	limits := Limits{AtOnce: 1, Each: 1, PerSource: 1000, Waiting: 10_000}
	flood := from("192.0.2.1")
	var queue []netip.Prefix
	for range 100 {
		queue = append(queue, flood)
	}
	polite := from("198.51.100.1")
	if got := order(t, limits, append(queue, polite)...); len(got) != 101 || got[1] != polite {
		t.Errorf("%d served, the second is %v", len(got), got[min(1, len(got))])
	}
	queue = nil
	for i := range 100 {
		queue = append(queue, from(fmt.Sprintf("2001:db8:1:%x::1", i)))
	}
	polite = from("2001:db8:2::1")
	if got := order(t, limits, append(queue, polite)...); len(got) != 101 || got[1] != polite {
		t.Errorf("%d served, of the networks of one customer", len(got))
	}
}

// Queues are bounded: a source's own, and where all are full, the longest gives way.
func TestQueuesAreBoundedAndTheLongestGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := NewTurns(Limits{AtOnce: 1, Each: 1, PerSource: 4, Waiting: 6})
		release, err := turns.Take(t.Context(), from("192.0.2.1"))
		if err != nil {
			t.Fatal(err)
		}
		results := make(chan string, 100)
		take := func(addr string) {
			go func() {
				done, err := turns.Take(t.Context(), from(addr))
				results <- fmt.Sprint(addr, " ", err)
				if err == nil {
					done()
				}
			}()
			synctest.Wait()
		}
		for range 5 {
			take("192.0.2.1")
		}
		if got := <-results; got != "192.0.2.1 "+ErrSource.Error() || len(results) != 0 {
			t.Error(got)
		}
		take("192.0.2.2")
		take("192.0.2.3")
		take("192.0.2.4") // the seventh
		if got := <-results; got != "192.0.2.1 "+ErrAll.Error() || len(results) != 0 {
			t.Error(got)
		}
		release()
		synctest.Wait()
		if len(results) != 6 {
			t.Errorf("%d of 6 got their turn", len(results))
		}
		if turns.taken != 0 || turns.waiting != 0 || len(turns.sources) != 0 || len(turns.sites) != 0 || turns.ring.Len() != 0 {
			t.Errorf("left behind: %+v", turns)
		}
	})
}

// One source never has more turns than it may, and the others' go to others at once.
func TestOneSourceLeavesTurnsToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := NewTurns(Limits{AtOnce: 3, Each: 2, PerSource: 10, Waiting: 10})
		ctx, cancel := context.WithCancel(t.Context())
		for range 5 {
			go func() { _, _ = turns.Take(ctx, from("192.0.2.1")) }() // are never given back
		}
		synctest.Wait()
		done, err := turns.Take(t.Context(), from("192.0.2.2"))
		if err != nil || turns.taken != 3 || turns.waiting != 3 {
			t.Fatalf("%v, %d taken, %d waiting", err, turns.taken, turns.waiting)
		}
		done()
		cancel()
		synctest.Wait()
		if turns.taken != 2 || turns.waiting != 0 {
			t.Errorf("%d taken, %d waiting after those have left", turns.taken, turns.waiting)
		}
	})
}

// What has been given back goes to who has least, though another that has more has waited longer.
func TestWhoHasLeastIsNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := NewTurns(Limits{AtOnce: 4, Each: 4, PerSource: 10, Waiting: 20})
		var held []func()
		for range 4 {
			done, err := turns.Take(t.Context(), from("192.0.2.1"))
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, done)
		}
		served := make(chan string, 10)
		for _, addr := range []string{"192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.2"} {
			go func() {
				_, _ = turns.Take(t.Context(), from(addr))
				served <- addr
			}()
			synctest.Wait()
		}
		held[0]()
		held[1]()
		if first, second := <-served, <-served; first != "192.0.2.2" || second != first {
			t.Errorf("%s and %s", first, second)
		}
		held[2]()
		held[3]()
		synctest.Wait()
	})
}

// Sources that come, wait, leave and work at random leave nothing behind, and never exceed what they may.
func TestTurnsAtRandom(t *testing.T) {
	limits := Limits{AtOnce: 3, Each: 2, PerSource: 4, Waiting: 12}
	turns := NewTurns(limits)
	var working, most, served atomic.Int64
	var wg sync.WaitGroup
	for worker := range 40 {
		wg.Go(func() {
			addr := from(fmt.Sprintf("2001:db8:%x:%x::1", worker%3, worker%7))
			for range 200 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.N(400))*time.Microsecond)
				done, err := turns.Take(ctx, addr)
				if err == nil {
					now := working.Add(1)
					for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
					}
					time.Sleep(time.Duration(rand.N(100)) * time.Microsecond)
					working.Add(-1)
					served.Add(1)
					done()
				} else if !errors.Is(err, ErrSource) && !errors.Is(err, ErrAll) && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if most.Load() > int64(limits.AtOnce) || served.Load() == 0 {
		t.Errorf("%d at once, %d served", most.Load(), served.Load())
	}
	if turns.taken != 0 || turns.waiting != 0 || len(turns.sources) != 0 || len(turns.sites) != 0 || turns.ring.Len() != 0 {
		t.Errorf("left behind: %+v", turns)
	}
}

// What one source spends is nobody else's; a network has four times as much as a source; all comes back with time.
func TestABudgetIsOfItsSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(10, time.Minute)
		spend := func(addr string) (n int) {
			for n < 100 && b.Spend(from(addr)) {
				n++
			}
			return n
		}
		if first, other := spend("192.0.2.1"), spend("192.0.2.2"); first != 10 || other != 10 {
			t.Errorf("%d and %d", first, other)
		}
		total := 0
		for i := range 20 {
			total += spend(fmt.Sprintf("2001:db8:1:%x::1", i))
		}
		if total != 40 || spend("2001:db8:2::1") != 10 {
			t.Errorf("a network spends %d", total)
		}
		time.Sleep(30 * time.Second)
		if again := spend("192.0.2.1"); again != 5 {
			t.Errorf("%d after half a minute", again)
		}
	})
}

// However many sources there are, what is remembered stays bounded, and nobody is refused for it.
func TestManySourcesAreForgottenAndNotRefused(t *testing.T) {
	b := NewBudget(2, time.Hour)
	for i := range 2 * maxAccounts {
		if !b.Spend(Source(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))) {
			t.Fatal("a new source is refused")
		}
	}
	if len(b.spent) > maxAccounts || b.recent.Len() != len(b.spent) {
		t.Errorf("%d remembered, %d in the list", len(b.spent), b.recent.Len())
	}
}

// Up to half of the memory is whoever's wants it. Beyond that a source has an eighth, the sources of a network (/48) half, and others still get theirs.
func TestMemoryIsShared(t *testing.T) {
	m := NewMemory(80)
	at := netip.MustParseAddr
	take := func(from string, n int64, want bool) {
		t.Helper()
		if got := m.Take(at(from), n); got != want {
			t.Errorf("%d for %s: %v", n, from, got)
		}
	}
	take("192.0.2.1", 40, true)
	take("192.0.2.1", 1, false)
	take("192.0.2.2", 10, true)
	take("192.0.2.2", 1, false)
	m.Leave(at("192.0.2.1"), 40)
	for i := range 4 {
		take(fmt.Sprintf("2001:db8:0:%d::1", i), 10, true)
	}
	take("2001:db8:0:5::1", 1, false)
	take("2001:db8:1::1", 10, true)
	take("::ffff:192.0.2.3", 10, true)
	take("192.0.2.3", 1, false)
	take("192.0.2.4", 10, true)
	take("192.0.2.5", 1, false)
	for i := range 4 {
		m.Leave(at(fmt.Sprintf("2001:db8:0:%d::9", i)), 10)
	}
	m.Leave(at("2001:db8:1::1"), 10)
	for _, of := range []string{"192.0.2.2", "192.0.2.3", "192.0.2.4"} {
		m.Leave(at(of), 10)
	}
	if m.Sources() != 0 || m.all != 0 || len(m.held.networks) != 0 {
		t.Errorf("what was given back is held: %+v", m)
	}
}

// What the sources of a network (/48) have counts for each of them: four have as much as one would be allowed, whoever they are.
func TestATallyCountsNetworksToo(t *testing.T) {
	var tally Tally
	for i := range 9 {
		tally.Add(from(fmt.Sprintf("2001:db8:0:%d::1", i)), 1)
	}
	tally.Add(from("192.0.2.1"), 2)
	for source, want := range map[string]int64{"2001:db8:0:1::9": 3, "2001:db8:0:99::1": 3, "2001:db8:1::1": 0, "192.0.2.1": 2, "192.0.2.2": 0} {
		if got := tally.Load(from(source)); got != want {
			t.Errorf("%s has %d, not %d", source, got, want)
		}
	}
	tally.Add(from("2001:db8:0:4::1"), 1)
	if most := tally.Most(Nobody); most != from("2001:db8:0:4::1") || tally.Sources() != 10 || tally.With(from("2001:db8:0:1::9"), 4) != 5 {
		t.Errorf("%s, %+v", most, tally)
	}
	for _, pair := range []struct {
		one, other string
		want       bool
	}{
		{"2001:db8:0:1::1", "192.0.2.1", false}, {"2001:db8:0:1::1", "192.0.2.2", true}, {"2001:db8:0:1::1", "2001:db8:0:99::1", false},
		{"2001:db8:0:4::1", "2001:db8:0:99::1", true}, {"192.0.2.1", "2001:db8:0:1::1", false}, {"192.0.2.1", "192.0.2.2", true},
	} {
		if got := tally.Exceeds(from(pair.one), from(pair.other)); got != pair.want {
			t.Errorf("%s exceeds %s: %v", pair.one, pair.other, got)
		}
	}
}

// A connection has its own whatever others hold, takes no more than there is beyond that, and gives all of it back.
func TestAShareIsOfItsOwnFirst(t *testing.T) {
	memory, client := NewMemory(800), netip.MustParseAddr("192.0.2.1")
	one, two := NewShare(memory, client, 100), NewShare(memory, client, 100)
	for i, step := range []struct {
		share *Share
		n     int64
		ok    bool
		all   int64
	}{
		{one, 100, true, 0}, {one, 400, true, 400}, {one, 1, false, 400}, {two, 90, true, 400}, {two, 11, false, 400}, {two, 10, true, 400},
		{one, -450, true, 0}, {two, 50, true, 50}, {one, 60, true, 60}, {one, -60, true, 50},
	} {
		ok := true
		if step.n < 0 {
			step.share.Leave(-step.n)
		} else {
			ok = step.share.Take(step.n)
		}
		if ok != step.ok || memory.all != step.all {
			t.Errorf("step %d: %t, %d taken", i, ok, memory.all)
		}
	}
	one.Close()
	two.Close()
	if memory.all != 0 || memory.Sources() != 0 {
		t.Errorf("%d are left", memory.all)
	}
	if !NewShare(nil, client, 1).Take(1 << 40) {
		t.Error("there is any amount")
	}
}
