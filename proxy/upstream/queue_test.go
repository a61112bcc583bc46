package upstream

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"padlock/config"
)

// One client that fills the queue of a target that is full does not keep others out of it, nor waiting behind all of its requests.
func TestOneClientDoesNotFillTheQueueOfATarget(t *testing.T) {
	a := serve(t, "a")
	g := newGroup(t, &Targets{}, config.Upstream{Circuit: config.Circuit{Requests: 1, Pending: 20, Wait: 20 * time.Second}}, a.address)
	var mu sync.Mutex
	var order []string
	var all sync.WaitGroup
	ask := func(client, target string) {
		all.Go(func() {
			var at Attempt
			r := request(client)
			r.Target = target
			name, err := g.ask(r, &at)
			mu.Lock()
			order = append(order, fmt.Sprint(client, " ", name, err))
			mu.Unlock()
			at.End()
		})
	}
	ask("192.0.2.1", "/hold")
	soon(t, "one is there", func() string { return fmt.Sprint(a.asked.Load()) }, "1")
	for range 20 {
		ask("192.0.2.1", "/")
	}
	soon(t, "the queue is full", func() string { return fmt.Sprint(g.queue.count.Load()) }, "20")
	ask("198.51.100.1", "/")
	refused := fmt.Sprint("192.0.2.1 ", ErrFull)
	soon(t, "one of the many has given way", func() string { mu.Lock(); defer mu.Unlock(); return fmt.Sprint(order) }, fmt.Sprint([]string{refused}))
	soon(t, "the queue is full again", func() string { return fmt.Sprint(g.queue.count.Load()) }, "20")

	close(a.held)
	all.Wait()
	served := 0
	for i, one := range order {
		if one == "198.51.100.1 a<nil>" {
			served = i
		}
	}
	if served == 0 || served > 4 { // the refused, the one that was held, one of the many
		t.Errorf("the other client is number %d to be served: %q", served, order)
	}
	if len(g.queue.line) != 0 || len(g.queue.lines) != 0 || g.queue.total != 0 || g.queue.count.Load() != 0 {
		t.Errorf("left behind: %+v", &g.queue)
	}
}
