package quota

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestARateAllowsABurstAndThenAnEvenPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRate(6, time.Minute, 3)
		for i, c := range []struct {
			after time.Duration
			left  int
			wait  time.Duration
			ok    bool
		}{
			{0, 2, 0, true}, {0, 1, 0, true}, {0, 0, 0, true}, {0, 0, 10 * time.Second, false}, {4 * time.Second, 0, 6 * time.Second, false},
			{6 * time.Second, 0, 0, true}, {0, 0, 10 * time.Second, false}, {time.Hour, 2, 0, true},
		} {
			time.Sleep(c.after)
			if left, wait, ok := r.Take("a"); left != c.left || wait != c.wait || ok != c.ok {
				t.Errorf("%d: %d left, wait %s, %v", i, left, wait, ok)
			}
		}
		if left, _, ok := r.Take("b"); left != 2 || !ok {
			t.Errorf("somebody else has %d left", left)
		}
		allowed := 0
		for range 3600 { // one a second for an hour
			if _, _, ok := r.Take("a"); ok {
				allowed++
			}
			time.Sleep(time.Second)
		}
		if allowed < 360 || allowed > 362 {
			t.Errorf("%d in an hour", allowed)
		}
	})
}

// However many come at once, no more than the burst get through.
func TestARateIsExactUnderConcurrency(t *testing.T) {
	r := NewRate(10, time.Hour, 10)
	var allowed atomic.Int32
	var asking sync.WaitGroup
	for range 50 {
		asking.Go(func() {
			for range 20 {
				if _, _, ok := r.Take("a"); ok {
					allowed.Add(1)
				}
			}
		})
	}
	asking.Wait()
	if n := allowed.Load(); n != 10 {
		t.Errorf("%d were allowed", n)
	}
}

func BenchmarkRate(b *testing.B) {
	r := NewRate(1_000_000, time.Second, 1_000_000)
	names := make([]string, 1000)
	for i := range names {
		names[i] = fmt.Sprintf("192.0.2.%d", i)
	}
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for i := 0; p.Next(); i++ {
			r.Take(names[i%len(names)])
		}
	})
}
