package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"padlock/config"
	"padlock/discovery"
	"padlock/internal/servicetest"
)

// apps is a second source: what is registered is served.
type apps struct {
	changed chan *discovery.Found

	mu       sync.Mutex
	found    *discovery.Found
	problems []discovery.Problem
}

func (a *apps) String() string { return "the registered apps" }

func (a *apps) Look(context.Context) (*discovery.Found, error) { return a.found, nil }

func (a *apps) Away(error) {}

func (a *apps) Run(ctx context.Context, publish func(*discovery.Found)) {
	for {
		select {
		case found := <-a.changed:
			publish(found)
		case <-ctx.Done():
			return
		}
	}
}

func (a *apps) Report(problems []discovery.Problem) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.problems = problems
}

func (a *apps) reported() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []string
	for _, p := range a.problems {
		all = append(all, p.Owner+" "+p.Error())
	}
	return strings.Join(all, "\n")
}

// app is one that answers with its name, with its hosts and how many seconds ago it was registered.
func app(name string, ago int, hosts ...string) discovery.Owner {
	site := config.Site{Hosts: hosts, Routes: []config.Route{{Respond: &config.Respond{Status: 200, Body: name}}}}
	return discovery.Owner{Kind: "app", Name: name, Created: time.Now().Add(-time.Duration(ago) * time.Second), Sites: []config.Site{site}}
}

// engineOf is a container engine that has containers in the machine's own network, by host name, all with one port.
func engineOf(t *testing.T, port string, hosts ...string) (endpoint string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	labels := func(i int) map[string]string {
		return map[string]string{"padlock.host": hosts[i], "padlock.port": port}
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var i int
		switch _, err := fmt.Sscanf(r.URL.Path, "/v1.41/containers/%x/json", &i); {
		case r.URL.Path == "/_ping":
			w.Header().Set("Api-Version", "1.41")
		case strings.HasSuffix(r.URL.Path, "/events"):
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case strings.HasSuffix(r.URL.Path, "/containers/json"):
			all := []any{}
			for i := range hosts {
				all = append(all, map[string]any{"Id": fmt.Sprintf("%064x", i), "Names": []string{fmt.Sprint("/c", i)}, "Created": i, "Labels": labels(i)})
			}
			_ = json.NewEncoder(w).Encode(all)
		case err == nil:
			_ = json.NewEncoder(w).Encode(map[string]any{
				"Name": fmt.Sprint("/c", i), "State": map[string]any{"Running": true}, "Config": map[string]any{"Labels": labels(i)},
				"HostConfig": map[string]any{"NetworkMode": "host"},
			})
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	return "unix://" + socket
}

// A container engine and another source are served at once. Where several have a site for a name, the file's own goes first, then the engine's,
// then the other source's; what one gives up, the next gets.
func TestSourcesServeBesideEachOther(t *testing.T) {
	container := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "container") }))
	t.Cleanup(container.Close)
	_, port, _ := net.SplitHostPort(container.Listener.Addr().String())
	engine := engineOf(t, port, "one.localhost", "two.localhost")
	second := &apps{changed: make(chan *discovery.Found), found: discovery.Find(
		app("younger", 1, "three.localhost"), app("shop", 2, "localhost", "one.localhost", "*.shop.localhost", "shop.localhost"))}

	r := &running{file: filepath.Join(t.TempDir(), "padlock.yaml"), roots: x509.NewCertPool(), stderr: &servicetest.Buffer{}, sources: []discovery.Source{second}}
	file := `
listen: {https: ["127.0.0.1:0"], http: []}
storage: STORAGE
admin: 127.0.0.1:0
handshakes: {show: "off"}
docker: {endpoint: "` + engine + `"}
sites: [{hosts: [HOSTS], routes: [{respond: {body: file}}]}]
`
	r.write(t, strings.Replace(file, "HOSTS", "localhost, two.localhost", 1))
	r.start(t, io.Discard, r.stderr)
	t.Cleanup(func() { _ = r.end(t) })
	serves := func(want map[string]string) {
		t.Helper()
		servicetest.Until(t, func() error {
			for host, body := range want {
				if got := r.page(host); got != body {
					return fmt.Errorf("%s serves %q, not %q", host, got, body)
				}
			}
			return nil
		})
	}
	serves(map[string]string{
		"localhost": "file", "two.localhost": "file", "one.localhost": "container",
		"shop.localhost": "shop", "a.shop.localhost": "shop", "three.localhost": "younger",
	})
	for _, want := range []string{
		"shop host: localhost is a site of padlock's own configuration, which goes first",
		"shop host: one.localhost is a site of the container engine " + engine + ", which goes first",
	} {
		if got := second.reported(); !strings.Contains(got, want) {
			t.Errorf("%s\nlacks %s", got, want)
		}
	}
	if said := r.stderr.String(); !strings.Contains(said, "two.localhost is a site of padlock's own configuration, which goes first") {
		t.Error(said)
	}

	second.changed <- discovery.Find(app("younger", 1, "two.localhost", "four.localhost"))
	serves(map[string]string{"shop.localhost": "", "three.localhost": "", "four.localhost": "younger", "two.localhost": "file", "one.localhost": "container"})
	r.write(t, strings.Replace(file, "HOSTS", "localhost", 1))
	r.reload(t)
	serves(map[string]string{"two.localhost": "container", "four.localhost": "younger"})
}

// page is what a host serves; "" if it is no site.
func (r *running) page(host string) string {
	response, err := r.client(false, func(c *tls.Config) { c.ServerName = host }).Get("https://" + host + "/")
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusOK {
		return ""
	}
	return string(body)
}
