package daemon

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"context"

	"padlock/config"
)

// command sends a command to the socket of a running padlock, as padlock's own commands do.
func (r *running) command(t *testing.T, method, path string, what any) (status int, text string) {
	t.Helper()
	body, err := json.Marshal(what)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(filepath.Dir(r.file), "admin.sock"))
	}}}
	request, err := http.NewRequestWithContext(t.Context(), method, "http://localhost"+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, strings.TrimSpace(string(answer))
}

// answered is the status and the content of a site's answer.
func (r *running) answered(t *testing.T, path string) (int, string, http.Header) {
	t.Helper()
	client := r.client(false, nil)
	response, err := client.Get("https://localhost" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body), response.Header
}

const maintained = `
storage: STORAGE
admin: 127.0.0.1:0
listen: {https: ["127.0.0.1:0"], http: []}
handshakes: {show: off}
sites:
  - hosts: [localhost, other.test]
    maintenance: {paths: [/up]}
    routes: [{respond: {status: 200, body: served}}]
  - hosts: [bytes.test]
    tcp: {to: "127.0.0.1:1"}
`

// Maintenance that a command begins holds over reloads, of the file as it was and changed, and over a restart, until a
// command ends it. The admin endpoint and the paths of the file are answered meanwhile.
func TestMaintenanceHoldsUntilACommandEndsIt(t *testing.T) {
	r := runFile(t, maintained)
	on := &MaintenanceRequest{Host: "Other.test.", On: true, HTML: "<h1>closed</h1>"}
	on.Until = "2999-01-01T00:00:00Z"
	if status, text := r.command(t, "POST", "/maintenance", on); status != 200 {
		t.Fatalf("%d %s", status, text)
	}

	closed := func(when string) {
		t.Helper()
		if status, body, header := r.answered(t, "/"); status != 503 || body != "<h1>closed</h1>" || header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %q %v", when, status, body, header)
		}
		if status, body, _ := r.answered(t, "/up"); status != 200 || body != "served" {
			t.Errorf("%s: %d %q", when, status, body)
		}
	}
	closed("at once")
	if response, err := http.Get(r.admin + "/healthz"); err != nil || response.StatusCode != 200 {
		t.Errorf("health: %v, %v", response, err)
	}

	r.reload(t)
	closed("after a reload")
	r.write(t, strings.Replace(maintained, "body: served", "body: served, content_type: text/plain", 1))
	r.reload(t)
	closed("after a reload of a changed file")

	if err := r.end(t); err != nil {
		t.Fatal(err)
	}
	r.start(t, io.Discard, r.stderr)
	closed("after a restart")

	if _, text := r.command(t, "GET", "/status", nil); !strings.Contains(text, "other.test is in maintenance since") {
		t.Errorf("status: %s", text)
	}
	if status, text := r.command(t, "POST", "/maintenance", &MaintenanceRequest{Host: "localhost"}); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	if status, body, _ := r.answered(t, "/"); status != 200 || body != "served" {
		t.Errorf("%d %q", status, body)
	}
}

// Maintenance of a site that a reload takes away is shown, and can be ended.
func TestMaintenanceOfASiteThatHasGoneCanBeEnded(t *testing.T) {
	r := runFile(t, maintained)
	if status, text := r.command(t, "POST", "/maintenance", &MaintenanceRequest{Host: "localhost", On: true}); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	r.write(t, strings.Replace(maintained, "[localhost, other.test]", "[other.test]", 1))
	r.reload(t)
	if _, text := r.command(t, "GET", "/overrides", nil); !strings.Contains(text, "but no site has this host now") {
		t.Errorf("%s", text)
	}
	if status, text := r.command(t, "POST", "/maintenance", &MaintenanceRequest{Host: "localhost"}); status != 200 {
		t.Errorf("%d %s", status, text)
	}
	r.write(t, maintained)
	r.reload(t)
	if status, body, _ := r.answered(t, "/"); status != 200 || body != "served" {
		t.Errorf("%d %q", status, body)
	}
}

// A command that asks for what cannot be changes nothing, and says why.
func TestMaintenanceThatCannotBeIsRefused(t *testing.T) {
	r := runFile(t, maintained)
	order := func(change func(*MaintenanceRequest)) *MaintenanceRequest {
		q := &MaintenanceRequest{Host: "localhost", On: true}
		change(q)
		return q
	}
	for _, c := range []struct {
		q      *MaintenanceRequest
		status int
		want   string
	}{
		{order(func(q *MaintenanceRequest) { q.Host = "nowhere.test" }), 422, "no site has the host nowhere.test; there are localhost, bytes.test"},
		{order(func(q *MaintenanceRequest) { q.Host = "bytes.test" }), 422, "forwards TCP"},
		{order(func(q *MaintenanceRequest) { q.On = false }), 422, "localhost is not in maintenance"},
		{order(func(q *MaintenanceRequest) { q.Until = "soon" }), 422, `"soon" is not a time`},
		{order(func(q *MaintenanceRequest) { q.Paths = []string{"up"} }), 422, `"up" must begin with a slash`},
	} {
		if status, text := r.command(t, "POST", "/maintenance", c.q); status != c.status || !strings.Contains(text, c.want) {
			t.Errorf("%+v: %d %s", c.q, status, text)
		}
	}
	if status, _, _ := r.answered(t, "/"); status != 200 {
		t.Error("something has changed")
	}

	// Every user of the machine can reach a loopback address.
	response, err := http.Post(r.admin+"/maintenance", "application/json", strings.NewReader(`{"host":"localhost","on":true}`))
	if err != nil || response.StatusCode != 403 {
		t.Errorf("%v %v", response, err)
	}
}

// A state file that is damaged, or of another version, refuses a start and a reload, with the remedy; what runs goes on
// as it was.
func TestDamagedOverridesAreRefused(t *testing.T) {
	r := runFile(t, maintained)
	name := filepath.Join(filepath.Dir(r.file), overridesFile)
	for _, damaged := range []string{
		"", "{", `{"version":2}`, `{"version":1,"more":{}}`, `{"version":1} x`, `{"version":1,"maintenance":{"Localhost":{}}}`, `{"version":1,"maintenance":{"localhost":{"until":"x"}}}`,
		`{"version":1,"deploys":[{"host":"localhost"}]}`, `{"version":1,"deploys":[{"host":"localhost","was":["x:1"],"to":["tcp://x:1"]}]}`, `{"version":1,"deploys":[{"host":"localhost","was":["x:1"],"to":["x:1","http://x:1"]}]}`,
	} {
		if err := os.WriteFile(name, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if status, text := r.tryReload(t); status != 422 || !strings.Contains(text, name) {
			t.Errorf("%q: %d %s", damaged, status, text)
		}
		if _, err := LoadOverrides(&config.Config{Storage: filepath.Dir(r.file)}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%q: %v", damaged, err)
		}
	}
	if status, _, _ := r.answered(t, "/"); status != 200 {
		t.Error("what runs has changed")
	}
}
