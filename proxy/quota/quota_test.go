package quota

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestALimitIsForASpanOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q Quota
		for range 3 {
			n := 0
			for q.Spend(100) {
				n++
			}
			if n < 100 || n > 200 { // the first span begins when it is over
				t.Errorf("%d were allowed", n)
			}
			time.Sleep(Span)
		}
	})
}
