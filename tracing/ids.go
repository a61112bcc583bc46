package tracing

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"math"
	random "math/rand/v2"

	"go.opentelemetry.io/otel/trace"
)

// ids makes identifiers. Those of a handshake follow from its number, so that requests can refer to its span, which
// is exported later, from another goroutine, and only if it was chosen: nothing has to be kept for it.
type ids struct{ key [16]byte }

func newIDs() (i ids) {
	_, _ = rand.Read(i.key[:]) // never fails (crypto/rand)
	return i
}

// handshake is the context of a handshake's span; chosen reports whether it is in a sample of this ratio.
func (i *ids) handshake(id uint64, ratio float64) (c Context, chosen bool) {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(i.key[:len(i.key):len(i.key)], id))
	copy(c.Trace[:], sum[:])
	copy(c.Span[:], sum[16:])
	c.Flags = trace.FlagsSampled
	return c, below(binary.BigEndian.Uint64(sum[24:]), ratio)
}

// chance decides by itself: identifiers are a client's to choose, so they must not.
func chance(ratio float64) bool { return below(random.Uint64(), ratio) }

func below(n uint64, ratio float64) bool {
	return ratio >= 1 || float64(n>>11) < ratio*math.Exp2(53)
}

func newSpan() (id trace.SpanID) {
	// Never zero, which would be no span (W3C Trace Context section 3.2).
	binary.NativeEndian.PutUint64(id[:], random.Uint64()|1)
	return id
}

func newTrace() (id trace.TraceID) {
	binary.NativeEndian.PutUint64(id[:], random.Uint64())
	binary.NativeEndian.PutUint64(id[8:], random.Uint64()|1)
	return id
}

type fixedKey struct{}

// fixed gives the span that is started with it these identifiers.
func fixed(c Context) context.Context { return context.WithValue(context.Background(), fixedKey{}, c) }

// NewIDs implements the SDK's IDGenerator.
func (*ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if c, ok := ctx.Value(fixedKey{}).(Context); ok {
		return c.Trace, c.Span
	}
	return newTrace(), newSpan()
}

// NewSpanID implements the SDK's IDGenerator.
func (*ids) NewSpanID(context.Context, trace.TraceID) trace.SpanID { return newSpan() }
