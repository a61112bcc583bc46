package console_test

import (
	"bufio"
	"fmt"
	"strings"
	"testing"

	"padlock/console"
	"padlock/handshake"
)

// events reads server-sent events until one of a kind holds some text.
func events(t *testing.T, r *bufio.Scanner, kind, text string) (data string) {
	t.Helper()
	got := ""
	for r.Scan() {
		line := r.Text()
		switch {
		case strings.HasPrefix(line, "event: "):
			got, data = strings.TrimPrefix(line, "event: "), ""
		case strings.HasPrefix(line, "data: "):
			data += strings.TrimPrefix(line, "data: ") + "\n"
		case line == "" && got == kind && strings.Contains(data, text):
			return data
		}
	}
	t.Fatalf("no %s with %q came: %v", kind, text, r.Err())
	return ""
}

func watch(t *testing.T, url string, fields map[string]string) *bufio.Scanner {
	t.Helper()
	response := ask(t, "GET", url, fields)
	if kind := response.Header.Get("Content-Type"); response.StatusCode != 200 || kind != "text/event-stream" {
		t.Fatalf("%s %s", response.Status, kind)
	}
	s := bufio.NewScanner(response.Body)
	s.Buffer(nil, 1<<20)
	if !s.Scan() || s.Text() != "retry: 1000" {
		t.Fatalf("it begins with %q", s.Text())
	}
	return s
}

func failed(id uint64, sni string) *handshake.Event {
	return &handshake.Event{
		ID: id, Outcome: handshake.Failed, SNI: sni, Remote: fmt.Sprintf("192.0.2.%d:1", id), Version: 0x0304,
		Failure: &handshake.Failure{By: handshake.Client, Stage: "finished", Alert: 48, AlertName: "unknown_ca", Cause: "no trust", Remedy: "padlock trust", Confidence: "certain"},
	}
}

// What clients chose can only ever be text on a page.
const hostile = `"><img src=x onerror=alert(1)><script>alert(2)</script>`

// After a restart numbers begin again, so a page has to know whether its rows are from the padlock that it is connected to.
func TestAPageIsToldWhichProcessItIsConnectedTo(t *testing.T) {
	url := admin(t, console.Options{Recent: handshake.NewRecent(1)}, local)
	first, second := watch(t, url+"/live", nil), watch(t, url+"/live", nil)
	if a, b := events(t, first, "process", ""), events(t, second, "process", ""); a == "" || a != b {
		t.Errorf("%q and %q", a, b)
	}
}

func TestHandshakesComeAsTheyHappen(t *testing.T) {
	recent := handshake.NewRecent(64)
	recent.Handshake(failed(1, "before.test"))
	url := admin(t, console.Options{Recent: recent}, local)
	all := watch(t, url+"/live", nil)
	chosen := watch(t, url+"/live?sni=B.test&outcome=attention", nil)
	recent.Handshake(failed(2, hostile))
	recent.Handshake(&handshake.Event{ID: 3, Outcome: handshake.Complete, SNI: "b.test"})
	recent.Handshake(failed(4, "b.test"))
	attention := events(t, all, "attention", "b.test")
	for _, want := range []string{"no trust", "padlock trust", "before.test", "&lt;script&gt;"} {
		if !strings.Contains(attention, want) {
			t.Errorf("%q is not among\n%s", want, attention)
		}
	}
	rows := events(t, all, "rows", "b.test")
	if strings.Contains(attention+rows, "<script") || strings.Contains(attention+rows, "<img") {
		t.Errorf("a client has put an element into the page:\n%s", rows)
	}
	if newest, older := strings.Index(rows, `id="h4"`), strings.Index(rows, `id="h3"`); newest < 0 || older < newest {
		t.Errorf("the newest does not stand first:\n%s", rows)
	}
	if rows := events(t, chosen, "rows", "b.test"); strings.Contains(rows, `id="h3"`) || strings.Contains(rows, `id="h2"`) || !strings.Contains(rows, `id="h4"`) {
		t.Errorf("chosen were failures of b.test, and what came was\n%s", rows)
	}
}

func TestAWatcherThatWasCutOffGetsWhatItMissed(t *testing.T) {
	recent := handshake.NewRecent(64)
	for id := range uint64(5) {
		recent.Handshake(failed(id+1, "a.test"))
	}
	url := admin(t, console.Options{Recent: recent}, local)
	rows := events(t, watch(t, url+"/live", map[string]string{"Last-Event-ID": "3"}), "rows", "a.test")
	if strings.Contains(rows, `id="h3"`) || !strings.Contains(rows, `id="h4"`) || !strings.Contains(rows, `id="h5"`) {
		t.Errorf("after the third came\n%s", rows)
	}
}

// However many handshakes happen, a watcher gets a bounded number of rows, and is told so; what did not even stay in memory is counted.
func TestAFloodOfHandshakesDoesNotBecomeAFloodOfRows(t *testing.T) {
	recent := handshake.NewRecent(64)
	url := admin(t, console.Options{Recent: recent, Metrics: console.NewMetrics("test")}, local)
	watcher := watch(t, url+"/live", nil)
	for id := range uint64(1000) {
		recent.Handshake(&handshake.Event{ID: id + 1, Outcome: handshake.Complete})
	}
	rows := events(t, watcher, "rows", `id="h1000"`)
	if n := strings.Count(rows, "<li "); n > 16 {
		t.Errorf("%d rows at once", n)
	}
	events(t, watcher, "pulse", "a second")
	for id := range uint64(100) {
		recent.Handshake(&handshake.Event{ID: id + 1001, Outcome: handshake.Complete})
	}
	if code := ask(t, "GET", url+"/handshakes/1000?fragment=1", nil).StatusCode; code != 200 {
		t.Errorf("what stands on the page cannot be opened: %d", code)
	}
	if code := ask(t, "GET", url+"/handshakes/1?fragment=1", nil).StatusCode; code != 404 {
		t.Errorf("what is forgotten: %d", code)
	}
	if metrics := body(t, ask(t, "GET", url+"/metrics", nil)); !strings.Contains(metrics, `padlock_dropped_total{queue="console"} `) || strings.Contains(metrics, `padlock_dropped_total{queue="console"} 0`) {
		t.Error("what the watcher did not get is not counted")
	}
}
