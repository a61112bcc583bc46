// Package tracing exports requests and handshakes to a collector of OpenTelemetry, as OTLP over HTTP.
//
//	tracer, err := tracing.New(tracing.Options{Endpoint: "http://collector:4318", Sample: 0.1, Log: log})
//	own, spans := tracer.Begin(tracing.Incoming{…})   // spans is nil for what is not in the sample
//	spans.Try(…); spans.Answered(200); spans.End(…)
//	…                                                 // the tracer is a handshake.Sink too
//	tracer.Close(ctx)
//
// Nobody waits for the collector: what it cannot take is lost, and counted.
package tracing

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"padlock/handshake"
	"padlock/internal/pemfile"
)

// Options of a Tracer. Zero numbers mean the defaults.
type Options struct {
	Endpoint string            // URL of the collector, to which /v1/traces is added
	Headers  map[string]string // that the collector asks for
	CA       string            // PEM file that an https endpoint is verified against; "": the system's
	Service  string            // service.name; "": that of OTEL_SERVICE_NAME, or padlock
	Version  string
	Sample   float64 // of requests, and of handshakes that nobody has to look at: from 0 to 1
	Queue    int     // spans that may wait; 2,048
	Privacy  handshake.Privacy
	Log      *slog.Logger
}

// Tracer makes spans. It is safe for use from many goroutines.
type Tracer struct {
	ratio    float64
	privacy  handshake.Privacy
	ids      ids
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	delivery *delivery
	failures *handshake.NoiseFilter
}

const tracesPath = "/v1/traces"

// New connects to nothing yet.
func New(o Options) (*Tracer, error) {
	o.Queue = cmp.Or(o.Queue, 2048)
	client, err := httpClient(o.CA)
	if err != nil {
		return nil, err
	}

	url := strings.TrimRight(o.Endpoint, "/")
	if !strings.HasSuffix(url, tracesPath) {
		url += tracesPath
	}
	// OTLP over HTTP passes through proxies and load balancers that know nothing of gRPC.
	exporter, err := otlptracehttp.New(context.Background(), otlptracehttp.WithEndpointURL(url), otlptracehttp.WithHeaders(o.Headers),
		otlptracehttp.WithCompression(otlptracehttp.GzipCompression), otlptracehttp.WithHTTPClient(client), otlptracehttp.WithRetry(again))
	if err != nil {
		return nil, fmt.Errorf("preparing to send traces to %s: %w", o.Endpoint, err)
	}

	from, err := describeSelf(o)
	if err != nil {
		return nil, fmt.Errorf("describing this process for traces: %w", err)
	}

	t := &Tracer{ratio: o.Sample, privacy: o.Privacy, ids: newIDs(), delivery: newDelivery(exporter, o)}
	// The SDK samples everything: what is in the sample has been decided before a span is made.
	t.provider = sdk.NewTracerProvider(sdk.WithSampler(sdk.AlwaysSample()), sdk.WithIDGenerator(&t.ids), sdk.WithResource(from), sdk.WithSpanProcessor(t.delivery))
	t.tracer = t.provider.Tracer("padlock", trace.WithInstrumentationVersion(o.Version), trace.WithSchemaURL(semconv.SchemaURL))
	t.failures = handshake.NewNoiseFilter(spanSink{t}, handshake.NoiseOptions{})
	return t, nil
}

// describeSelf says which process the spans are from. The SDK's own variables may add to it.
func describeSelf(o Options) (*resource.Resource, error) {
	own := []attribute.KeyValue{semconv.ServiceVersion(o.Version)}
	if o.Service != "" {
		own = append(own, semconv.ServiceName(o.Service))
	}
	standard := resource.NewSchemaless(semconv.ServiceName("padlock"))
	found, err := resource.New(context.Background(), resource.WithTelemetrySDK(), resource.WithHost(), resource.WithProcessPID(), resource.WithFromEnv(), resource.WithAttributes(own...))
	if err != nil {
		return nil, err
	}
	return resource.Merge(standard, found)
}

// again says how long one batch is tried; those behind it wait, as many as have room.
var again = otlptracehttp.RetryConfig{Enabled: true, InitialInterval: time.Second, MaxInterval: 10 * time.Second, MaxElapsedTime: 30 * time.Second}

const deliveryTime = 10 * time.Second // for one request to the collector

func httpClient(ca string) (*http.Client, error) {
	transport := &http.Transport{
		// Collectors outside are reached as everything else on the machine is.
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 5 * time.Second,
	}
	if ca != "" {
		roots, err := pemfile.LoadPool(ca)
		if err != nil {
			return nil, fmt.Errorf("reading the CA of the collector: %w", err)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: patient{transport}, Timeout: deliveryTime}, nil
}

// Lost counts the spans that did not reach the collector.
func (t *Tracer) Dropped() uint64 { return t.delivery.lost.Load() }

const farewell = 2 * time.Second // at most, for what waits at the end

// Close sends what waits, if the collector takes it at once and before ctx ends. It is called once, after the last
// event.
func (t *Tracer) Close(ctx context.Context) {
	t.failures.Close()
	ctx, cancel := context.WithTimeout(ctx, farewell)
	defer cancel()
	// What was lost has been counted and reported.
	_ = t.provider.Shutdown(ctx)
}
