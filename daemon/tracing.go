package daemon

import (
	"log/slog"

	"padlock/config"
	"padlock/handshake"
	"padlock/tracing"
)

// newTracer is nil where no collector is named.
func newTracer(cfg *config.Config, version string, log *slog.Logger) (*tracing.Tracer, error) {
	c := &cfg.Tracing
	if c.Endpoint == "" {
		return nil, nil
	}
	return tracing.New(tracing.Options{
		Endpoint: c.Endpoint, Headers: c.Headers, CA: c.CA, Service: c.Service, Version: version, Sample: c.Sample, Privacy: privacy(cfg), Log: log,
	})
}

func privacy(cfg *config.Config) handshake.Privacy {
	p := &cfg.Handshakes.Privacy
	return handshake.Privacy{TruncateAddresses: p.Addresses == "truncated", HashNames: p.Names == "hashed"}
}
