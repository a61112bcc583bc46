package gateway

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"padlock/config"
	"padlock/proxy/message"
	"padlock/tracing"
)

// tracedRig is a request from its beginning to its end, without what forwarding it costs; t is nil where tracing is off.
func tracedRig(tb testing.TB, t *tracing.Tracer, more ...message.Field) (run func()) {
	tb.Helper()
	s := stateOf(tb, "sites: [{hosts: [app7.test], routes: [{to: \"127.0.0.1:1\"}]}]")
	r, fields := arrived("app7.test")
	fields = append(fields, more...)
	x := new(Exchange)
	room := make(message.Fields, 32, 64)
	target := &config.Target{Scheme: "http", Network: "tcp", Address: "127.0.0.1:1"}
	return func() {
		*x = Exchange{request: r, id: 7, start: time.Now()}
		r.Fields = append(room[:0], fields...)
		x.identify(s.Trusted)
		if t != nil {
			x.beginTrace(t, false)
		}
		found, name := s.Hosts("").Site(r.Host)
		x.site, x.name, x.target, x.route = found, name, r.Target, found.Routes[0]
		_ = (&Gateway{}).prepare(nil, x)
		if x.attempt.Follower != nil {
			x.attempt.Follower.Trying(target, time.Now())
			x.attempt.Follower.Answered(&message.Response{Status: 200})
		}
		x.took = time.Since(x.start)
		x.endTrace()
	}
}

func tracerOf(tb testing.TB, sample float64) *tracing.Tracer {
	tb.Helper()
	t, err := tracing.New(tracing.Options{Endpoint: "http://127.0.0.1:1", Sample: sample, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { t.Close(context.Background()) })
	return t
}

var clients = message.Field{Name: "Traceparent", Value: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}

// A request that is not told costs no more than the field's text, where tracing is off and where it is on.
func TestTracesAllocateHardlyForWhatIsNotTold(t *testing.T) {
	none := tracerOf(t, 0)
	for name, rig := range map[string]struct {
		run  func()
		most float64
	}{
		"off": {tracedRig(t, nil), 0}, "on": {tracedRig(t, none), 1}, "on, with a client's own": {tracedRig(t, none, clients), 1},
	} {
		rig.run()
		if n := testing.AllocsPerRun(1000, rig.run); n > rig.most {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkTracing(b *testing.B) {
	for _, c := range []struct {
		name string
		run  func()
	}{{"off", tracedRig(b, nil)}, {"not told", tracedRig(b, tracerOf(b, 0))}, {"told", tracedRig(b, tracerOf(b, 1))}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.run()
			}
		})
	}
}
