package console

import (
	"cmp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"padlock/traffic"
)

// Every metric that was renamed has the same samples under both names, and labels of the old one have the values that they had.
func TestRenamedMetricsAreExportedUnderBothNames(t *testing.T) {
	counts := traffic.Counts{LogDropped: 3, Targets: []traffic.TargetCount{{Name: "a:1", Ejected: true}, {Name: "b:1", Healthy: true}}}
	for reason := range counts.Rejected {
		counts.Rejected[reason] = uint64(reason) + 1
	}
	var took traffic.Histogram
	took.Observe(20 * time.Millisecond)
	counts.Targets[0].ResponseHeader = took.Distribution()

	all := make(chan prometheus.Metric, 1000)
	view{NewAdmin(Options{Metrics: NewMetrics("1.2.3"), Traffic: func() traffic.Counts { return counts }})}.Collect(all)
	close(all)
	samples := map[*prometheus.Desc][]string{}
	for metric := range all {
		var sample dto.Metric
		if err := metric.Write(&sample); err != nil {
			t.Fatal(err)
		}
		for _, l := range sample.Label {
			if _, was := formerly[metric.Desc()]; was {
				l.Value = new(cmp.Or(formerLabels[l.GetValue()], l.GetValue()))
			}
		}
		samples[metric.Desc()] = append(samples[metric.Desc()], sample.String())
	}
	for now, was := range formerly {
		if len(samples[now]) == 0 || !slices.Equal(samples[now], samples[was]) {
			t.Errorf("%s\n%s\nand %s\n%s", now, strings.Join(samples[now], "\n"), was, strings.Join(samples[was], "\n"))
		}
	}
	if old := strings.Join(samples[formerly[rejectedDesc]], "\n"); !strings.Contains(old, `"slow_head"`) || !strings.Contains(old, `"frames"`) || !strings.Contains(old, `"head_size"`) {
		t.Error(old)
	}
}
