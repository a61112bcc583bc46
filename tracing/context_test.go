package tracing

import (
	"context"
	"math"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

const example = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestATraceparentIsTakenOrReplaced(t *testing.T) {
	for value, want := range map[string]string{
		example: example,
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00":   "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff":   "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03",
		"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01":   example,
		"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x": example,
		"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.x": "",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x": "",
		"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01":   "",
		"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01":   "",
		"00-0af7651916cd43dd8448eb211c80319c-B7ad6b7169203331-01":   "",
		"00-00000000000000000000000000000000-b7ad6b7169203331-01":   "",
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01":   "",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g":   "",
		"00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01":   "",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1":    "",
		" " + example: "", example + " ": "", "": "", "-": "", strings.Repeat("0", 55): "", strings.Repeat("\xff", 55): "",
	} {
		c, ok := ParseParent(value)
		got := ""
		if ok {
			got = string(c.Append(nil))
		}
		if got != want {
			t.Errorf("%q: %q, not %q", value, got, want)
		}
	}
}

// What OpenTelemetry's own reader makes of a field, ours does.
func FuzzTraceparent(f *testing.F) {
	for _, seed := range []string{example, "cc" + example[2:] + "-more", "ff" + example[2:], "00-" + strings.Repeat("0", 32) + "-b7ad6b7169203331-01", example[:54], strings.ToUpper(example), "00-\xff"} {
		f.Add(seed)
	}
	theirs := propagation.TraceContext{}
	f.Fuzz(func(t *testing.T, value string) {
		c, ok := ParseParent(value)
		their := trace.SpanContextFromContext(theirs.Extract(context.Background(), propagation.MapCarrier{"traceparent": value}))
		if !ok {
			if c != (Context{}) {
				t.Errorf("%q: refused, and %v", value, c)
			}
			if their.IsValid() {
				t.Errorf("%q is refused by us only", value)
			}
			return
		}
		if their.IsValid() && (their.TraceID() != c.Trace || their.SpanID() != c.Span || their.IsSampled() != c.sampled()) {
			t.Errorf("%q: %v, and theirs %v", value, c, their)
		}
		if again, ok := ParseParent(string(c.Append(nil))); !ok || again != c {
			t.Errorf("%q: written and read again: %v, not %v", value, again, c)
		}
	})
}

func TestASampleIsAsLargeAsItWasAskedFor(t *testing.T) {
	i := newIDs()
	const all = 20_000
	for _, ratio := range []float64{0, 0.1, 0.5, 1} {
		handshakes, requests := 0, 0
		for id := range uint64(all) {
			if _, chosen := i.handshake(id, ratio); chosen {
				handshakes++
			}
			if chance(ratio) {
				requests++
			}
		}
		for _, n := range []int{handshakes, requests} {
			if off := math.Abs(float64(n)/all - ratio); off > 0.02 || (ratio == 0 || ratio == 1) && off > 0 {
				t.Errorf("%v: %d of %d", ratio, n, all)
			}
		}
	}
}

func TestAHandshakesSpanIsKnownByItsNumber(t *testing.T) {
	i, other := newIDs(), newIDs()
	a, _ := i.handshake(7, 1)
	b, _ := i.handshake(7, 0)
	c, _ := i.handshake(8, 1)
	d, _ := other.handshake(7, 1)
	if a != b || a.Trace == c.Trace || a.Trace == d.Trace || a.Span == c.Span {
		t.Error(a, b, c, d)
	}
}
