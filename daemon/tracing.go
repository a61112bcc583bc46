package daemon

import (
	"context"
	"log/slog"

	"padlock/config"
	"padlock/handshake"
	"padlock/tracing"
)

// newTracer is nil, with nothing to close, where no collector is named.
func newTracer(cfg *config.Config, version string, log *slog.Logger) (*tracing.Tracer, func(context.Context), error) {
	c := &cfg.Tracing
	if c.Endpoint == "" {
		return nil, func(context.Context) {}, nil
	}
	tracer, err := tracing.New(tracing.Options{
		Endpoint: c.Endpoint, Headers: c.Headers, CA: c.CA, Service: c.Service, Version: version, Sample: c.Sample, Privacy: privacy(cfg), Log: log,
	})
	if err != nil {
		return nil, nil, err
	}
	return tracer, tracer.Close, nil
}

func privacy(cfg *config.Config) handshake.Privacy {
	p := &cfg.Handshakes.Privacy
	return handshake.Privacy{TruncateAddresses: p.Addresses == "truncated", HashNames: p.Names == "hashed"}
}
