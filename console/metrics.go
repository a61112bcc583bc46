package console

import (
	"cmp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"padlock/handshake"
	"padlock/handshake/wire"
	"padlock/traffic"
)

// Metrics is what padlock counts, as Prometheus reads it. It is a handshake.Sink. Every label has few values: names
// of clients are in none, and names of sites, targets and certificates are those of the configuration.
type Metrics struct {
	registry   *prometheus.Registry
	handshakes *prometheus.CounterVec
	failures   *prometheus.CounterVec
	duration   prometheus.Histogram
	stages     *prometheus.HistogramVec
	noise      *prometheus.CounterVec
}

var handshakeBounds = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// NewMetrics counts from now on.
func NewMetrics(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		handshakes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "padlock_handshakes_total", Help: "Finished TLS handshakes, by outcome and negotiated parameters.",
		}, []string{"outcome", "version", "group", "resumed", "transport"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "padlock_handshake_failures_total", Help: "Failed TLS handshakes, by who ended them, last stage, alert and cause.",
		}, []string{"by", "stage", "alert", "cause"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "padlock_handshake_duration_seconds", Help: "Duration of complete handshakes, from the accepted connection to Finished in both directions.", Buckets: handshakeBounds,
		}),
		stages: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "padlock_handshake_stage_seconds", Help: "Duration of the parts of complete handshakes.", Buckets: handshakeBounds,
		}, []string{"stage"}),
		noise: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "padlock_handshake_noise_total", Help: "Connections without a TLS handshake: scans, health checks, other protocols.",
		}, []string{"kind"}),
	}

	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "padlock_build_info", Help: "Always 1; the labels are the versions.", ConstLabels: prometheus.Labels{"version": version, "go": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(m.handshakes, m.failures, m.duration, m.stages, m.noise, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handshake implements handshake.Sink.
func (m *Metrics) Handshake(e *handshake.Event) {
	version, transport := "none", "tcp"
	if e.Version != 0 {
		version = wire.VersionName(e.Version)
	}
	if e.QUIC {
		transport = "quic"
	}

	m.handshakes.WithLabelValues(string(e.Outcome), version, cmp.Or(e.Group, "none"), strconv.FormatBool(e.Resumed), transport).Inc()
	if e.Noise != "" {
		m.noise.WithLabelValues(e.Noise).Inc()
	}

	if f := e.Failure; f != nil && e.Noise != "spare" {
		m.failures.WithLabelValues(string(f.By), known(f.Stage, "message_"), known(cmp.Or(f.AlertName, "none"), "alert_"), f.Kind).Inc()
	}
	if e.Outcome != handshake.Complete || e.Validation {
		return
	}

	m.duration.Observe(e.Duration.Seconds())
	for _, part := range [...]struct {
		name string
		took time.Duration
	}{
		{"key_exchange", e.Timings.KeyExchange}, {"key_schedule", e.Timings.KeySchedule}, {"signing", e.Timings.Signing}, {"client", e.Timings.Client},
	} {
		if part.took != 0 {
			m.stages.WithLabelValues(part.name).Observe(part.took.Seconds())
		}
	}
}

// known keeps what has no name but a number, which is a client's to choose, from being values of its own.
func known(name, numbered string) string {
	if strings.HasPrefix(name, numbered) {
		return "other"
	}
	return name
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("padlock_"+name, help, labels, nil)
}

var (
	requestsDesc    = describe("requests_total", "Finished requests, and finished connections of TCP sites. Status 0 means none, or one of too many kinds.", "site", "protocol", "status")
	requestTime     = describe("request_duration_seconds", "Duration of requests, from the request header to the end of the response.", "site")
	bytesInDesc     = describe("request_bytes_total", "Bytes of request bodies.", "site")
	bytesOutDesc    = describe("response_bytes_total", "Bytes of response bodies.", "site")
	connectionsDesc = describe("connections_open", "Open client connections.")

	rejectedDesc = describe("clients_rejected_total", "Clients that were disconnected, refused or delayed because of their behavior, by reason.", "reason")

	targetUp       = describe("upstream_up", "1 while the target is healthy, or has no health checks.", "target")
	targetEjected  = describe("upstream_ejected", "1 while the target is ejected because of failed requests.", "target")
	targetOpen     = describe("upstream_open_requests", "Open requests to the target.", "target")
	targetRequests = describe("upstream_requests_total", "Requests sent to the target, by result.", "target", "result")
	targetTime     = describe("upstream_response_header_seconds", "Time from sending a request to the header of the response.", "target")

	unusableDesc = describe("trust_file_unusable", "1 while a file that the configuration names is unusable: CAs, revocation lists, client certificates, users, API keys, keys of tokens, error pages. Its previous content stays in effect; clients of a CA whose list has expired are refused.", "file")
	listEndDesc  = describe("revocation_list_expires_timestamp_seconds", "Expiry of the revocation list, as Unix time. After that all clients of its CA are refused.", "file", "issuer")

	droppedDesc = describe("dropped_total", "Dropped handshake records, access log lines, console events and trace spans: they arrived faster than they could be written, or could not be written.", "queue")

	notAfterDesc  = describe("certificate_not_after_timestamp_seconds", "Expiry of the certificate, as Unix time.", "name", "key_type", "issuer")
	renewalDesc   = describe("certificate_renewal_timestamp_seconds", "Time of the next renewal, as Unix time.", "name", "key_type", "issuer")
	failingDesc   = describe("certificate_failing", "1 if the last check or renewal of the certificate failed.", "name", "key_type", "issuer")
	expiringDesc  = describe("certificate_expiring", "1 if the certificate has expired, or is in the last third of its lifetime and cannot be renewed.", "name", "key_type", "issuer")
	unusableFile  = describe("certificate_file_unusable", "1 while a certificate file is unusable. padlock keeps serving its previous content and all other files.", "file")
	onDemandCount = describe("certificates_on_demand", "On-demand names in memory.")
	onDemandBad   = describe("certificates_on_demand_expiring", "On-demand names whose certificate has expired, could not be obtained, or is in the last third of its lifetime and cannot be renewed.")
)

// formerly are names that metrics had in the release before. They are exported beside the present ones for one release.
var formerly = map[*prometheus.Desc]*prometheus.Desc{
	rejectedDesc:  describe("cuts_total", "Now padlock_clients_rejected_total.", "reason"),
	droppedDesc:   describe("lost_total", "Now padlock_dropped_total.", "queue"),
	targetEjected: describe("upstream_left_out", "Now padlock_upstream_ejected.", "target"),
	targetTime:    describe("upstream_answer_seconds", "Now padlock_upstream_response_header_seconds.", "target"),
}

// formerLabels are values that labels of these metrics had.
var formerLabels = map[string]string{
	traffic.SlowHeader.String(): "slow_head", traffic.NoopFrames.String(): "frames", traffic.HeaderSize.String(): "head_size",
}

// exporter sends metrics, each under the name that it had before too.
type exporter chan<- prometheus.Metric

func (out exporter) gauge(d *prometheus.Desc, value float64, labels ...string) {
	out.send(d, labels, func(d *prometheus.Desc, labels []string) prometheus.Metric {
		return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	})
}

func (out exporter) counter(d *prometheus.Desc, value uint64, labels ...string) {
	out.send(d, labels, func(d *prometheus.Desc, labels []string) prometheus.Metric {
		return prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
	})
}

func (out exporter) histogram(d *prometheus.Desc, from *traffic.Distribution, labels ...string) {
	buckets, sum := map[float64]uint64{}, uint64(0)
	for i, bound := range traffic.Bounds {
		// A bucket of Prometheus counts all that lies below its bound.
		sum += from.Buckets[i]
		buckets[bound] = sum
	}
	out.send(d, labels, func(d *prometheus.Desc, labels []string) prometheus.Metric {
		return prometheus.MustNewConstHistogram(d, from.Count, from.Sum.Seconds(), buckets, labels...)
	})
}

func (out exporter) send(d *prometheus.Desc, labels []string, metric func(*prometheus.Desc, []string) prometheus.Metric) {
	out <- metric(d, labels)
	was, renamed := formerly[d]
	if !renamed {
		return
	}

	labels = slices.Clone(labels)
	for i, label := range labels {
		labels[i] = cmp.Or(formerLabels[label], label)
	}
	out <- metric(was, labels)
}

// view collects what is counted elsewhere.
type view struct{ a *Admin }

// Describe implements prometheus.Collector; without a word the collector is unchecked.
func (v view) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (v view) Collect(metrics chan<- prometheus.Metric) {
	out := exporter(metrics)
	for _, l := range v.a.dropped() {
		out.counter(droppedDesc, l.Count, l.Queue)
	}

	if v.a.o.Traffic != nil {
		out.traffic(v.a.o.Traffic())
	}

	if v.a.o.UnusableFiles != nil {
		for _, file := range v.a.o.UnusableFiles() {
			out.gauge(unusableFile, 1, file)
		}
	}

	if v.a.o.Certificates != nil {
		out.certificates(v.a.o.Certificates())
	}
}

func (out exporter) traffic(t traffic.Counts) {
	out.gauge(connectionsDesc, float64(t.Connections))
	for reason, n := range t.Rejected {
		out.counter(rejectedDesc, n, traffic.Reason(reason).String())
	}

	judges(t.Trust, out)
	for _, s := range t.Sites {
		for _, a := range s.Answers {
			out.counter(requestsDesc, a.Count, s.Name, a.Protocol.String(), strconv.Itoa(a.Status))
		}
		out.histogram(requestTime, &s.Took, s.Name)
		out.counter(bytesInDesc, s.BytesIn, s.Name)
		out.counter(bytesOutDesc, s.BytesOut, s.Name)
	}

	for _, target := range t.Targets {
		out.gauge(targetUp, one(target.Healthy), target.Name)
		out.gauge(targetEjected, one(target.Ejected), target.Name)
		out.gauge(targetOpen, float64(target.Open), target.Name)
		out.counter(targetRequests, target.Requests-target.Failed, target.Name, "answered")
		out.counter(targetRequests, target.Failed, target.Name, "failed")
		out.histogram(targetTime, &target.ResponseHeader, target.Name)
	}
}

func (out exporter) certificates(all []Certificate) {
	onDemand, bad := 0, 0
	var listed []Certificate
	for _, c := range all {
		switch {
		// The local CA makes its leaves by itself; their names are clients' to choose.
		case c.Source == "local" && len(c.DER) > 0:
		case !c.OnDemand:
			listed = append(listed, c)
		case c.Expiring:
			bad++
			fallthrough
		default:
			// Names on demand are counted only: clients choose them, and each would be a series of its own.
			onDemand++
		}
	}

	for _, c := range latest(listed) {
		labels := []string{c.Name, c.KeyType, c.Issuer}
		if c.NotAfter != nil {
			out.gauge(notAfterDesc, float64(c.NotAfter.Unix()), labels...)
		}
		if c.Renewal != nil {
			out.gauge(renewalDesc, float64(c.Renewal.Unix()), labels...)
		}

		out.gauge(failingDesc, one(c.Error != ""), labels...)
		out.gauge(expiringDesc, one(c.Expiring), labels...)
	}

	out.gauge(onDemandCount, float64(onDemand))
	out.gauge(onDemandBad, float64(bad))
}

// judges exports files that clients and targets are judged by; those with several lists, or several reasons, are one.
func judges(t traffic.Trust, out exporter) {
	unusable := map[string]bool{}
	for _, f := range t.Unusable {
		if !unusable[f.File] {
			out.gauge(unusableDesc, 1, f.File)
		}
		unusable[f.File] = true
	}

	type list struct{ file, issuer string }
	ends := map[list]time.Time{}
	for _, l := range t.Lists {
		name := list{l.File, l.Issuer}
		if end, known := ends[name]; !l.Expires.IsZero() && (!known || l.Expires.Before(end)) {
			ends[name] = l.Expires
		}

		if !unusable[l.File] {
			out.gauge(unusableDesc, 0, l.File)
			unusable[l.File] = true
		}
	}

	for name, end := range ends {
		out.gauge(listEndDesc, float64(end.Unix()), name.file, name.issuer)
	}
}

// latest leaves of certificates with the same labels the one that expires last: two files may have a certificate each
// for one name, and series that are there twice would leave nothing of the others.
func latest(all []Certificate) []Certificate {
	type labels struct{ name, keyType, issuer string }
	places := map[labels]int{}
	var kept []Certificate
	for _, c := range all {
		key := labels{c.Name, c.KeyType, c.Issuer}
		at, known := places[key]
		switch {
		case !known:
			places[key] = len(kept)
			kept = append(kept, c)
		case c.NotAfter != nil && (kept[at].NotAfter == nil || c.NotAfter.After(*kept[at].NotAfter)):
			kept[at] = c
		}
	}

	return kept
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
