//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"padlock/internal/servicetest"
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

// appVersion starts an example's app as one of its versions, and returns its address.
func appVersion(t *testing.T, dir, name string) string {
	t.Helper()
	port := servicetest.FreePort(t)
	c := exec.Command(need(t, "python3"), "app.py", name, fmt.Sprint(port))
	c.Dir = dir
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	address := fmt.Sprint("127.0.0.1:", port)
	for limit := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return address
		} else if time.Now().After(limit) {
			t.Fatal(err)
		}
	}
}

// visitor is a client of the one site of an example, whose name is for this machine.
func (p *padlock) visitor(t *testing.T, host string) *http.Client {
	t.Helper()
	u, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: p.roots(t), ServerName: host}, ForceAttemptHTTP2: true, DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", "127.0.0.1:"+u.Port())
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// The example of deploys: the version that is healthy gets the requests and the one that is not does not, a rollback
// goes back, and all of that outlasts a new start of padlock; scripts see the end by the exit code.
func TestExampleDeploy(t *testing.T) {
	besides(t)
	dir := example(t, "deploy")
	one, two, broken := appVersion(t, dir, "1"), appVersion(t, dir, "2"), appVersion(t, dir, "broken")
	_, port, _ := net.SplitHostPort(one)
	p := startFile(t, dir, "FIRST="+port)
	client := p.visitor(t, "www.localhost")

	for _, c := range []struct {
		args string
		code int
		says string
		body string
	}{
		{"deploy status", 0, "no deploy has changed any targets", "version 1\n"},
		{"deploy www.localhost", 2, "deploy needs --to TARGET", "version 1\n"},
		{"deploy www.localhost --to " + broken + " --health /up --timeout 1s", 1, "it answers /up with status 500", "version 1\n"},
		{"deploy www.localhost --to " + two + " --health /up --observe 500ms", 0, "switched from", "version 2\n"},
		{"deploy status", 0, "www.localhost goes to http://" + two, "version 2\n"},
		{"status", 0, "www.localhost goes to http://" + two, "version 2\n"},
		{"reload", 0, "", "version 2\n"},
		{"deploy rollback www.localhost --observe 500ms", 0, "switched from", "version 1\n"},
		{"deploy www.localhost --pause --to " + two + " --observe 500ms", 0, "holding new requests", "version 2\n"},
	} {
		run := command(p.home, strings.Fields(c.args)...)
		out, _ := run.CombinedOutput()
		if run.ProcessState.ExitCode() != c.code || !strings.Contains(strings.Join(strings.Fields(string(out)), " "), c.says) {
			t.Errorf("%s: exit code %d\n%s", c.args, run.ProcessState.ExitCode(), out)
		}
		response, err := client.Get("https://www.localhost/")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if string(body) != c.body {
			t.Errorf("%s: %s %s", c.args, response.Status, body)
		}
	}
}

// A canary has the path of what is stable, and another target, which names it.
func TestACanaryIsDeployedByItsTarget(t *testing.T) {
	besides(t)
	app := example(t, "deploy")
	one, two, three := appVersion(t, app, "1"), appVersion(t, app, "2"), appVersion(t, app, "3")
	dir := t.TempDir()
	replaceFile(t, filepath.Join(dir, "padlock.yaml"), fmt.Sprintf(`
listen: {https: ["127.0.0.1:0"], http: []}
sites:
  - hosts: [localhost]
    routes:
      - {header: {X-Canary: "yes"}, to: %q}
      - {to: %q}
`, two, one))
	p := startFile(t, dir)
	client := p.visitor(t, "localhost")
	for _, c := range []struct {
		args           string
		code           int
		says           string
		stable, canary string
	}{
		{"--to " + three, 1, "localhost/ (header X-Canary) at http://" + two + " localhost/ at http://" + one, "version 1\n", "version 2\n"},
		{"--from " + three + " --to " + three, 1, "no route of localhost has the target http://" + three, "version 1\n", "version 2\n"},
		{"--from " + two + " --to " + three + " --observe 500ms", 0, "switched from http://" + two + " to http://" + three, "version 1\n", "version 3\n"},
	} {
		run := command(p.home, append([]string{"deploy", "localhost", "--health", "/up"}, strings.Fields(c.args)...)...)
		out, _ := run.CombinedOutput()
		if run.ProcessState.ExitCode() != c.code || !strings.Contains(strings.Join(strings.Fields(string(out)), " "), c.says) {
			t.Errorf("%s: exit code %d\n%s", c.args, run.ProcessState.ExitCode(), out)
		}
		for header, want := range map[string]string{"no": c.stable, "yes": c.canary} {
			request, _ := http.NewRequest("GET", "https://localhost/", nil)
			request.Header.Set("X-Canary", header)
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(response.Body)
			response.Body.Close()
			if string(body) != want {
				t.Errorf("%s: X-Canary: %s gets %s", c.args, header, body)
			}
		}
	}
}

// A restart waits for a deploy, which goes on to watch its targets: when these fail, the old ones get the requests
// again, and the padlock that takes over has them too.
func TestARestartWaitsForADeploy(t *testing.T) {
	besides(t)
	dir := example(t, "deploy")
	up := filepath.Join(dir, "up")
	if err := os.WriteFile(up, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// Version 2 is healthy for as long as the file is there.
	two := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := os.Stat(up); err != nil && r.URL.Path == "/up" {
			w.WriteHeader(500)
		}
		_, _ = io.WriteString(w, "version 2\n")
	}))
	t.Cleanup(two.Close)
	p := startFile(t, dir, "FIRST="+portOf(appVersion(t, dir, "1")), "HTTPS_PORT="+freePort(t))
	client := p.visitor(t, "www.localhost")

	deploy := command(p.home, "deploy", "www.localhost", "--to", two.URL, "--observe", "1m")
	out, err := deploy.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	failure := &log{more: make(chan struct{})}
	deploy.Stderr = failure
	if err := deploy.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan() && !strings.Contains(lines.Text(), "switched from"); {
	}

	if err := syscall.Kill(p.pid, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	p.stderr.wait(t, "the restart waits until the commands that are under way have ended")
	if _, body := visited(t, client, "https://www.localhost/"); body != "version 2\n" {
		t.Errorf("during the deploy: %s", body)
	}
	if err := os.Remove(up); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, out)
	if _ = deploy.Wait(); deploy.ProcessState.ExitCode() != 3 {
		t.Errorf("the deploy ends with code %d:\n%s", deploy.ProcessState.ExitCode(), failure.wait(t))
	}

	next := child(t, p, -1)
	t.Cleanup(func() { end(t, next) })
	eventually(t, func() (string, error) {
		out, err := command(p.home, "status").CombinedOutput()
		return string(out), err
	})
	client.CloseIdleConnections()
	if _, body := visited(t, client, "https://www.localhost/"); body != "version 1\n" {
		t.Errorf("after the restart: %s", body)
	}
}

// A deploy waits for what the padlock before a restart still has of the old version. One whose padlock ends stays as it
// is, and scripts learn by the exit code that nobody has watched it to the end.
func TestADeployKnowsThePadlockBefore(t *testing.T) {
	besides(t)
	gate, arrived := make(chan struct{}), make(chan struct{}, 1)
	version := func(name string) string {
		app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				arrived <- struct{}{}
				<-gate
			}
			_, _ = io.WriteString(w, name)
		}))
		t.Cleanup(app.Close)
		return strings.TrimPrefix(app.URL, "http://")
	}
	one, two := version("one"), version("two")
	dir, port := t.TempDir(), servicetest.FreePort(t)
	replaceFile(t, filepath.Join(dir, "padlock.yaml"), fmt.Sprintf("listen: {https: [\"127.0.0.1:%d\"], http: []}\ntimeouts: {handover: 1m}\nsites: [{hosts: [localhost], routes: [{to: %q}]}]\n", port, one))
	p := startFile(t, dir)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.roots(t)}, DisableKeepAlives: true}}
	visit := func(path string) string {
		response, err := client.Get(fmt.Sprintf("https://localhost:%d%s", port, path))
		if err != nil {
			return err.Error()
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return string(body)
	}
	served := func(want string) {
		t.Helper()
		eventually(t, func() (string, error) {
			if got := visit("/"); got != want {
				return got, fmt.Errorf("the version is not %s", want)
			}
			return "", nil
		})
	}
	deploy := func(args ...string) (*exec.Cmd, *log, chan struct{}) {
		t.Helper()
		run := command(p.home, append([]string{"deploy", "localhost", "--health", "/"}, args...)...)
		said := &log{more: make(chan struct{})}
		run.Stdout, run.Stderr = said, said
		if err := run.Start(); err != nil {
			t.Fatal(err)
		}
		over := make(chan struct{})
		go func() { defer close(over); _ = run.Wait() }()
		return run, said, over
	}

	slow := make(chan string, 1)
	go func() { slow <- visit("/slow") }()
	<-arrived
	if err := syscall.Kill(p.pid, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	second := child(t, p, -1)
	t.Cleanup(func() { _ = syscall.Kill(second, syscall.SIGKILL) })
	// HTTP/3 is the last that moves.
	p.stderr.wait(t, "HTTP/3 is served")
	run, said, over := deploy("--to", two, "--observe", "100ms", "--drain", "1m")
	served("two")
	select {
	case <-over:
		t.Errorf("the deploy has ended, and the old version still has a request: %s", said.wait(t))
	// As long as it would take otherwise, several times.
	case <-time.After(time.Second):
	}
	close(gate)
	if got := <-slow; got != "one" {
		t.Errorf("the request of the padlock before: %s", got)
	}
	<-over
	if code := run.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d: %s", code, said.wait(t))
	}

	run, said, over = deploy("--to", one, "--observe", "1m")
	said.wait(t, "switched from")
	if err := syscall.Kill(second, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-over
	if code := run.ProcessState.ExitCode(); code != 5 {
		t.Errorf("exit code %d: %s", code, said.wait(t))
	}
}
