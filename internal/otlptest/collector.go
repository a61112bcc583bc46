// Package otlptest is a collector of traces for tests: it takes OTLP over HTTP as OpenTelemetry's own does, and hands
// out what has come.
package otlptest

import (
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Collector takes traces.
type Collector struct {
	URL string

	mu      sync.Mutex
	spans   []Span
	fields  http.Header // of the last request
	refusal int
	more    chan struct{}
}

// Span is a span as it came over the wire.
type Span struct {
	Name, Trace, ID, Parent, State string
	Kind                           otlp.Span_SpanKind
	Start, End                     time.Time
	Attributes, Resource           map[string]any
	Events                         []Event
	Links                          []Link
	Failed                         bool
	Message                        string // of the status
	Flags                          uint32
}

// Event is a moment within a span.
type Event struct {
	Name       string
	At         time.Time
	Attributes map[string]any
}

// Link refers to another span.
type Link struct{ Trace, ID string }

// Start listens until the test ends.
func Start(t *testing.T) *Collector {
	t.Helper()
	c := &Collector{more: make(chan struct{})}
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	c.URL = s.URL
	return c
}

// Refuse has the collector answer with a status until it is told 0.
func (c *Collector) Refuse(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refusal = status
}

// Fields are those of the last request.
func (c *Collector) Fields() http.Header {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fields.Clone()
}

// Spans are those that have come so far.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Span(nil), c.spans...)
}

// Take is Spans, and forgets them.
func (c *Collector) Take() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	spans := c.spans
	c.spans = nil
	return spans
}

// Wait returns all spans as soon as enough says so.
func (c *Collector) Wait(t *testing.T, enough func([]Span) bool) []Span {
	t.Helper()
	timeout := time.After(60 * time.Second)
	for {
		c.mu.Lock()
		spans, more := append([]Span(nil), c.spans...), c.more
		c.mu.Unlock()
		if enough(spans) {
			return spans
		}

		select {
		case <-more:
		case <-timeout:
			t.Fatalf("what was waited for never came; these did:\n%s", list(spans))
		}
	}
}

func list(spans []Span) (text string) {
	for _, s := range spans {
		text += fmt.Sprintf("%s %s %s<%s %v\n", s.Name, s.Trace, s.ID, s.Parent, s.Attributes)
	}
	return text
}

// ServeHTTP implements http.Handler (OTLP 1.x, section OTLP/HTTP).
func (c *Collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request, err := decode(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fields = r.Header
	switch {
	case c.refusal != 0:
		w.WriteHeader(c.refusal)
		return
	case r.Method != http.MethodPost || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf":
		w.WriteHeader(http.StatusNotFound)
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}

	for _, from := range request.ResourceSpans {
		for _, scope := range from.ScopeSpans {
			for _, s := range scope.Spans {
				c.spans = append(c.spans, span(s, attributes(from.Resource.Attributes)))
			}
		}
	}

	close(c.more)
	c.more = make(chan struct{})
	w.Header().Set("Content-Type", "application/x-protobuf")
	answer, _ := proto.Marshal(&collector.ExportTraceServiceResponse{})
	_, _ = w.Write(answer)
}

func decode(r *http.Request) (*collector.ExportTraceServiceRequest, error) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		var err error
		if body, err = gzip.NewReader(r.Body); err != nil {
			return nil, err
		}
	}

	data, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}

	request := &collector.ExportTraceServiceRequest{}
	return request, proto.Unmarshal(data, request)
}

func span(s *otlp.Span, resource map[string]any) Span {
	out := Span{
		Name: s.Name, Trace: hex.EncodeToString(s.TraceId), ID: hex.EncodeToString(s.SpanId), Parent: hex.EncodeToString(s.ParentSpanId), State: s.TraceState,
		Kind: s.Kind, Start: moment(s.StartTimeUnixNano), End: moment(s.EndTimeUnixNano), Attributes: attributes(s.Attributes), Resource: resource,
		Failed: s.Status.GetCode() == otlp.Status_STATUS_CODE_ERROR, Message: s.Status.GetMessage(), Flags: s.Flags,
	}
	for _, e := range s.Events {
		out.Events = append(out.Events, Event{e.Name, moment(e.TimeUnixNano), attributes(e.Attributes)})
	}
	for _, l := range s.Links {
		out.Links = append(out.Links, Link{hex.EncodeToString(l.TraceId), hex.EncodeToString(l.SpanId)})
	}
	return out
}

func moment(nanoseconds uint64) time.Time { return time.Unix(0, int64(nanoseconds)) }

func attributes(of []*common.KeyValue) map[string]any {
	all := map[string]any{}
	for _, a := range of {
		all[a.Key] = value(a.Value)
	}
	return all
}

func value(v *common.AnyValue) any {
	switch v := v.GetValue().(type) {
	case *common.AnyValue_StringValue:
		return v.StringValue
	case *common.AnyValue_BoolValue:
		return v.BoolValue
	case *common.AnyValue_IntValue:
		return int(v.IntValue)
	case *common.AnyValue_DoubleValue:
		return v.DoubleValue
	case *common.AnyValue_ArrayValue:
		var all []any
		for _, each := range v.ArrayValue.Values {
			all = append(all, value(each))
		}
		return all
	}
	return nil
}
