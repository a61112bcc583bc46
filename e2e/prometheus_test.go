//go:build e2e

package e2e

//lint:file-ignore SA1019 Grafana 10 and 11 import this schema, and later ones still do.

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/piechart"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
	"github.com/quic-go/quic-go/http3"
	"padlock/internal/servicetest"
)

const prometheusExample = "prometheus"

// Prometheus' own tool takes the rules, and its unit tests of them show when each of them fires.
func TestThePrometheusRulesFireWhenTheyShould(t *testing.T) {
	besides(t)
	dir := example(t, prometheusExample)
	for _, args := range [][]string{{"check", "config", "prometheus.yml"}, {"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
		c := exec.Command(need(t, "promtool"), args...)
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	rules, err := os.ReadFile(filepath.Join(dir, "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile(filepath.Join(dir, "alerts_test.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, alert := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(rules), -1) {
		if !regexp.MustCompile(`alertname: ` + alert[1] + `\n +exp_alerts:\n`).Match(tests) {
			t.Errorf("no test has %s fire", alert[1])
		}
	}
	known, err := os.ReadFile(filepath.Join("..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range regexp.MustCompile(`padlock_\w+`).FindAllString(string(rules), -1) {
		if !strings.Contains(string(known), "| `"+name+"` |") {
			t.Errorf("a rule asks for %s, which padlock does not have", name)
		}
	}
}

// A real Prometheus reads the metrics of a real padlock; the rules are evaluated, and every panel of the dashboard shows something.
func TestPrometheusReadsMetricsAndTheDashboardShowsThem(t *testing.T) {
	besides(t)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/fail" {
			w.WriteHeader(500)
		}
		_, _ = io.WriteString(w, "hello")
	}))
	defer app.Close()
	_, appPort, _ := net.SplitHostPort(app.Listener.Addr().String())
	adminPort := freePort(t)
	dir := example(t, prometheusExample)
	p := startFile(t, dir, "APP_PORT="+appPort, "ADMIN_PORT="+adminPort)
	visit := visitsOfEveryKind(t, p)
	visit()
	metrics, err := http.Get("http://127.0.0.1:" + adminPort + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	check := exec.Command(need(t, "promtool"), "check", "metrics")
	check.Stdin = metrics.Body
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
	metrics.Body.Close()
	server := startPrometheus(t, dir, adminPort)
	for _, expression := range expressions(t) {
		eventually(t, func() (string, error) {
			visit()
			values, err := server.query(expression)
			if err == nil && values == 0 {
				err = fmt.Errorf("shows nothing: %s", expression)
			}
			return "", err
		})
	}
	var rules struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, State string }
			}
		}
	}
	server.get(t, "/api/v1/rules", &rules)
	if len(rules.Data.Groups) != 1 || len(rules.Data.Groups[0].Rules) < 12 {
		t.Fatalf("%+v", rules)
	}
	for _, rule := range rules.Data.Groups[0].Rules {
		if rule.Health != "ok" {
			t.Errorf("%s is %s", rule.Name, rule.Health)
		}
	}
	for label, metric := range map[string]string{"instance": "padlock_build_info", "site": "padlock_requests_total"} {
		var values struct{ Data []string }
		server.get(t, "/api/v1/label/"+label+"/values?match[]="+metric, &values)
		if len(values.Data) == 0 {
			t.Errorf("nothing to choose for %s", label)
		}
	}
}

// visitsOfEveryKind returns what has clients of every kind come once: by HTTP/1.1, 2 and 3, one that is answered 500, one that does not trust the
// certificate, and one that does not speak TLS.
func visitsOfEveryKind(t *testing.T, p *padlock) func() {
	t.Helper()
	pem, err := os.ReadFile(p.root(t))
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		t.Fatal(err)
	}
	u, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	address := "127.0.0.1:" + u.Port()
	good := &tls.Config{RootCAs: roots, ServerName: u.Hostname()}
	return func() {
		var transports []http.RoundTripper
		for _, two := range []bool{false, true} {
			transports = append(transports, &http.Transport{TLSClientConfig: good.Clone(), ForceAttemptHTTP2: two, DisableKeepAlives: true})
		}
		three := &http3.Transport{TLSClientConfig: good.Clone(), QUICConfig: servicetest.Patient(nil)}
		defer three.Close()
		for _, transport := range append(transports, three) {
			for _, path := range []string{"/", "/fail"} {
				request, _ := http.NewRequest("POST", "https://"+address+path, strings.NewReader("content"))
				request.Host = u.Host
				response, err := (&http.Client{Transport: transport, Timeout: 20 * time.Second}).Do(request)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, response.Body)
				response.Body.Close()
			}
		}
		if conn, err := tls.Dial("tcp", address, &tls.Config{ServerName: u.Hostname()}); err == nil {
			conn.Close()
			t.Error("a client without the CA was content")
		}
		if response, err := http.Get("http://" + address); err == nil {
			response.Body.Close()
		}
	}
}

// prometheusServer is a running Prometheus.
type prometheusServer struct{ url string }

func startPrometheus(t *testing.T, dir, adminPort string) *prometheusServer {
	t.Helper()
	file := filepath.Join(dir, "prometheus.yml")
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.NewReplacer("127.0.0.1:2020", "127.0.0.1:"+adminPort, "15s", "1s").Replace(string(content))
	if changed == string(content) {
		t.Fatal("the example reads another address than padlock's")
	}
	if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	address := "127.0.0.1:" + freePort(t)
	c := exec.Command(need(t, "prometheus"), "--config.file", file, "--storage.tsdb.path", t.TempDir(), "--web.listen-address", address, "--log.level", "warn")
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Signal(syscall.SIGTERM); _ = c.Wait() })
	return &prometheusServer{"http://" + address}
}

func (p *prometheusServer) get(t *testing.T, path string, into any) {
	t.Helper()
	response, err := http.Get(p.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		t.Fatal(err)
	}
}

// query counts the values of an expression that are numbers.
func (p *prometheusServer) query(expression string) (numbers int, err error) {
	response, err := http.PostForm(p.url+"/api/v1/query", url.Values{"query": {expression}})
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	var answer struct {
		Status, Error string
		Data          struct{ Result []struct{ Value [2]any } }
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.Status != "success" {
		return 0, fmt.Errorf("%s: %s %v", expression, answer.Error, err)
	}
	for _, r := range answer.Data.Result {
		text, _ := r.Value[1].(string)
		if n, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(n) {
			numbers++
		}
	}
	return numbers, nil
}

func readDashboard(t *testing.T) *dashboard.Dashboard {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "examples", prometheusExample, "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	runtime := cog.NewRuntime()
	for _, variant := range []func(){
		func() { runtime.RegisterPanelcfgVariant(stat.VariantConfig()) }, func() { runtime.RegisterPanelcfgVariant(table.VariantConfig()) },
		func() { runtime.RegisterPanelcfgVariant(timeseries.VariantConfig()) }, func() { runtime.RegisterPanelcfgVariant(piechart.VariantConfig()) },
		func() { runtime.RegisterDataqueryVariant(prometheus.VariantConfig()) },
	} {
		variant()
	}
	if err := new(dashboard.Dashboard).UnmarshalJSONStrict(content); err != nil && err.Error() != "" { // it returns lists, which may be empty
		t.Fatalf("Grafana's schema does not take the dashboard: %v", err)
	}
	d := &dashboard.Dashboard{}
	if err := json.Unmarshal(content, d); err != nil {
		t.Fatal(err)
	}
	if err := d.Validate(); err != nil {
		t.Errorf("Grafana's schema does not take the dashboard: %v", err)
	}
	return d
}

// expressions are those of all panels, with their variables filled in.
func expressions(t *testing.T) (all []string) {
	t.Helper()
	fill := strings.NewReplacer("$instance", ".*", "$site", ".*", "$__rate_interval", "10s", "$__range", "5m")
	for _, p := range readDashboard(t).Panels {
		if p.Panel == nil {
			continue
		}
		if len(p.Panel.Targets) == 0 {
			t.Errorf("the panel %q asks for nothing", *p.Panel.Title)
		}
		for _, target := range p.Panel.Targets {
			query, ok := target.(*prometheus.Dataquery)
			if !ok {
				value, isValue := target.(prometheus.Dataquery)
				query, ok = &value, isValue
			}
			if !ok {
				t.Fatalf("the panel %q asks with a %T", *p.Panel.Title, target)
			}
			all = append(all, fill.Replace(query.Expr))
		}
	}
	if len(all) < 25 {
		t.Errorf("%d expressions", len(all))
	}
	return all
}

// The dashboard is what Grafana's schema asks for; its panels do not lie on each other, and ask the data source that a person chooses.
func TestTheDashboardIsGrafanas(t *testing.T) {
	besides(t)
	d := readDashboard(t)
	ids, taken := map[uint32]bool{}, map[[2]uint32]string{}
	for _, either := range d.Panels {
		var id *uint32
		var at *dashboard.GridPos
		var title string
		if p := either.Panel; p != nil {
			id, at, title = p.Id, p.GridPos, *p.Title
			if p.Datasource == nil || *p.Datasource.Uid != "${datasource}" {
				t.Errorf("%s asks another data source", title)
			}
		} else {
			id, at, title = &either.RowPanel.Id, either.RowPanel.GridPos, *either.RowPanel.Title
		}
		if ids[*id] || at.X+at.W > 24 {
			t.Errorf("%s: its id is taken, or it is too wide", title)
		}
		ids[*id] = true
		for x := at.X; x < at.X+at.W; x++ {
			for y := at.Y; y < at.Y+at.H; y++ {
				if other, ok := taken[[2]uint32{x, y}]; ok {
					t.Fatalf("%s lies on %s", title, other)
				}
				taken[[2]uint32{x, y}] = title
			}
		}
	}
}
