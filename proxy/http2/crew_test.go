package http2

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// counted is a job that ends when it is told to.
type counted struct {
	done *atomic.Int64
	end  chan struct{}
}

func (j *counted) do() {
	<-j.end
	j.done.Add(1)
}

// Goroutines that have done a job wait for the next ones, but not more than a few, and none once they are dismissed: an
// idle connection has no goroutine. A goroutine that is left would fail the test's bubble.
func TestGoroutinesWaitForJobsUntilTheyAreDismissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &connection{}
		var done atomic.Int64
		run := func(jobs int) (resting int) {
			end := make(chan struct{})
			c.mu.Lock()
			for range jobs {
				c.hand(&counted{&done, end})
			}
			c.mu.Unlock()
			synctest.Wait()
			close(end)
			synctest.Wait()
			c.mu.Lock()
			defer c.mu.Unlock()
			return len(c.crew.resting)
		}

		if n := run(3); n != 0 {
			t.Errorf("%d wait although no jobs are to come", n)
		}

		c.crew.busy = true
		for _, jobs := range []int{1, 2, mostResting, 1, mostResting + 5, 3} {
			before := done.Load()
			if n := run(jobs); n < min(jobs, mostResting) || n > mostResting {
				t.Errorf("%d wait after %d jobs", n, jobs)
			}
			if n := done.Load() - before; n != int64(jobs) {
				t.Errorf("%d of %d jobs were done", n, jobs)
			}
		}

		end := make(chan struct{})
		c.mu.Lock()
		c.hand(&counted{&done, end}) // is under way meanwhile
		c.dismiss()
		c.mu.Unlock()
		synctest.Wait()
		close(end)
		synctest.Wait()
		if n := len(c.crew.resting); n != 0 {
			t.Errorf("%d wait after they were dismissed", n)
		}
	})
}
