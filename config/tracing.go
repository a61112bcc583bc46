package config

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"padlock/internal/mask"
)

// Tracing sends requests and handshakes as spans of OpenTelemetry to a collector. Without an endpoint there are none.
type Tracing struct {
	// The collector's address for OTLP over HTTP, for example `http://collector:4318`.
	Endpoint string `yaml:"endpoint" mask:"url"` // URL
	// Headers to send to the collector, for example for authentication. A file has one header per line.
	Headers map[string]string `yaml:"headers" secret:"yes"`
	// Root certificates for an https collector. By default the system's.
	CA string `yaml:"ca" empty:"never" path:"yes"` // PEM file
	// The `service.name` attribute. By default OTEL_SERVICE_NAME, or `padlock`.
	Service string `yaml:"service"`
	// Fraction of requests and handshakes to record. Failed handshakes are always recorded.
	Sample float64 `yaml:"sample"` // 0 to 1
}

func (v *validator) tracing(t *Tracing) {
	if t.Sample < 0 || t.Sample > 1 {
		v.fail("tracing.sample", "%v is not from 0 to 1", t.Sample)
	}

	for _, name := range slices.Sorted(maps.Keys(t.Headers)) {
		if !isToken(name) || !validValue(t.Headers[name]) {
			v.fail("tracing.headers", "%q is not a field's name, or its value holds control characters", name) // the value is a secret
		}
	}

	if t.Endpoint == "" {
		if len(t.Headers) > 0 || t.CA != "" || t.Service != "" {
			v.fail("tracing.endpoint", "is missing: without it there are no traces")
		}
		return
	}

	if err := collectorURL(t.Endpoint); err != nil {
		v.fail("tracing.endpoint", "%v", err)
	} else if t.CA != "" {
		v.bundle("tracing.ca", t.CA)
		if !strings.HasPrefix(t.Endpoint, "https://") {
			v.fail("tracing.ca", "goes with an https:// endpoint")
		}
	}
}

func collectorURL(endpoint string) error {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "": // not repeated: it may hold a secret
		return errors.New("is not the URL of a collector, such as http://collector:4318")
	case u.User != nil:
		return errors.New("takes no user name or password: tracing.headers can have Authorization")
	case u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("%q has a query or a fragment", mask.URL(endpoint))
	}
	return nil
}
