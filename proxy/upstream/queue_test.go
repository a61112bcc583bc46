package upstream

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"padlock/config"
)

// One client that takes every place it can get, with requests that last, leaves places to others: by any number of addresses of its
// network, and with any number of requests that wait.
func TestOneClientDoesNotTakeEveryPlaceOfATarget(t *testing.T) {
	for many, other := range map[string]string{"192.0.2.1": "198.51.100.1", "2001:db8:1:*::1": "2001:db8:2::1"} {
		a := serve(t, "a")
		g := newGroup(t, &Targets{}, config.Upstream{Circuit: config.Circuit{Requests: 8, Pending: 20, Wait: 20 * time.Second}}, a.address)
		var all sync.WaitGroup
		for i := range 20 {
			client := strings.Replace(many, "*", fmt.Sprint(i), 1)
			all.Go(func() {
				var at Attempt
				defer at.End()
				r := request(client)
				r.Target = "/hold"
				if name, err := g.ask(r, &at); err != nil {
					t.Error(client, name, err)
				}
			})
		}
		soon(t, "it has what it gets", func() string { return fmt.Sprint(a.asked.Load(), g.queue.count.Load()) }, "6 14")
		for range 3 {
			var at Attempt
			if name, err := g.ask(request(other), &at); name != "a" || at.Wait > 10*time.Second { // the others wait for 20
				t.Errorf("the other client: %s %v after %s", name, err, at.Wait)
			}
			at.End()
		}

		close(a.held)
		all.Wait()
		if left := &g.current.Load().members[0].target.places; len(left.held) != 0 || g.queue.total != 0 || len(g.targets.queues.of) != 0 {
			t.Errorf("left behind: %v %+v", left.held, &g.queue)
		}
	}
}

// A place that comes free is found by those who wait in the queue of another group too, as after a reload.
func TestAPlaceThatAnotherGroupLeavesIsFound(t *testing.T) {
	a := serve(t, "a")
	var targets Targets
	circuit := config.Upstream{Circuit: config.Circuit{Requests: 1, Pending: 1, Wait: time.Minute}}
	before, after := newGroup(t, &targets, circuit, a.address), newGroup(t, &targets, circuit, a.address)
	var first, second Attempt
	if _, err := before.ask(request("192.0.2.1"), &first); err != nil {
		t.Fatal(err)
	}
	served := make(chan string, 1)
	go func() {
		name, err := after.ask(request("192.0.2.2"), &second)
		second.End()
		served <- fmt.Sprint(name, err)
	}()
	soon(t, "one waits", func() string { return fmt.Sprint(after.queue.count.Load()) }, "1")
	first.End()
	select {
	case got := <-served:
		if got != "a<nil>" {
			t.Error(got)
		}
	case <-time.After(10 * time.Second):
		t.Error("the place is not found")
	}
}

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
