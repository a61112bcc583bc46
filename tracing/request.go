package tracing

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"padlock/handshake"
)

// Incoming is what is known of a request when it comes.
type Incoming struct {
	Parent    Context // that the client or a proxy before us sent; zero: none, or none that can be used
	State     trace.TraceState
	Trusted   bool   // the parent's word on sampling is taken
	Handshake uint64 // number of the connection's; 0: not recorded
	First     bool   // of its connection
	At        time.Time
}

// Begin decides whether a request is sampled. It returns the context that the next hop gets: another than the parent
// where that is not to be passed on as it is. The Request is nil for what is not sampled; Begin then costs no more than
// random numbers.
func (t *Tracer) Begin(in Incoming) (Context, *Request) {
	if !t.chosen(&in) {
		return in.Parent.unsampled(), nil
	}

	ctx := context.Background()
	if in.Parent.Valid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, in.Parent.remote(in.State))
	}

	options := append(make([]trace.SpanStartOption, 0, 3), trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(in.At))
	// A link and no parent: the handshake ended before, and has a trace of its own.
	if in.Handshake != 0 {
		if by, sampled := t.ids.handshake(in.Handshake, t.ratio); sampled {
			options = append(options, trace.WithLinks(trace.Link{
				SpanContext: by.remote(trace.TraceState{}), Attributes: []attribute.KeyValue{attribute.String("padlock.link", "handshake")},
			}))
		}
	}

	r := &Request{tracer: t}
	r.ctx, r.span = t.tracer.Start(ctx, "request", options...)
	return contextOf(r.span), r
}

// chosen takes a trusted parent's word. The first request of a connection is sampled if its handshake is, so that both
// can be seen together.
func (t *Tracer) chosen(in *Incoming) bool {
	switch {
	case in.Trusted && in.Parent.Valid():
		return in.Parent.sampled()
	case in.First && in.Handshake != 0:
		_, sampled := t.ids.handshake(in.Handshake, t.ratio)
		return sampled
	}
	return chance(t.ratio)
}

// unsampled is what follows the context where no span of ours does. The sampled flag of a client that is not trusted
// would have targets record whatever it likes; with another flag goes another span (W3C Trace Context section 3.4).
func (c Context) unsampled() Context {
	switch {
	case !c.Valid():
		return Context{Trace: newTrace(), Span: newSpan()}
	case c.sampled():
		return Context{c.Trace, newSpan(), c.Flags &^ trace.FlagsSampled}
	}
	return c
}

func contextOf(s trace.Span) Context {
	c := s.SpanContext()
	return Context{c.TraceID(), c.SpanID(), c.TraceFlags()}
}

// Request makes the spans of one request: the server's, and one of a client for each target that is tried. It belongs
// to one goroutine.
type Request struct {
	tracer *Tracer
	ctx    context.Context
	span   trace.Span
	try    trace.Span // that is open; nil: none
	tries  int
}

// Try is a request on its way to a target.
type Try struct {
	Method  string
	Scheme  string // http | https | h2c
	Address string // of the target: host:port, or a socket's path
	Socket  bool
	Path    string
}

// Trying begins the span of a try, and returns the context that the target gets.
func (r *Request) Trying(t Try) Context {
	method, original := methodOf(t.Method)
	scheme, address, path := t.Scheme, kept(t.Address), kept(t.Path)
	// Semantic conventions know the schemes of URLs alone, and h2c is no scheme.
	if scheme == "h2c" {
		scheme = "http"
	}

	attributes := append(make([]attribute.KeyValue, 0, 8), method, semconv.URLScheme(kept(scheme)), semconv.URLPath(path))
	if t.Socket {
		attributes = append(attributes, semconv.ServerAddress(address), semconv.NetworkTransportUnix)
	} else {
		attributes = append(attributes, semconv.URLFull(scheme+"://"+address+path))
		attributes = append(attributes, server(address)...)
	}

	if original != "" {
		attributes = append(attributes, semconv.HTTPRequestMethodOriginal(original))
	}
	if r.tries > 0 {
		attributes = append(attributes, semconv.HTTPRequestResendCount(r.tries))
	}

	r.tries++
	_, r.try = r.tracer.tracer.Start(r.ctx, method.Value.AsString(), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes...))
	return contextOf(r.try)
}

// Answered notes the head of the target's answer; the span goes on until the end of the request.
func (r *Request) Answered(status int) {
	r.try.AddEvent("response head")
	r.try.SetAttributes(semconv.HTTPResponseStatusCode(status))
	if status >= 400 {
		failed(r.try, strconv.Itoa(status), "")
	}
}

// Missed ends the span of a try without an answer; kind is one of few.
func (r *Request) Missed(kind, text string) {
	failed(r.try, kind, text)
	r.try.End()
	r.try = nil
}

// Outcome is what is known of a request when it has ended.
type Outcome struct {
	Method, Scheme, Path string
	Host, Port           string // that was asked for
	Version              string // of HTTP: 1.1, 2, 3
	Route                string // of the configuration, "" where none was found
	Peer, Client         netip.Addr
	UserAgent            string
	Status               int // 0: none was sent
	Received, Sent       int64
	RequestID            string
	Handshake            uint64
	Error                string // what went wrong, in words
	Cut                  bool   // the answer was not whole
	TargetsFault         bool   // the target broke off its answer
	End                  time.Time
}

// End ends what is open.
func (r *Request) End(o *Outcome) {
	if r.try != nil {
		if o.TargetsFault {
			failed(r.try, "broken_off", o.Error)
		}
		r.try.End(trace.WithTimestamp(o.End))
	}

	method, original := methodOf(o.Method)
	name := method.Value.AsString()
	// OpenTelemetry's conventions name the span of an unknown method HTTP.
	if method.Value.AsString() == "_OTHER" {
		name = "HTTP"
	}

	if o.Route != "" {
		name += " " + o.Route
	}

	r.span.SetName(kept(name))
	r.span.SetAttributes(append(r.tracer.outcome(o), method)...)
	if original != "" {
		r.span.SetAttributes(semconv.HTTPRequestMethodOriginal(original))
	}

	switch {
	case o.Status >= 500:
		failed(r.span, strconv.Itoa(o.Status), o.Error)
	case o.TargetsFault:
		failed(r.span, "broken_off", o.Error)
	case o.Cut:
		failed(r.span, "aborted", o.Error)
	}

	r.span.End(trace.WithTimestamp(o.End))
}

func (t *Tracer) outcome(o *Outcome) []attribute.KeyValue {
	all := append(make([]attribute.KeyValue, 0, 24),
		semconv.URLScheme(kept(o.Scheme)), semconv.URLPath(kept(o.Path)), semconv.NetworkProtocolName("http"), semconv.NetworkProtocolVersion(kept(o.Version)),
		semconv.HTTPRequestBodySize(int(o.Received)), semconv.HTTPResponseBodySize(int(o.Sent)), attribute.String("padlock.request.id", o.RequestID),
	)
	text := func(of func(string) attribute.KeyValue, value string) {
		if value != "" {
			all = append(all, of(kept(value)))
		}
	}

	text(semconv.HTTPRoute, o.Route)
	text(semconv.UserAgentOriginal, o.UserAgent)
	text(semconv.ClientAddress, t.address(o.Client))
	text(semconv.NetworkPeerAddress, t.address(o.Peer))
	text(func(s string) attribute.KeyValue { return attribute.String("padlock.error", s) }, o.Error)
	if !t.privacy.HashNames {
		text(semconv.ServerAddress, o.Host)
		if port, err := strconv.Atoi(o.Port); err == nil {
			all = append(all, semconv.ServerPort(port))
		}
	}

	if o.Status != 0 {
		all = append(all, semconv.HTTPResponseStatusCode(o.Status))
	}
	if o.Handshake != 0 {
		all = append(all, attribute.Int64("padlock.handshake.id", int64(o.Handshake)))
	}

	return all
}

func (t *Tracer) address(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return t.privacy.Address(a).String()
}

// failed marks a span; what it says is for people, kind for machines.
func failed(s trace.Span, kind, text string) {
	s.SetStatus(codes.Error, kept(text))
	s.SetAttributes(semconv.ErrorTypeKey.String(kind))
}

// kept makes a text of a request safe to show, and a copy: the request's own would keep its whole head in memory for as
// long as its span waits to be sent.
func kept(s string) string { return strings.Clone(handshake.Escape(s)) }

// methodOf keeps a client from making up names of spans: methods that few use are one (HTTP conventions of
// OpenTelemetry).
func methodOf(method string) (known attribute.KeyValue, original string) {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT", "QUERY":
		return semconv.HTTPRequestMethodKey.String(strings.Clone(method)), ""
	}
	return semconv.HTTPRequestMethodOther, kept(method)
}
