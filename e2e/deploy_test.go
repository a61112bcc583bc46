//go:build e2e

package e2e

import (
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What padlock maintenance says holds at once, for visitors of every page, until it is switched off; scripts see by the
// exit code whether something was changed.
func TestMaintenanceByCommand(t *testing.T) {
	besides(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "padlock.yaml"), []byte(`
listen: {https: ["127.0.0.1:0"], http: []}
sites:
  - {hosts: [localhost, www.example.test], routes: [{respond: {body: served}}]}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startFile(t, dir)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.roots(t)}, ForceAttemptHTTP2: true}}
	visit := func() (int, string, string) {
		t.Helper()
		response, err := client.Get(p.url + "/x")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(body), response.Header.Get("Retry-After")
	}

	page := filepath.Join(dir, "closed.html")
	if err := os.WriteFile(page, []byte("<h1>closed</h1>"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   string
		code   int
		says   string
		status int
		body   string
	}{
		{"status", 0, "no site is in maintenance by command", 200, "served"},
		{"off www.example.test", 1, "www.example.test is not in maintenance", 200, "served"},
		{"on nowhere.test", 1, "no site has the host nowhere.test", 200, "served"},
		{"on", 2, "needs one SITE", 200, "served"},
		{"on localhost --until yesterday", 2, "neither a time", 200, "served"},
		{"on localhost --until 30m --allow 203.0.113.7 --page " + page, 0, "localhost is in maintenance until ", 503, "<h1>closed</h1>"},
		{"status", 0, "localhost is in maintenance since ", 503, "<h1>closed</h1>"},
		{"on www.example.test --message Soon --allow 127.0.0.0/8", 0, "is in maintenance", 200, "served"},
		{"on www.example.test --message Soon --health /x", 0, "is in maintenance", 200, "served"},
		{"on www.example.test --message Soon --health /up", 0, "is in maintenance", 503, "Soon."},
		{"off www.example.test", 0, "is served again", 200, "served"},
	} {
		run := command(p.home, append([]string{"maintenance"}, strings.Fields(c.args)...)...)
		out, _ := run.CombinedOutput()
		if run.ProcessState.ExitCode() != c.code || !strings.Contains(string(out), c.says) {
			t.Errorf("%s: exit code %d\n%s", c.args, run.ProcessState.ExitCode(), out)
		}
		if status, body, again := visit(); status != c.status || !strings.Contains(body, c.body) || (status == 503) != (again != "") {
			t.Errorf("%s: %d %s Retry-After %q", c.args, status, body, again)
		}
	}
}
