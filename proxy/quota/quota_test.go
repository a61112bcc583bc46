package quota

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestALimitIsForASpanOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q Quota
		for _, c := range []struct {
			after time.Duration
			want  int
		}{{0, 100}, {0, 0}, {Span / 2, 50}, {Span / 100, 1}, {time.Hour, 100}} {
			time.Sleep(c.after)
			n := 0
			for q.Spend(100) {
				n++
			}
			if n != c.want {
				t.Errorf("after %s %d are allowed, not %d", c.after, n, c.want)
			}
		}
		time.Sleep(time.Hour)
		for range 1000 { // ten a second are in order for ever
			if time.Sleep(Span / 100); !q.Spend(100) {
				t.Fatal("what is in order is refused")
			}
		}
	})
}

func BenchmarkSpend(b *testing.B) {
	var q Quota
	b.ReportAllocs()
	for b.Loop() {
		q.Spend(1000)
	}
}
