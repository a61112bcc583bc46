package tracing_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"padlock/handshake"
	"padlock/internal/otlptest"
	"padlock/tracing"
)

// lines takes a log, a line at a time.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

func start(t *testing.T, o tracing.Options) (tracer *tracing.Tracer, log lines, end func()) {
	t.Helper()
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
	log = make(lines, 100)
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	tracer, err := tracing.New(o)
	if err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() { tracer.Close(context.Background()) })
	t.Cleanup(end)
	return tracer, log, end
}

// request tells one request.
func request(t *tracing.Tracer) {
	_, spans := t.Begin(tracing.Incoming{At: time.Now()})
	spans.End(&tracing.Outcome{Method: "GET", End: time.Now()})
}

func line(t *testing.T, log lines) string {
	t.Helper()
	select {
	case text := <-log:
		return text
	case <-time.After(30 * time.Second):
		t.Fatal("nothing was said")
		return ""
	}
}

// What a collector refuses is lost, counted, and said once a minute.
func TestWhatTheCollectorRefusesIsCountedAndSaidOnce(t *testing.T) {
	c := otlptest.Start(t)
	c.Refuse(http.StatusBadRequest)
	tracer, log, end := start(t, tracing.Options{Endpoint: c.URL, Sample: 1, Headers: map[string]string{"Authorization": "Bearer secret"}})
	request(tracer)
	said := line(t, log)
	if !strings.Contains(said, "traces are lost") || !strings.Contains(said, "400 Bad Request") || !strings.Contains(said, "spans=1") || strings.Contains(said, "secret") {
		t.Error(said)
	}
	if got := c.Fields().Get("Authorization"); got != "Bearer secret" {
		t.Errorf("the collector got %q", got)
	}
	for range 10 {
		request(tracer)
	}
	end()
	if tracer.Dropped() != 11 || len(log) != 0 {
		t.Errorf("%d lost, and %d more lines", tracer.Dropped(), len(log))
	}
}

// Requests do not wait for a collector that takes nothing; what cannot wait with it is lost, and nothing besides.
func TestNobodyWaitsForACollectorThatHangs(t *testing.T) {
	const all, room = 20_000, 64
	c := otlptest.Start(t)
	hang, once := make(chan struct{}), sync.Once{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(asked) })
		<-hang
		c.ServeHTTP(w, r)
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	tracer, _, end := start(t, tracing.Options{Endpoint: "http://" + l.Addr().String(), Sample: 1, Queue: room})
	request(tracer)
	<-asked
	began := time.Now()
	for range all - 1 {
		request(tracer)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("%d requests took %s", all, took)
	}
	if lost := tracer.Dropped(); lost != all-room {
		t.Errorf("%d lost while the collector hangs, not %d", lost, all-room)
	}
	close(hang)
	end()
	if got := len(c.Spans()); got != room {
		t.Errorf("%d arrived, not %d", got, room)
	}
}

// A collector that is started after padlock, or anew, gets what has waited.
func TestACollectorThatComesLateGetsWhatWaits(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	tracer, log, _ := start(t, tracing.Options{Endpoint: "http://" + l.Addr().String() + "/", Sample: 1, Service: "edge", Version: "1.2.3"})
	request(tracer)
	c := otlptest.Start(t)
	if l, err = net.Listen("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: c}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	spans := c.Wait(t, func(spans []otlptest.Span) bool { return len(spans) == 1 })
	if tracer.Dropped() != 0 || len(log) != 0 {
		t.Errorf("%d lost, %d lines", tracer.Dropped(), len(log))
	}
	if from := spans[0].Resource; from["service.name"] != "edge" || from["service.version"] != "1.2.3" {
		t.Errorf("%v", from)
	}
}

// A collector that is away does not keep padlock from ending.
func TestTheEndDoesNotWaitForACollectorThatIsAway(t *testing.T) {
	tracer, _, end := start(t, tracing.Options{Endpoint: "http://127.0.0.1:1", Sample: 1})
	request(tracer)
	began := time.Now()
	end()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}

// Failures are told whatever the sample is, but not so many that somebody could fill the collector with them.
func TestFailuresAreAlwaysToldAndBounded(t *testing.T) {
	c := otlptest.Start(t)
	tracer, _, end := start(t, tracing.Options{Endpoint: c.URL, Sample: 0})
	fail := func(id int, remote string) {
		tracer.Handshake(&handshake.Event{ID: uint64(id), Start: time.Now(), Outcome: handshake.Failed, Remote: remote, Failure: &handshake.Failure{Alert: 48, AlertName: "unknown_ca"}})
	}
	for id := range 1000 {
		fail(id, fmt.Sprintf("192.0.2.1:%d", id))
	}
	fail(1000, "192.0.2.2:1")
	for id := range 100 {
		tracer.Handshake(&handshake.Event{ID: uint64(2000 + id), Start: time.Now(), Outcome: handshake.Complete, Remote: "192.0.2.3:1"})
		tracer.Handshake(&handshake.Event{ID: uint64(3000 + id), Start: time.Now(), Outcome: handshake.Failed, Noise: "scan", Remote: "192.0.2.3:1", Failure: &handshake.Failure{Alert: -1}})
	}
	end()
	from := map[any]int{}
	for _, s := range c.Spans() {
		from[s.Attributes["client.address"]]++
	}
	if from["192.0.2.1"] != 60 || from["192.0.2.2"] != 1 || len(from) != 2 {
		t.Errorf("%v", from)
	}
}

// Text that is not UTF-8 would make a whole batch worthless (protobuf takes no other).
func TestHostileTextArrives(t *testing.T) {
	c := otlptest.Start(t)
	tracer, _, end := start(t, tracing.Options{Endpoint: c.URL, Sample: 1})
	_, spans := tracer.Begin(tracing.Incoming{At: time.Now()})
	bad := "\xff\x00\x1b[31m" + strings.Repeat("a", 1<<16)
	spans.Trying(tracing.Try{Method: bad, Scheme: "http", Address: bad, Path: bad})
	spans.Missed("kind", bad)
	spans.End(&tracing.Outcome{Method: bad, Path: bad, Host: bad, Port: bad, UserAgent: bad, Error: bad, Route: "/" + bad, Cut: true, End: time.Now()})
	end()
	all := c.Spans()
	if len(all) != 2 || tracer.Dropped() != 0 {
		t.Fatalf("%d spans, %d lost", len(all), tracer.Dropped())
	}
	for _, s := range all {
		if text := fmt.Sprint(s); strings.ContainsAny(text, "\x00\x1b") || len(text) > 8<<10 {
			t.Errorf("%d bytes: %.200q", len(text), text)
		}
	}
}

func TestACAThatCannotBeReadIsSaid(t *testing.T) {
	for _, ca := range []string{"missing.pem", "delivery_test.go"} {
		if _, err := tracing.New(tracing.Options{Endpoint: "https://127.0.0.1:1", CA: ca}); err == nil || !strings.Contains(err.Error(), "CA") {
			t.Errorf("%s: %v", ca, err)
		}
	}
}
