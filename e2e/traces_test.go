//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"padlock/internal/otlptest"
)

// spansSoon has spans sent every 50 ms, not every five seconds.
const spansSoon = "OTEL_BSP_SCHEDULE_DELAY=50"

// The whole way of a browser's visit is one picture at the collector: the handshake, the request that came by it, the target that was
// asked, and what the target says of itself. A client that rejects the certificate is there too, with what to do. One flag is enough.
func TestAVisitIsATraceAtTheCollector(t *testing.T) {
	besides(t)
	c := otlptest.Start(t)
	parents := make(chan string, 10)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parents <- r.Header.Get("traceparent")
		_, _ = io.WriteString(w, "hello")
	}))
	defer app.Close()
	p := startEnv(t, []string{spansSoon, "OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=test"}, binary, "--otlp", c.URL, app.URL)
	root := p.root(t)
	for _, version := range []string{"--http1.1", "--http2"} {
		if out, err := exec.Command(need(t, "curl"), "-sS", "--fail", version, "--cacert", root, p.url+"/page?q=secret").CombinedOutput(); err != nil || string(out) != "hello" {
			t.Fatalf("curl %s: %v %s", version, err, out)
		}
		parent := <-parents
		c.Wait(t, func(spans []otlptest.Span) bool {
			by := map[string]otlptest.Span{}
			for _, s := range spans {
				by[s.ID] = s
			}
			target, request := by[strings.Split(parent+"---", "-")[2]], otlptest.Span{}
			request = by[target.Parent]
			if target.ID == "" || request.ID == "" || len(request.Links) != 1 || by[request.Links[0].ID].ID == "" {
				return false
			}
			told := by[request.Links[0].ID]
			if told.Name != "TLS handshake" || told.Attributes["padlock.handshake.outcome"] != "complete" || told.Resource["deployment.environment.name"] != "test" {
				t.Errorf("%+v", told)
			}
			if request.Attributes["url.path"] != "/page" || request.Attributes["http.response.status_code"] != 200 || target.Attributes["http.response.status_code"] != 200 {
				t.Errorf("%+v\n%+v", request, target)
			}
			return true
		})
	}
	if out, err := exec.Command("curl", "-sS", p.url).CombinedOutput(); err == nil {
		t.Fatalf("a curl without the CA was content: %s", out)
	}
	c.Wait(t, func(spans []otlptest.Span) bool {
		for _, s := range spans {
			if s.Failed && s.Attributes["error.type"] == "unknown_ca" && strings.Contains(fmt.Sprint(s.Attributes["padlock.handshake.remedy"]), "padlock trust") {
				return true
			}
		}
		return false
	})
	if strings.Contains(fmt.Sprint(c.Spans()), "secret") {
		t.Error("a query is told")
	}
}

// A collector that is away costs spans, which are counted, and nothing else: requests go on, one line says so, and the end comes soon.
func TestACollectorThatIsAwayCostsSpansOnly(t *testing.T) {
	besides(t)
	c := otlptest.Start(t)
	c.Refuse(http.StatusForbidden)
	dir := t.TempDir()
	file := fmt.Sprintf("listen: {https: [\"127.0.0.1:0\"], http: [], http3: false}\nstorage: %s\ntracing: {endpoint: %s, headers_file: collector.headers, sample: 1}\nsites: [{hosts: [localhost], routes: [{respond: {body: hello}}]}]\n", dir, c.URL)
	for name, content := range map[string]string{"padlock.yaml": file, "collector.headers": "X-Key: 0123456789\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := startFile(t, dir, spansSoon)
	p.storage = dir
	root := p.root(t)
	for range 5 {
		if out, err := exec.Command(need(t, "curl"), "-sS", "--fail", "--cacert", root, p.url).CombinedOutput(); err != nil || string(out) != "hello" {
			t.Fatalf("%v %s", err, out)
		}
	}
	p.stderr.wait(t, "traces are lost", "403 Forbidden", "tracing.endpoint")
	if got := c.Fields().Get("X-Key"); got != "0123456789" {
		t.Errorf("the collector got %q", got)
	}
	eventually(t, func() (string, error) {
		out, err := exec.Command("curl", "-sS", "--unix-socket", filepath.Join(dir, "admin.sock"), "http://localhost/metrics").CombinedOutput()
		if err == nil && !strings.Contains(string(out), `padlock_dropped_total{queue="traces"} 10`) {
			err = fmt.Errorf("not all spans are counted")
		}
		return string(out), err
	})
	p.stop(t)
	if text := p.stderr.wait(t); strings.Count(text, "traces are lost") != 1 {
		t.Errorf("said more than once:\n%s", text)
	}
}
