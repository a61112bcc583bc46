package hint

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

// The outermost hint counts, wherever in an error it stands, and hides nothing of it.
func TestTheOutermostHintCounts(t *testing.T) {
	inner := Add(io.EOF, "inner")
	for want, err := range map[string]error{
		"":      io.EOF,
		"inner": fmt.Errorf("reading: %w", inner),
		"outer": Add(inner, "outer"),
	} {
		if got := Of(errors.Join(errors.New("another"), err)); got != want || !errors.Is(err, io.EOF) {
			t.Errorf("%v: %q, not %q", err, got, want)
		}
	}
}
