package console

import (
	"fmt"
	"strings"
	"testing"

	"padlock/handshake"
)

// Above the list stand three troubles at most, the gravest first whenever they came, and how many there are besides.
func TestTheGravestTroublesStandFirst(t *testing.T) {
	failed := func(name string, by handshake.Side, alert int, problems ...string) *handshake.Event {
		e := &handshake.Event{SNI: name, Remote: "192.0.2.1:1", Outcome: handshake.Failed, Failure: &handshake.Failure{By: by, Alert: alert, Cause: "cause of " + name}}
		if problems != nil {
			e.Certificate = &handshake.Certificate{Problems: problems}
		}
		return e
	}
	newestFirst := []*handshake.Event{
		failed("nobody", handshake.Server, 112), failed("scanner", handshake.Server, 112), failed("untrusting", handshake.Client, 48), failed("untrusting", handshake.Client, 48),
		failed("old client", handshake.Server, 70), failed("expired", handshake.Client, 45, "it has expired"),
	}
	got := troubles(newestFirst)
	var names []string
	for _, trouble := range got.Shown {
		names = append(names, fmt.Sprintf("%s %d", trouble.Last.SNI, trouble.Count))
	}
	if text := strings.Join(names, ", "); text != "expired 1, untrusting 2, old client 1" || got.More != 2 {
		t.Errorf("%s and %d more", text, got.More)
	}
}

// What has not been measured has no latency, and a target that is not healthy has a reason.
func TestTheTrafficPageSaysNothingOfWhatItDoesNotKnow(t *testing.T) {
	status := &Status{
		Sites:   []SiteStatus{{Name: "a.test"}, {Name: "b.test", Requests: 1, Median: 0.5, P99: 12}},
		Targets: []TargetStatus{{Name: "down:1", State: "unhealthy", Reason: "connection refused"}, {Name: "out:1", State: "ejected"}, {Name: "up:1", State: "healthy"}},
	}
	html, err := newPages().render("traffic-tables", status)
	if err != nil {
		t.Fatal(err)
	}
	for word, count := range map[string]int{"0 ms": 0, "0.5 ms": 1, "12 ms": 1, ">–": 8, ">unhealthy<": 1, "connection refused": 1, ">ejected<": 1, "no reason is known yet": 1, ">healthy<": 1} {
		if n := strings.Count(string(html), word); n != count {
			t.Errorf("%q stands there %d times and not %d:\n%s", word, n, count, html)
		}
	}
}
