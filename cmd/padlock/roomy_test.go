package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

// Only the first collection comes later: a heap that stayed roomy would be several times as large as what it holds. A GOGC
// that somebody has set stands.
func TestOnlyTheFirstCollectionIsLate(t *testing.T) {
	percent := func() uint64 {
		sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	defer debug.SetGCPercent(debug.SetGCPercent(50))
	collectLater()
	if got := percent(); got != 50 {
		t.Errorf("it is %d after 50 was set", got)
	}

	debug.SetGCPercent(100)
	collectLater()
	if got := percent(); got != roomy {
		t.Errorf("it is %d at first", got)
	}
	for range 1000 {
		runtime.GC()
		if percent() == 100 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("it is still %d after a collection", percent())
}
