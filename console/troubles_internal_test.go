package console

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"padlock/handshake"
	"padlock/traffic"
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
	var book traffic.Book
	book.Site("a.test")
	book.Site("b.test").Request(traffic.HTTP2, 200, 2*time.Millisecond, 0, 0)
	targets := []traffic.TargetCount{{Name: "down:1", Reason: "connection refused"}, {Name: "out:1", Healthy: true, Ejected: true}, {Name: "up:1", Healthy: true}}
	a := NewAdmin(Options{Traffic: func() traffic.Counts { return traffic.Counts{Sites: book.Sites(), Targets: targets} }})
	page := httptest.NewRecorder()
	a.mux.ServeHTTP(page, httptest.NewRequest("GET", "/traffic?fragment=tables", nil))
	html := page.Body.String()
	for word, count := range map[string]int{"0 ms": 0, "≤ 2.5 ms": 2, ">–": 4 + 1 + 3*4, "<svg": 2, ">unhealthy<": 1, "connection refused": 1, ">ejected<": 1, "no reason is known yet": 1, ">healthy<": 1} {
		if n := strings.Count(html, word); n != count {
			t.Errorf("%q stands there %d times and not %d:\n%s", word, n, count, html)
		}
	}
}
