package daemon

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"padlock/console"
	"padlock/internal/servicetest"
)

// metrics are what a scrape brings.
type metrics map[string]*dto.MetricFamily

func (r *running) scrape(t *testing.T) (metrics, []byte) {
	t.Helper()
	response, err := http.Get(r.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != 200 || !strings.HasPrefix(response.Header.Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatalf("%s %v\n%s", response.Status, err, text)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	found, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return found, text
}

// value adds up the samples of a metric whose labels have these values; of a histogram it is the count.
func (m metrics) value(name string, labels ...string) (sum float64) {
	family := m[name]
	for _, sample := range family.GetMetric() {
		have := map[string]string{}
		for _, l := range sample.Label {
			have[l.GetName()] = l.GetValue()
		}
		matches := true
		for i := 0; i < len(labels); i += 2 {
			matches = matches && have[labels[i]] == labels[i+1]
		}
		switch {
		case !matches:
		case family.GetType() == dto.MetricType_HISTOGRAM:
			sum += float64(sample.Histogram.GetSampleCount())
		case family.GetType() == dto.MetricType_COUNTER:
			sum += sample.Counter.GetValue()
		default:
			sum += sample.Gauge.GetValue()
		}
	}
	return sum
}

// values are those that a label takes.
func (m metrics) values(name, label string) []string {
	all := map[string]bool{}
	for _, sample := range m[name].GetMetric() {
		for _, l := range sample.Label {
			if l.GetName() == label {
				all[l.GetValue()] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

const metricsFile = `
listen: {https: ["127.0.0.1:0"], http: []}
admin: 127.0.0.1:0
storage: STORAGE
access_log: {format: "off"}
handshakes: {format: line}
tracing: {endpoint: "http://127.0.0.1:1", sample: 0}
sites:
  - hosts: [localhost]
    routes:
      - {path: /, to: %q}
      - {path: /dead, to: "http://127.0.0.1:1", passive_health: {cooldown: 10m}}
  - hosts: [tcp.localhost]
    tcp: {to: [%q]}
  - hosts: [tls13.localhost]
    routes: [{respond: {body: fixed, status: 203}}]
  - hosts: [mutual.localhost]
    tls: {client_auth: {mode: require, ca: %q, crl: %q}}
`

// exercised is a padlock that has met clients of many kinds, good and bad.
func exercised(t *testing.T) *running {
	t.Helper()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/missing" {
			w.WriteHeader(404)
		}
		_, _ = io.Copy(w, r.Body)
	}))
	t.Cleanup(app.Close)
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { echo.Close() })
	go func() {
		for c, err := echo.Accept(); err == nil; c, err = echo.Accept() {
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	ca, list := servicetest.ClientCA(t)
	bundle, revoked := filepath.Join(t.TempDir(), "clients.pem"), filepath.Join(t.TempDir(), "revoked.crl")
	if err := errors.Join(os.WriteFile(bundle, ca, 0o600), os.WriteFile(revoked, list, 0o600)); err != nil {
		t.Fatal(err)
	}
	r := runFile(t, fmt.Sprintf(metricsFile, app.URL, echo.Addr(), bundle, revoked))
	for _, client := range []*http.Client{r.client(false, nil), r.client(true, nil), r.three(t)} {
		for path, want := range map[string]int{"/": 200, "/missing": 404, "/dead": 502} {
			response, err := client.Post("https://localhost"+path, "text/plain", strings.NewReader("content"))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, response.Body)
			response.Body.Close()
			if response.StatusCode != want {
				t.Errorf("%s: %d", path, response.StatusCode)
			}
		}
	}
	remembered := tls.NewLRUClientSessionCache(4)
	for range 2 { // the second resumes
		r.visit(t, func(c *tls.Config) { c.ClientSessionCache = remembered })
	}
	r.visit(t, func(c *tls.Config) {
		c.MaxVersion, c.CurvePreferences = tls.VersionTLS12, []tls.CurveID{tls.CurveP256}
	})
	r.visit(t, func(c *tls.Config) { c.ServerName = "tcp.localhost" })
	for _, bad := range []func(*tls.Config){
		func(c *tls.Config) { c.RootCAs = x509.NewCertPool() },
		func(c *tls.Config) { c.ServerName = "unknown.example" },
		func(c *tls.Config) { c.NextProtos = []string{"spdy/3"} },
		func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 },
	} {
		c := r.tls()
		bad(c)
		if conn, err := tls.Dial("tcp", r.address, c); err == nil {
			conn.Close()
			t.Error("a bad client was let in")
		}
	}
	silent, err := tls.Dial("tcp", r.address, r.tls())
	if err != nil {
		t.Fatal(err)
	}
	silent.Close()
	for _, text := range []string{"", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x00\x01\x02\x03\x04"} {
		r.say(t, []byte(text))
	}
	return r
}

func (r *running) client(two bool, change func(*tls.Config)) *http.Client {
	c := r.tls()
	if change != nil {
		change(c)
	}
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: c, ForceAttemptHTTP2: two, DisableKeepAlives: !two,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", r.address)
		},
	}}
}

func (r *running) three(t *testing.T) *http.Client {
	t.Helper()
	transport := &http3.Transport{TLSClientConfig: r.tls(), Dial: func(ctx context.Context, _ string, c *tls.Config, q *quic.Config) (*quic.Conn, error) {
		return quic.DialAddr(ctx, r.address, c, servicetest.Patient(q))
	}}
	t.Cleanup(func() { transport.Close() })
	return &http.Client{Transport: transport}
}

// visit sends a request by a connection of its own, and reads until the end.
func (r *running) visit(t *testing.T, change func(*tls.Config)) {
	t.Helper()
	c := r.tls()
	change(c)
	conn, err := tls.Dial("tcp", r.address, c)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	_ = conn.CloseWrite()
	if text, err := io.ReadAll(conn); err != nil || len(text) == 0 {
		t.Fatalf("%q, %v", text, err)
	}
}

// say sends bytes that are no good handshake, and waits until padlock has had enough of them.
func (r *running) say(t *testing.T, text []byte) {
	t.Helper()
	conn, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = conn.Write(text)
	_ = conn.(*net.TCPConn).CloseWrite()
	_, _ = io.Copy(io.Discard, conn)
}

// Everything that is promised is there after clients of every kind: the numbers are those of what has happened, and nothing counts twice.
func TestMetricsTellWhatHasHappened(t *testing.T) {
	r := exercised(t)
	type sample struct {
		name   string
		want   float64
		labels []string
	}
	var wrong error
	servicetest.Until(t, func() error {
		m, _ := r.scrape(t)
		wrong = nil
		for _, s := range []sample{
			{"padlock_handshakes_total", 1, []string{"outcome", "complete", "version", "1.3", "group", "X25519MLKEM768", "resumed", "false", "transport", "quic"}},
			{"padlock_handshakes_total", 1, []string{"outcome", "complete", "version", "1.3", "resumed", "true", "transport", "tcp"}},
			{"padlock_handshakes_total", 1, []string{"outcome", "complete", "version", "1.2", "group", "secp256r1"}},
			{"padlock_handshakes_total", 1, []string{"outcome", "silent", "version", "1.3"}},
			{"padlock_handshakes_total", 5, []string{"outcome", "failed"}},
			{"padlock_handshakes_total", 4, []string{"outcome", "failed", "version", "none", "group", "none"}},
			{"padlock_handshakes_total", 4, []string{"outcome", "not_tls"}},
			{"padlock_handshakes_total", 9, []string{"outcome", "complete"}},
			{"padlock_handshake_failures_total", 1, []string{"by", "client", "stage", "finished", "alert", "bad_certificate"}},
			{"padlock_handshake_failures_total", 1, []string{"by", "server", "stage", "client_hello", "alert", "unrecognized_name", "cause", "no certificate for the name that the client asked for"}},
			{"padlock_handshake_failures_total", 1, []string{"by", "server", "alert", "no_application_protocol"}},
			{"padlock_handshake_failures_total", 1, []string{"by", "server", "alert", "protocol_version"}},
			{"padlock_handshake_failures_total", 10, nil},
			{"padlock_handshake_noise_total", 1, []string{"kind", "scan"}},
			{"padlock_handshake_noise_total", 1, []string{"kind", "http"}},
			{"padlock_handshake_noise_total", 1, []string{"kind", "ssh"}},
			{"padlock_handshake_noise_total", 1, []string{"kind", "h2c"}},
			{"padlock_handshake_noise_total", 1, []string{"kind", "unknown"}},
			{"padlock_handshake_duration_seconds", 9, nil},
			{"padlock_handshake_stage_seconds", 8, []string{"stage", "client"}}, // inside QUIC it cannot be told
			{"padlock_requests_total", 4, []string{"site", "localhost", "protocol", "h1", "status", "200"}},
			{"padlock_requests_total", 1, []string{"site", "localhost", "protocol", "h2", "status", "404"}},
			{"padlock_requests_total", 1, []string{"site", "localhost", "protocol", "h3", "status", "502"}},
			{"padlock_requests_total", 1, []string{"site", "tcp.localhost", "protocol", "tcp"}},
			{"padlock_request_duration_seconds", 12, []string{"site", "localhost"}},
			{"padlock_request_bytes_total", 7 * 6, []string{"site", "localhost"}},
			{"padlock_upstream_requests_total", 3, []string{"target", "http://127.0.0.1:1", "result", "failed"}},
			{"padlock_upstream_up", 1, []string{"target", "http://127.0.0.1:1"}},
			{"padlock_upstream_ejected", 1, []string{"target", "http://127.0.0.1:1"}},
			{"padlock_upstream_open_requests", 0, nil},
			{"padlock_dropped_total", 0, nil},
			{"padlock_certificate_expiring", 0, nil},
			{"padlock_build_info", 1, nil},
		} {
			if got := m.value(s.name, s.labels...); got != s.want && wrong == nil {
				wrong = fmt.Errorf("%s %v is %v, not %v", s.name, s.labels, got, s.want)
			}
		}
		return wrong
	})
	m, text := r.scrape(t)
	if got := m.values("padlock_dropped_total", "queue"); !slices.Equal(got, []string{"access_log", "console", "handshakes", "traces"}) {
		t.Errorf("queues %q", got)
	}
	if m.value("padlock_certificate_not_after_timestamp_seconds") < 1.7e9 {
		t.Error("no certificate's end is told")
	}
	for _, name := range []string{"go_goroutines", "go_memstats_heap_alloc_bytes", "process_open_fds", "process_resident_memory_bytes", "process_cpu_seconds_total"} {
		if m[name] == nil {
			t.Errorf("%s is missing", name)
		}
	}
	problems, err := promlint.New(bytes.NewReader(text)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	maps.Copy(m, renewals(t))
	tellsAll(t, m)
}

// renewals are told of certificates from CAs only, and files only if they cannot be used.
func renewals(t *testing.T) metrics {
	t.Helper()
	due := time.Now()
	admin := console.NewAdmin(console.Options{
		Metrics: console.NewMetrics(testVersion), Certificates: func() []console.Certificate { return []console.Certificate{{Renewal: &due}} },
		UnusableFiles: func() []string { return []string{"broken.pem"} },
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- admin.Serve(ctx, l, console.Guard{Network: "tcp"}) }()
	defer func() { cancel(); <-ended }()
	m, _ := (&running{admin: "http://" + l.Addr().String()}).scrape(t)
	const renewal, file = "padlock_certificate_renewal_timestamp_seconds", "padlock_certificate_file_unusable"
	return metrics{renewal: m[renewal], file: m[file]}
}

const metricsDocs = "../docs/metrics.md"

// tellsAll holds the table in the documentation to what a scrape brings. UPDATE_DOCS=1 writes it.
func tellsAll(t *testing.T, m metrics) {
	t.Helper()
	table := "| metric | kind | labels | what |\n|---|---|---|---|\n"
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if !strings.HasPrefix(name, "padlock_") {
			continue
		}
		labels := map[string]bool{}
		for _, sample := range m[name].Metric {
			for _, l := range sample.Label {
				labels["`"+l.GetName()+"`"] = true
			}
		}
		table += fmt.Sprintf("| `%s` | %s | %s | %s |\n", name, strings.ToLower(m[name].GetType().String()), strings.Join(slices.Sorted(maps.Keys(labels)), ", "), m[name].GetHelp())
	}
	file, err := os.ReadFile(metricsDocs)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- made by go test ./daemon -->\n", "<!-- until here -->"
	before, rest, ok := strings.Cut(string(file), begin)
	old, after, ok2 := strings.Cut(rest, end)
	switch {
	case !ok || !ok2:
		t.Errorf("%s has no place for the table", metricsDocs)
	case old == table:
	case os.Getenv("UPDATE_DOCS") == "1":
		if err := os.WriteFile(metricsDocs, []byte(before+begin+table+end+after), 0o600); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s is not up to date: UPDATE_DOCS=1 go test ./daemon", metricsDocs)
	}
}

// What was counted stays counted when the file is read again.
func TestCountersSurviveAReload(t *testing.T) {
	const file = "listen: {https: [\"127.0.0.1:0\"], http: []}\nadmin: 127.0.0.1:0\nstorage: STORAGE\nhandshakes: {format: line}\nsites: [{hosts: [localhost], routes: [{respond: {body: %s}}]}]\n"
	r := runFile(t, fmt.Sprintf(file, "one"))
	names := []string{"padlock_handshakes_total", "padlock_requests_total", "padlock_response_bytes_total", "padlock_request_duration_seconds", "padlock_handshake_duration_seconds"}
	visits := 0.0
	visit := func() {
		r.visit(t, func(*tls.Config) {})
		visits++
	}
	told := func() error {
		m, _ := r.scrape(t)
		for _, name := range names {
			want := visits
			if name == "padlock_response_bytes_total" {
				want *= 3
			}
			if got := m.value(name); got != want {
				return fmt.Errorf("%s is %v, not %v", name, got, want)
			}
		}
		return nil
	}
	visit()
	servicetest.Until(t, told)
	for _, body := range []string{"two", "six"} {
		r.write(t, fmt.Sprintf(file, body))
		r.reload(t)
		if err := told(); err != nil {
			t.Errorf("after a reload %v", err)
		}
		visit()
		servicetest.Until(t, told)
	}
}
