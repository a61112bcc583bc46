package gateway

import (
	"testing"
	"time"

	"padlock/config"
	"padlock/inspect"
	"padlock/proxy/message"
)

// inspectedRig is all that is noted of a request with a response of 1 KiB.
func inspectedRig(tb testing.TB) (run func()) {
	tb.Helper()
	s := stateOf(tb, "sites: [{hosts: [app7.test], inspect: true, routes: [{to: \"127.0.0.1:1\"}]}]")
	s.records = inspect.NewStore(64 << 20)
	r, fields := arrived("app7.test")
	room := make(message.Fields, 32, 64)
	target := &config.Target{Scheme: "http", Network: "tcp", Address: "127.0.0.1:1"}
	answer := message.Fields{
		{Name: "Server", Value: "app"}, {Name: "Content-Type", Value: "text/html"}, {Name: "Content-Length", Value: "1024"}, {Name: "ETag", Value: `"abc"`},
		{Name: "Last-Modified", Value: "Mon, 30 Nov 2026 10:00:00 GMT"}, {Name: "Date", Value: "Mon, 30 Nov 2026 10:00:00 GMT"},
	}
	response := &message.Response{Status: 200, Fields: answer}
	content := make([]byte, 1<<10)
	return func() {
		x := &Exchange{request: r, routes: s, id: 7, start: time.Now(), target: r.Target, w: countingWriter{Writer: discarding{}}}
		r.Fields = append(room[:0], fields...)
		x.site, x.name = s.Hosts("").Site(r.Host)
		x.inspect(r.Host)
		x.record.Trying(target, x.start)
		x.record.Answered(response)
		_ = x.w.Head(200, answer, 1024)
		_, _ = x.w.Write(content)
		x.record.end()
	}
}

// discarding is a client that takes everything.
type discarding struct{ message.Writer }

func (discarding) Head(int, message.Fields, int64) error { return nil }
func (discarding) Write(p []byte) (int, error)           { return len(p), nil }

// What a request costs that is remembered, with its response of 1 KiB: at most 5 % of the 20 µs that such a request
// takes in all.
func BenchmarkInspect(b *testing.B) {
	run := inspectedRig(b)
	b.ReportAllocs()
	for b.Loop() {
		run()
	}
}

// The exchange is one, and what stands around the request and the record are one each: what is noted goes into pages
// that others have left.
func TestARequestIsRememberedInTwoAllocations(t *testing.T) {
	run := inspectedRig(t)
	for range 300 {
		run()
	}
	if n := testing.AllocsPerRun(1000, run); n > 3 {
		t.Errorf("%v allocations", n)
	}
}
