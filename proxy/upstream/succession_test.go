package upstream

import (
	"errors"
	"runtime"
	"sync"
	"testing"

	"padlock/config"
	"padlock/proxy/message"
)

// Of the requests that a deploy holds, those that are too many and those whose clients leave wait no longer; the others
// go on to the last group of several deploys.
func TestASuccessionHoldsABoundedNumberOfRequests(t *testing.T) {
	var targets Targets
	made := func() *Group {
		g, err := targets.Group(&config.Upstream{To: []config.Backend{{Target: config.Target{Scheme: "http", Network: "tcp", Address: "127.0.0.1:1"}}}}, config.Timeouts{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(g.Close)
		return g
	}
	first, second, third := made(), made(), made()
	hold := NewSuccession(2)
	first.Succeed(hold)

	type result struct {
		group *Group
		err   error
	}
	results := make(chan result, 2)
	var leaving, staying message.Context
	var asked sync.WaitGroup
	for _, ctx := range []*message.Context{&leaving, &staying} {
		asked.Go(func() {
			g, err := first.Successor(ctx)
			results <- result{g, err}
		})
	}
	for hold.Waiting() < 2 {
		runtime.Gosched()
	}
	if _, err := first.Successor(new(message.Context)); !errors.Is(err, ErrHeld) {
		t.Errorf("one too many: %v", err)
	}
	leaving.Cancel()
	if r := <-results; r.err == nil || hold.Waiting() != 1 {
		t.Errorf("who leaves: %v, %d wait", r.err, hold.Waiting())
	}

	again := NewSuccession(0)
	second.Succeed(again)
	again.Release(third)
	hold.Release(second)
	if r := <-results; r.err != nil || r.group != third {
		t.Errorf("who stays: %+v", r)
	}
	asked.Wait()

	// One that gave up leaves the group as it was.
	given := NewSuccession(1)
	third.Succeed(given)
	third.Succeed(nil)
	given.Release(nil)
	if g, err := third.Successor(new(message.Context)); g != third || err != nil || third.Succeeded() {
		t.Errorf("%v %v", g, err)
	}
}
