package gateway

import (
	"net"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"padlock/config"
	"padlock/proxy/message"
	"padlock/proxy/sites"
	"padlock/proxy/upstream"
	"padlock/tracing"
)

const traceparent, tracestate = "traceparent", "tracestate" // W3C Trace Context section 3

// trace begins a request's trace.
func (h *Gateway) trace(_ *message.Context, x *Exchange) error {
	if h.Tracer != nil {
		x.beginTrace(h.Tracer, sites.Contains(x.routes.Trusted, x.request.Conn.Addr))
	}
	return nil
}

// beginTrace goes on with the client's trace, or begins one. Its id is taken from anybody, so that both ends can be
// found by it; whether the request is sampled is only for proxies that are trusted to say.
func (x *Exchange) beginTrace(t *tracing.Tracer, trusted bool) {
	r := x.request
	in := tracing.Incoming{Trusted: trusted, Handshake: r.Conn.Handshake, First: r.Conn.First(), At: x.start}
	came := 0
	for _, field := range r.Fields {
		if message.Is(field.Name, traceparent) {
			in.Parent, _ = tracing.ParseParent(field.Value)
			came++
		}
	}

	if came > 1 {
		in.Parent = tracing.Context{}
	}

	keeps := in.Parent.Valid()
	if state := x.joined(tracestate); state != "" && keeps {
		var err error
		in.State, err = trace.ParseTraceState(state)
		keeps = err == nil
	}

	// The head stays as the client has sent it, as logs, rules and the inspector go by that: forwardTrace changes what goes out.
	x.trace, x.spans = t.Begin(in)
	x.endsTrace, x.endsState = x.trace != in.Parent, !keeps
	if x.spans != nil {
		x.attempt.Follower = x
	}
}

// forwardTrace puts the trace into what another server gets, in the place of the client's own fields where these do not stay.
func (x *Exchange) forwardTrace(fields *message.Fields) {
	if !x.trace.Valid() {
		return
	}
	if x.endsState {
		fields.Del(tracestate)
	}
	if x.endsTrace {
		fields.Del(traceparent)
	}
	if _, stays := fields.Get(traceparent); !stays {
		fields.Add(traceparent, x.parentText())
	}
}

// parentText is the field's value.
func (x *Exchange) parentText() string {
	var room [64]byte
	return string(x.trace.Append(room[:0]))
}

// Trying implements upstream.Follower: each try is a span of its own, and what the target does is below that.
func (x *Exchange) Trying(target *config.Target, _ time.Time) {
	r := x.request
	path, _, _ := strings.Cut(r.Target, "?")
	before := x.trace
	x.trace = x.spans.Trying(tracing.Try{Method: r.Method, Scheme: target.Scheme, Address: target.Address, Socket: target.Network == "unix", Path: path})
	for i := range r.Fields {
		if message.Is(r.Fields[i].Name, traceparent) {
			// The field is the one that padlock added, and not one that the configuration sets.
			if is, ok := tracing.ParseParent(r.Fields[i].Value); ok && is == before {
				r.Fields[i].Value = x.parentText()
			}
		}
	}
}

// Answered implements upstream.Follower.
func (x *Exchange) Answered(response *message.Response) { x.spans.Answered(response.Status) }

// Missed implements upstream.Follower.
func (x *Exchange) Missed(err *upstream.Error) { x.spans.Missed(err.Reason(), err.Error()) }

// endTrace exports what the request has come to.
func (x *Exchange) endTrace() {
	if x.spans == nil {
		return
	}

	r := x.request
	path, _, _ := strings.Cut(x.target, "?")
	o := tracing.Outcome{
		Method: r.Method, Scheme: r.Scheme, Path: path, Host: x.name, Version: httpVersion(r.Proto), Peer: r.Conn.Addr, Client: x.addr,
		UserAgent: r.Fields.Value("User-Agent"), Status: x.status(), Received: x.bytesIn, Sent: x.w.bytes, RequestID: string(appendID(nil, x.id)),
		Handshake: r.Conn.Handshake, Error: x.err, Cut: x.w.aborted, TargetsFault: x.broken, End: x.start.Add(x.took),
	}
	if x.route != nil {
		o.Route = x.route.Exact + x.route.Prefix // one of them is empty
	}
	_, o.Port, _ = net.SplitHostPort(r.Conn.Local)
	x.spans.End(&o)
}

// httpVersion is as OpenTelemetry's conventions have it: 1.1, 2, 3.
func httpVersion(proto string) string {
	version := strings.TrimPrefix(proto, "HTTP/")
	if version == "2.0" || version == "3.0" {
		return version[:1]
	}
	return version
}
