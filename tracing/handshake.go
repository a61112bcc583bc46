package tracing

import (
	"cmp"
	"net"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"padlock/handshake"
	"padlock/handshake/wire"
)

// Handshake implements handshake.Sink. What somebody has to look at is always exported, though not more of it in a
// minute than a person could read; of all else only the sample is.
func (t *Tracer) Handshake(e *handshake.Event) {
	if e.Outcome != handshake.Complete && e.Noise == "" {
		t.failures.Handshake(e)
	} else if _, chosen := t.ids.handshake(e.ID, t.ratio); chosen {
		t.export(e)
	}
}

// spanSink is the sink behind the filter that bounds failures.
type spanSink struct{ *Tracer }

func (t spanSink) Handshake(e *handshake.Event) { t.export(e) }

// export makes a handshake a span, and its stages events of it.
func (t *Tracer) export(e *handshake.Event) {
	own, _ := t.ids.handshake(e.ID, t.ratio)
	_, span := t.tracer.Start(fixed(own), "TLS handshake", trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(e.Start), trace.WithAttributes(attributesOf(e)...))
	took := e.Duration
	// An incomplete handshake has no Finished that could be its end.
	if e.Outcome != handshake.Complete {
		for i := range e.Stages {
			took = max(took, e.Stages[i].At)
		}
	}

	at := time.Duration(0)
	for i := range e.Stages {
		s := &e.Stages[i]
		// The last stage of a complete handshake is the first byte, for which the client may take its time.
		if s.At > took {
			span.SetAttributes(attribute.Float64("padlock.handshake."+s.Name+"_after", s.At.Seconds()))
			continue
		}

		// Messages that left together have the same time.
		at = max(at, s.At)
		span.AddEvent(s.Name, trace.WithTimestamp(e.Start.Add(at)), trace.WithAttributes(stageAttributes(s)...))
	}

	if f := e.Failure; f != nil {
		span.SetStatus(codes.Error, f.Cause)
	}

	span.End(trace.WithTimestamp(e.Start.Add(took)))
}

func stageAttributes(s *handshake.Stage) []attribute.KeyValue {
	all := []attribute.KeyValue{attribute.String("from", string(s.From)), attribute.String("label", string(s.Label))}
	if s.Text != "" {
		all = append(all, attribute.String("text", s.Text))
	}
	if s.Size > 0 {
		all = append(all, attribute.Int("size", s.Size))
	}
	return all
}

// attributesOf takes texts as they are: an Event's are escaped, and as private as they have to be.
func attributesOf(e *handshake.Event) []attribute.KeyValue {
	all := append(make([]attribute.KeyValue, 0, 32),
		attribute.Int64("padlock.handshake.id", int64(e.ID)), attribute.String("padlock.handshake.outcome", string(e.Outcome)),
		semconv.TLSEstablished(e.Outcome == handshake.Complete || e.Outcome == handshake.Silent), semconv.TLSResumed(e.Resumed), transport(e),
	)
	text := func(key attribute.Key, value string) {
		if value != "" {
			all = append(all, key.String(value))
		}
	}

	if e.Version != 0 {
		text(semconv.TLSProtocolNameKey, "tls")
		text(semconv.TLSProtocolVersionKey, wire.VersionName(e.Version))
	}

	text(semconv.TLSCipherKey, e.CipherSuite)
	text(semconv.TLSCurveKey, e.Group)
	text(semconv.TLSNextProtocolKey, e.ALPN)
	text("tls.client.server_name", e.SNI)
	text(semconv.ServerAddressKey, e.SNI)
	text(semconv.TLSClientJa3Key, e.JA3)
	text("tls.client.ja4", e.JA4)
	if host, port, err := net.SplitHostPort(e.Remote); err == nil {
		text(semconv.ClientAddressKey, host)
		text(semconv.NetworkPeerAddressKey, host)
		if n, _ := strconv.Atoi(port); n > 0 {
			all = append(all, semconv.NetworkPeerPort(n))
		}
	}

	if c := e.Certificate; c != nil {
		text(semconv.TLSServerSubjectKey, c.Subject)
		text(semconv.TLSServerIssuerKey, c.Issuer)
		text(semconv.TLSServerNotAfterKey, c.NotAfter.UTC().Format(time.RFC3339))
	}

	if c := e.ClientCertificate; c != nil {
		text(semconv.TLSClientSubjectKey, c.Subject)
		text(semconv.TLSClientIssuerKey, c.Issuer)
		text(semconv.TLSClientNotAfterKey, c.NotAfter.UTC().Format(time.RFC3339))
	}

	text("padlock.handshake.noise", e.Noise)
	for _, part := range [...]struct {
		name string
		took time.Duration
	}{
		{"tcp_round_trip", e.Timings.RoundTrip}, {"key_exchange", e.Timings.KeyExchange}, {"key_schedule", e.Timings.KeySchedule},
		{"signing", e.Timings.Signing}, {"client", e.Timings.Client},
	} {
		if part.took != 0 {
			all = append(all, attribute.Float64("padlock.handshake.seconds."+part.name, part.took.Seconds()))
		}
	}

	if len(e.Notes) > 0 {
		all = append(all, attribute.StringSlice("padlock.handshake.notes", e.Notes))
	}

	if f := e.Failure; f != nil {
		text(semconv.ErrorTypeKey, cmp.Or(f.AlertName, string(e.Outcome)))
		text("padlock.handshake.by", string(f.By))
		text("padlock.handshake.stage", f.Stage)
		text("padlock.handshake.alert", f.AlertName)
		text("padlock.handshake.cause", f.Cause)
		text("padlock.handshake.remedy", f.Remedy)
		text("padlock.handshake.confidence", f.Confidence)
		text("padlock.handshake.error", f.GoError)
	}

	return all
}

func transport(e *handshake.Event) attribute.KeyValue {
	if e.QUIC {
		return semconv.NetworkTransportQUIC
	}
	return semconv.NetworkTransportTCP
}

// server says where a host:port is.
func server(address string) []attribute.KeyValue {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return []attribute.KeyValue{semconv.ServerAddress(address)}
	}
	all := []attribute.KeyValue{semconv.ServerAddress(host)}
	if n, err := strconv.Atoi(port); err == nil {
		all = append(all, semconv.ServerPort(n))
	}
	return all
}
