package proxy

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"padlock/traffic"
)

func TestAFileThatCannotBeUsedIsToldUntilItIsCorrected(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	r := reminder{log: slog.New(slog.NewTextHandler(&log, nil)), every: time.Hour}
	start := time.Now()
	bad := traffic.Trust{Unusable: []traffic.TrustFile{{File: "a.crl", Reason: "cut short"}, {File: "b.crl", Reason: "expired"}}}
	for _, step := range []struct {
		after        time.Duration
		trust        traffic.Trust
		lines, again int
	}{
		{0, traffic.Trust{}, 0, 0}, {time.Second, bad, 2, 0}, {2 * time.Second, bad, 0, 0}, {59 * time.Minute, bad, 0, 0}, {61 * time.Minute, bad, 2, 0}, {62 * time.Minute, bad, 0, 0},
		{63 * time.Minute, traffic.Trust{Unusable: []traffic.TrustFile{{File: "a.crl", Reason: "cut shorter"}}}, 1, 1}, {64 * time.Minute, traffic.Trust{}, 0, 1}, {65 * time.Minute, bad, 2, 0},
	} {
		log.Reset()
		r.remind(step.trust, start.Add(step.after))
		if bad, again := strings.Count(log.String(), "cannot be used"), strings.Count(log.String(), "can be used again"); bad != step.lines || again != step.again {
			t.Errorf("after %s:\n%s", step.after, log.String())
		}
	}
}
