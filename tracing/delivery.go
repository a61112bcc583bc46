package tracing

import (
	"context"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"

	"padlock/handshake"
	"padlock/internal/mask"
)

// delivery stands before the SDK's batches and bounds what waits; arrivals, behind them, learns what the collector
// has taken. The SDK's own bound counts nothing that could be reported.
type delivery struct {
	sdk.SpanProcessor
	limit   int64
	waiting atomic.Int64
	lost    atomic.Uint64
}

func newDelivery(exporter sdk.SpanExporter, o Options) *delivery {
	d := &delivery{limit: int64(o.Queue)}
	behind := &arrivals{SpanExporter: exporter, delivery: d, log: o.Log, endpoint: o.Endpoint}
	d.SpanProcessor = sdk.NewBatchSpanProcessor(behind, sdk.WithMaxQueueSize(o.Queue), sdk.WithMaxExportBatchSize(min(o.Queue, sdk.DefaultMaxExportBatchSize)))
	return d
}

// OnEnd implements the SDK's SpanProcessor.
func (d *delivery) OnEnd(s sdk.ReadOnlySpan) {
	if d.waiting.Add(1) > d.limit {
		d.waiting.Add(-1)
		d.lost.Add(1)
		return
	}
	d.SpanProcessor.OnEnd(s)
}

type arrivals struct {
	sdk.SpanExporter
	delivery *delivery
	log      *slog.Logger
	endpoint string

	reported   uint64 // of what was lost, in the log; the SDK exports one batch at a time
	reportedAt time.Time
}

// ExportSpans implements the SDK's SpanExporter.
func (a *arrivals) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := a.SpanExporter.ExportSpans(ctx, spans)
	// Spans count as waiting until the collector has answered, whether or not it has taken them.
	a.delivery.waiting.Add(-int64(len(spans)))
	if err != nil {
		a.delivery.lost.Add(uint64(len(spans)))
	}
	a.report(err)
	return nil // it has been reported
}

const reportEvery = time.Minute

// report logs what was lost since it last did.
func (a *arrivals) report(err error) {
	lost := a.delivery.lost.Load()
	// A collector that is away for hours should not fill the log.
	if lost == a.reported || time.Since(a.reportedAt) < reportEvery {
		return
	}
	text := "they came faster than the collector takes them"
	if err != nil {
		text = mask.Text(handshake.Escape(err.Error()))
	}
	a.log.Warn("traces are lost", "endpoint", mask.URL(a.endpoint), "spans", lost-a.reported, "error", text, "remedy", "check that a collector takes OTLP by HTTP there: tracing.endpoint, tracing.headers")
	a.reported, a.reportedAt = lost, time.Now()
}

// patient makes the exporter try again, as it does after other errors that may pass, when the collector cannot be
// reached.
type patient struct{ http.RoundTripper }

func (p patient) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := p.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, passing{err}
	}
	return response, nil
}

type passing struct{ error }

func (p passing) Unwrap() error { return p.error }

// Temporary is what net/url asks.
func (p passing) Temporary() bool { return true }
