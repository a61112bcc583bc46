package handshake

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

type counting struct{ told []string }

func (c *counting) Handshake(e *Event) { c.told = append(c.told, e.Remote+" "+e.Noise) }

func TestNoiseIsCountedBySourceAndFailuresAreLimited(t *testing.T) {
	var next counting
	var text bytes.Buffer
	now := time.Unix(0, 0)
	q := NewNoiseFilter(&next, NoiseOptions{
		Every: time.Hour, PerSource: 2, Total: 3, Sample: 10, Clock: func() time.Time { return now },
		Dropped: func() uint64 { return 7 }, Summary: SummaryText(&text),
	})
	tell := func(n int, e Event) {
		for range n {
			q.Handshake(&e)
		}
	}
	tell(57, Event{Remote: "192.0.2.1:1", Outcome: Failed, Noise: "scan"})
	tell(3, Event{Remote: "192.0.2.1:1", Outcome: NotTLS, Noise: "http"})
	tell(5, Event{Remote: "192.0.2.2:1", Outcome: Failed})
	tell(5, Event{Remote: "192.0.2.3:1", Outcome: Failed})
	tell(30, Event{Remote: "192.0.2.4:1", Outcome: Complete})
	now = now.Add(time.Minute)
	q.Close()
	counts := map[string]int{}
	for _, told := range next.told {
		counts[told]++
	}
	for told, want := range map[string]int{"192.0.2.1:1 scan": 0, "192.0.2.1:1 http": 1, "192.0.2.2:1 ": 2, "192.0.2.3:1 ": 1, "192.0.2.4:1 ": 3} {
		if counts[told] != want {
			t.Errorf("%q was told %d times, not %d", told, counts[told], want)
		}
	}
	for _, want := range []string{
		"192.0.2.1: 57 × connected and left without a byte (health check or port scan) in the last 1m0s",
		"192.0.2.1: 2 × plain HTTP on a TLS port", "192.0.2.2: 3 × failed", "192.0.2.3: 4 × failed", "others: 7 × lost",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is missing in\n%s", want, text.String())
		}
	}
}

// Somebody who tries again after a while sees that it fails again; who goes on without a pause is summed up.
func TestNoiseIsToldAgainAfterSilence(t *testing.T) {
	var next counting
	now := time.Unix(0, 0)
	q := NewNoiseFilter(&next, NoiseOptions{Clock: func() time.Time { return now }})
	defer q.Close()
	for _, pause := range []time.Duration{0, time.Second, 59 * time.Second, 61 * time.Second, time.Second} {
		now = now.Add(pause)
		q.Handshake(&Event{Remote: "192.0.2.1:1", Outcome: NotTLS, Noise: "http"})
	}
	if len(next.told) != 2 {
		t.Errorf("told %d times, not at the first and at the fourth", len(next.told))
	}
}

// Any number of sources takes a bounded amount of memory and of lines.
func TestManySourcesAreSummedUpTogether(t *testing.T) {
	var text bytes.Buffer
	q := NewNoiseFilter(&counting{}, NoiseOptions{Every: time.Hour, Summary: SummaryText(&text)})
	for i := range 100_000 {
		q.Handshake(&Event{Remote: fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255), Noise: "scan", Outcome: Failed})
	}
	if len(q.held) > maxSources+1 {
		t.Errorf("%d sources are held", len(q.held))
	}
	q.Close()
	if lines := strings.Count(text.String(), "\n"); lines > maxSummary+1 {
		t.Errorf("%d lines", lines)
	}
}
