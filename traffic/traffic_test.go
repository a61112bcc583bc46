package traffic_test

import (
	"strconv"
	"sync"
	"testing"
	"time"

	"padlock/traffic"
)

func TestNothingGoesUncounted(t *testing.T) {
	var book traffic.Book
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := range 1000 {
				book.Site("a.test").Request(traffic.Protocol(worker%3), 100+i, time.Duration(i)*time.Millisecond, 1, 2)
			}
		})
	}
	all.Wait()
	s := book.Sites()[0]
	requests, failed := s.Requests()
	if requests != 8000 || s.Took.Count != 8000 || s.BytesIn != 8000 || s.BytesOut != 16000 {
		t.Errorf("%d requests, %d durations, %d and %d bytes", requests, s.Took.Count, s.BytesIn, s.BytesOut)
	}
	if len(s.Answers) > 64+3 {
		t.Errorf("%d kinds of answers: a target can fill the memory", len(s.Answers))
	}
	if failed > 8000 {
		t.Errorf("%d failed", failed)
	}
	if half := s.Took.Quantile(0.5); half != 500*time.Millisecond {
		t.Errorf("median %s", half)
	}
}

func TestCountersSurviveAReloadAndGoWithTheirSite(t *testing.T) {
	var book traffic.Book
	book.Site("a.test").Request(traffic.HTTP2, 200, time.Millisecond, 0, 0)
	book.Site("b.test")
	book.Keep(map[string]bool{"a.test": true})
	book.Site("a.test").Request(traffic.HTTP2, 200, time.Millisecond, 0, 0)
	sites := book.Sites()
	if len(sites) != 1 || len(sites[0].Answers) != 1 || sites[0].Answers[0].Count != 2 {
		t.Errorf("%+v", sites)
	}
}

func TestProtocolsHaveTheirNames(t *testing.T) {
	for proto, want := range map[string]string{"HTTP/1.0": "h1", "HTTP/1.1": "h1", "HTTP/2.0": "h2", "HTTP/2": "h2", "HTTP/3.0": "h3", "": "h1"} {
		if got := traffic.OfProto(proto).String(); got != want {
			t.Errorf("%q: %s, not %s", proto, got, want)
		}
	}
}

func BenchmarkRequest(b *testing.B) {
	var book traffic.Book
	site := book.Site("a.test")
	b.ReportAllocs()
	for b.Loop() {
		site.Request(traffic.HTTP2, 200, time.Millisecond, 100, 1000)
	}
}

// A site's numbers are the sum of its routes', however many names reloads bring: what falls would be a restart to
// Prometheus.
func TestASiteIsTheSumOfItsRoutes(t *testing.T) {
	var book traffic.Book
	site := book.Site("a.test")
	site.Request(traffic.HTTP1, 404, time.Millisecond, 1, 1)
	for i := range 1500 {
		site.Route(strconv.Itoa(i)).Request(traffic.HTTP2, 200+i%2*300, time.Second, 1, 1)
	}
	site.Route("7").Request(traffic.HTTP2, 429, time.Second, 1, 1)
	s := book.Sites()[0]
	all, failed := s.Requests()
	if all != 1502 || failed != 750 || s.Refused() != 2 || s.Took.Count != 1502 || s.BytesIn != 1502 || len(s.Routes) != 1000 {
		t.Errorf("%d requests, %d failed, %d refused, %d durations, %d routes", all, failed, s.Refused(), s.Took.Count, len(s.Routes))
	}
	for _, r := range s.Routes {
		if r.Name == "7" && (r.Took.Count != 2 || r.Failed != 1 || r.Refused != 1) {
			t.Errorf("%+v", r)
		}
	}
}
