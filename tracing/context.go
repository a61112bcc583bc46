package tracing

import (
	"encoding/hex"

	"go.opentelemetry.io/otel/trace"
)

// Context is what one hop passes to the next of a trace: the field traceparent (W3C Trace Context section 3.2). The zero
// Context is none.
type Context struct {
	Trace trace.TraceID
	Span  trace.SpanID
	Flags trace.TraceFlags
}

const (
	parentLength = 55 // of version 00
	knownFlags   = trace.FlagsSampled | randomFlag
	randomFlag   = 2 // the trace's id is random (level 2 of the specification)
)

// ParseParent reads a traceparent; false means that what came is to be replaced. A version that is not known yet is
// read as far as it is what version 00 is (section 4.3).
func ParseParent(value string) (c Context, ok bool) {
	if len(value) < parentLength || value[2] != '-' || value[35] != '-' || value[52] != '-' {
		return Context{}, false
	}

	var version, flags [1]byte
	if !digits(version[:], value[:2]) || !digits(c.Trace[:], value[3:35]) || !digits(c.Span[:], value[36:52]) || !digits(flags[:], value[53:55]) {
		return Context{}, false
	}

	c.Flags = trace.TraceFlags(flags[0]) & knownFlags
	switch {
	case !c.Trace.IsValid() || !c.Span.IsValid(), version[0] == 0xff:
	// W3C Trace Context section 3.2: only later versions may be longer.
	case version[0] == 0 && len(value) > parentLength, len(value) > parentLength && value[parentLength] != '-':
	default:
		return c, true
	}

	return Context{}, false
}

// digits decodes hexadecimal digits, which are lower case here.
func digits(to []byte, text string) bool {
	for i := range len(text) {
		if c := text[i]; 'A' <= c && c <= 'F' {
			return false
		}
	}
	_, err := hex.Decode(to, []byte(text))
	return err == nil
}

// Append appends the context as a traceparent.
func (c Context) Append(b []byte) []byte {
	b = append(b, "00-"...)
	b = append(hex.AppendEncode(b, c.Trace[:]), '-')
	b = append(hex.AppendEncode(b, c.Span[:]), '-')
	return hex.AppendEncode(b, []byte{byte(c.Flags)})
}

// Valid reports whether there is a trace.
func (c Context) Valid() bool { return c.Trace.IsValid() }

func (c Context) sampled() bool { return c.Flags.IsSampled() }

func (c Context) remote(state trace.TraceState) trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: c.Trace, SpanID: c.Span, TraceFlags: c.Flags, TraceState: state, Remote: true})
}
