package console

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"padlock/traffic"
)

// counted is a history on a clock of its own, and a function that asks for what one subject had.
func counted(book *traffic.Book, targets *[]traffic.TargetCount) (h *history, now *time.Time, of func(subject) *hour) {
	at := time.Date(2026, 11, 27, 12, 0, 30, 0, time.UTC)
	h = newHistory(func() traffic.Counts { return traffic.Counts{Sites: book.Sites(), Targets: *targets} })
	h.clock = func() time.Time { return at }
	h.now = h.minute()
	return h, &at, func(of subject) *hour {
		if all := h.hours(func(s subject) bool { return s == of }); len(all) == 1 {
			return all[0]
		}
		return nil
	}
}

func TestAMinuteHasWhatWasCountedInIt(t *testing.T) {
	var book traffic.Book
	targets := []traffic.TargetCount{{Name: "http://a:1", Requests: 3, Failed: 1}}
	h, now, of := counted(&book, &targets)
	site, route := subject{"site", "", "a.test"}, subject{"route", "a.test", "/api"}
	api := book.Site("a.test").Route("/api")
	end := func() { h.mu.Lock(); h.look(); h.mu.Unlock() }

	api.Request(traffic.HTTP2, 200, 2*time.Millisecond, 0, 0)
	api.Request(traffic.HTTP2, 200, 2*time.Millisecond, 0, 0)
	book.Site("a.test").Request(traffic.HTTP2, 404, 20*time.Millisecond, 0, 0)
	*now = now.Add(30 * time.Second)
	end() // what came until now is of the minute before
	api.Request(traffic.HTTP2, 503, time.Minute, 0, 0)
	if r := of(route); r.All.Minutes[58] != 2 || r.All.Minutes[59] != 1 || r.Failed.Minutes[59] != 1 || r.Median() != "≤ 2.5 ms" || r.Most() != "> 30 s" {
		t.Errorf("%+v, %s, %s", r, r.Median(), r.Most())
	}
	if s := of(site); s.All.Count != 4 || s.Refused.Count != 1 || s.Failed.Count != 1 || s.Took.Count != 4 {
		t.Errorf("%+v", s)
	}

	// Looks within a minute add up, and a quiet minute is none.
	api.Request(traffic.HTTP2, 200, time.Millisecond, 0, 0)
	*now = now.Add(3 * time.Minute)
	end()
	end()
	if r := of(route); r.All.Minutes[56] != 2 || r.All.Count != 4 || len(h.kinds[route].minutes) != 2 {
		t.Errorf("%+v, %d minutes are kept", r, len(h.kinds[route].minutes))
	}

	// A target that went and came back counts anew. A site that is gone is forgotten.
	book.Keep(nil)
	targets = []traffic.TargetCount{{Name: "http://a:1", Requests: 2}}
	*now = now.Add(time.Minute)
	if r := of(subject{"target", "", "http://a:1"}); r.All.Count != 5 || r.Failed.Count != 1 {
		t.Errorf("%+v", r)
	}
	if r := of(site); r != nil {
		t.Errorf("%+v", r)
	}
	*now = now.Add(2 * time.Hour)
	if r := of(subject{"target", "", "http://a:1"}); r.All.Count != 0 {
		t.Errorf("two hours later: %+v", r)
	}
}

func TestPicturesShowNothingWhereNothingWas(t *testing.T) {
	empty := &hour{subject: subject{Kind: "site", Name: "a"}}
	for _, c := range empty.charts() {
		if c.Words != "nothing yet" || len(c.Bars) > 0 || len(c.Legend) > 0 {
			t.Errorf("%+v", c)
		}
	}
	if s := empty.Spark(); s.Fine+s.Bad+s.Slow != "" || empty.Median() != "–" || len(histogram(&empty.Took)) > 0 {
		t.Errorf("%+v", s)
	}

	one := &hour{subject: subject{Kind: "site", Name: "a"}}
	for range 999 {
		one.add(3, &tick{all: 1, took: [15]uint32{1: 1}})
	}
	one.add(59, &tick{all: 1, failed: 1, took: [15]uint32{14: 1}})
	charts := one.charts()
	if charts[0].Words != "answered 999, failed 1" || charts[1].Words != "failed 1" || charts[2].Words != "median ≤ 2.5 ms, 99 % ≤ 2.5 ms" {
		t.Errorf("%q, %q, %q", charts[0].Words, charts[1].Words, charts[2].Words)
	}
	// Two minutes, of which one has a median and 99 % as high as the picture.
	if bars := charts[2].Bars; len(bars) != 4 || bars[1].Height != chartHeight || bars[0].Series != 1 || bars[3].Series != 0 {
		t.Errorf("%+v", bars)
	}
	if s := one.Spark(); s.Fine != "M14 39v-38.0M238 39v-1.5" || s.Bad != "M238 39v-5.0" || s.Words != "1000 requests, 1 failed" {
		t.Errorf("%+v", s)
	}
	steps := histogram(&one.Took)
	if first, last := steps[0], steps[len(steps)-1]; first.Name != "≤ 2.5 ms" || first.Part != "100 %" || last.Name != "> 30 s" || last.Part != "0.1 %" || last.Width != 3 || steps[1].Part != "–" || len(steps) != 14 {
		t.Errorf("%+v", steps)
	}
}

func TestWhatSomebodyShouldLookAtStandsFirst(t *testing.T) {
	var book traffic.Book
	fast, slow, failing := book.Site("b.test").Route("/fast"), book.Site("a.test").Route("/slow"), book.Site("c.test").Route("/<failing>")
	for range 5 {
		fast.Request(traffic.HTTP2, 200, time.Millisecond, 0, 0)
	}
	slow.Request(traffic.HTTP2, 200, time.Second, 0, 0)
	failing.Request(traffic.HTTP2, 502, time.Millisecond, 0, 0)
	for i := range 1000 {
		book.Site(fmt.Sprintf("site%d.test", i))
	}
	targets := []traffic.TargetCount{{Name: "http://fine:1", Healthy: true, Requests: 9}, {Name: "http://sick:1", Reason: "it is <away>"}}
	a := NewAdmin(Options{Traffic: func() traffic.Counts { return traffic.Counts{Sites: book.Sites(), Targets: targets} }})
	page := func(path string) string {
		w := httptest.NewRecorder()
		a.mux.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return fmt.Sprint(w.Code, w.Body)
	}

	text := page("/traffic")
	last := 0
	for _, want := range []string{
		"failing and slowest first", "/&lt;failing&gt;", "/slow", "≤ 1 s", "/fast", `aria-label="Sites"`, "c.test", "b.test", "a.test", "site0.test", "and 803 more",
		`aria-label="Targets"`, "http://sick:1", "it is &lt;away&gt;", "http://fine:1",
	} {
		at := strings.Index(text[last:], want)
		if at < 0 {
			t.Fatalf("%q does not stand behind what should be before it, on\n%s", want, text[last:])
		}
		last += at
	}
	if n := strings.Count(text, "<tr id="); n != 3+200+2 {
		t.Errorf("%d rows", n)
	}
	if text = page("/traffic?fragment=tables&text=SITE99"); strings.Count(text, "<tr id=") != 11 || strings.Contains(text, "<html") {
		t.Errorf("%d rows are chosen", strings.Count(text, "<tr id="))
	}
	if text = page("/traffic?text=%22%3E%3Cscript%3E"); strings.Contains(text, "<script>") || !strings.Contains(text, "has such a name") {
		t.Error(text)
	}
	if text = page("/traffic/site?name=c.test"); !strings.Contains(text, "from the request&#39;s header") || !strings.Contains(text, "&lt;failing&gt;") || strings.Contains(text, "/slow") || !strings.Contains(text, "1, 1 of them failed") {
		t.Error(text)
	}
	if text = page("/traffic/route?site=a.test&name=%2Fslow&fragment=1"); strings.Contains(text, "<html") || !strings.Contains(text, "≤ 1 s</span>") {
		t.Error(text)
	}
	for _, path := range []string{"/traffic/site?name=nobody", "/traffic/poem?name=a.test", "/traffic/route?name=%2Fslow", "/traffic/site?fragment=1&name=%3Cscript%3E"} {
		if text = page(path); !strings.HasPrefix(text, "404") || strings.Contains(text, "<script>") {
			t.Errorf("%s: %s", path, text)
		}
	}
}

func TestBoundsAreThoseOfTheBuckets(t *testing.T) {
	var all []string
	for i := range len(traffic.Bounds) + 1 {
		all = append(all, bound(i))
	}
	if want := []string{"≤ 1 ms", "≤ 2.5 ms", "≤ 5 ms", "≤ 10 ms", "≤ 25 ms", "≤ 50 ms", "≤ 100 ms", "≤ 250 ms", "≤ 500 ms", "≤ 1 s", "≤ 2.5 s", "≤ 5 s", "≤ 10 s", "≤ 30 s", "> 30 s"}; !slices.Equal(all, want) {
		t.Errorf("%q", all)
	}
}
