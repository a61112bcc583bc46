//go:build e2e

package e2e

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"padlock/internal/servicetest"
)

// visited sends a request to an example, and returns the response with its content.
func visited(t *testing.T, client *http.Client, address string, fields ...string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), "GET", address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		request.Header.Set(fields[i], fields[i+1])
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

// The example of a canary: testers and a share of the visitors get version 2, each visitor keeps what it has drawn, and
// a larger share takes it from nobody.
func TestExampleCanary(t *testing.T) {
	besides(t)
	dir := example(t, "canary")
	_, first, _ := net.SplitHostPort(appVersion(t, dir, "1"))
	_, second, _ := net.SplitHostPort(appVersion(t, dir, "2"))
	p := startFile(t, dir, "FIRST="+first, "SECOND="+second)
	client := p.visitor(t, "www.localhost")
	const site = "https://www.localhost/"

	if _, body := visited(t, client, site, "X-Canary", "yes"); body != "version 2\n" {
		t.Errorf("a tester gets %q", body)
	}

	const visitors = 200
	drawn := map[string][]string{} // cookies, by version
	for range visitors {
		response, body := visited(t, client, site)
		cookies := response.Cookies()
		if len(cookies) != 1 {
			t.Fatalf("a visitor gets the cookies %v", cookies)
		}
		drawn[body] = append(drawn[body], cookies[0].Name+"="+cookies[0].Value)
	}
	// Ten in a hundred: more than three times as many come less than once in 10^15 times.
	if n := len(drawn["version 2\n"]); n == 0 || n > visitors/3 || n+len(drawn["version 1\n"]) != visitors {
		t.Errorf("%d of %d visitors get version 2, %d version 1", n, visitors, len(drawn["version 1\n"]))
	}
	returning := func(when string) (moved int) {
		for version, cookies := range drawn {
			for _, cookie := range cookies {
				_, body := visited(t, client, site, "Cookie", cookie)
				if body != version && version == "version 2\n" {
					t.Errorf("%s: a visitor of version 2 gets %q", when, body)
				}
				if body != version {
					moved++
				}
			}
		}
		return moved
	}
	if moved := returning("at the next visit"); moved > 0 {
		t.Errorf("%d visitors do not keep their version", moved)
	}

	for args, says := range map[string]string{
		`https://www.localhost/|-H|X-Canary: yes`: "routes[0] (header X-Canary: yes): matches",
		`https://www.localhost/|--draw|7`:         "routes[1] (percent 10): matches",
		`https://www.localhost/`:                  "routes[2] (any request): matches",
	} {
		explain := command(p.home, append(append([]string{"route", "explain"}, strings.Split(args, "|")...), "--config", "padlock.yaml")...)
		explain.Dir = dir
		if out, err := explain.CombinedOutput(); err != nil || !strings.Contains(string(out), says) {
			t.Errorf("route explain %s: %v\n%s", args, err, out)
		}
	}

	file := filepath.Join(dir, "padlock.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	replaceFile(t, file, strings.Replace(string(text), "percent: 10", "percent: 50", 1))
	if out, err := command(p.home, "reload").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if moved := returning("after the share has grown"); moved == 0 {
		t.Error("no visitor of version 1 has moved")
	}
}

// The example of a static site: files with what browsers need, an app's own paths, and an API under the same name.
func TestExampleStaticSiteWithAPI(t *testing.T) {
	besides(t)
	dir := example(t, "static-site-with-api")
	port := servicetest.FreePort(t)
	app := exec.Command(need(t, "python3"), "app.py")
	app.Dir, app.Env = dir, append(os.Environ(), "APP_PORT="+strconv.Itoa(port))
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = app.Process.Kill(); _ = app.Wait() })
	p := startFile(t, dir, "APP_PORT="+strconv.Itoa(port))
	client := p.visitor(t, "www.localhost")
	const site = "https://www.localhost"
	page, err := os.ReadFile(filepath.Join(dir, "public", "index.html"))
	if err != nil {
		t.Fatal(err)
	}

	for _, path := range []string{"/", "/visitors"} {
		response, body := visited(t, client, site+path)
		if body != string(page) || response.Header.Get("X-Content-Type-Options") != "nosniff" || response.Header.Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: %s %v\n%s", path, response.Status, response.Header, body)
		}
	}
	for _, c := range []struct{ path, field, value, status, answer, want string }{
		{"/", "Accept-Encoding", "zstd", "200 OK", "Content-Encoding", "zstd"},
		{"/assets/site.css", "Accept-Encoding", "gzip", "200 OK", "Content-Encoding", "gzip"},
		{"/assets/site.css", "Accept", "text/css", "200 OK", "Cache-Control", "public, max-age=31536000, immutable"},
		{"/assets/site.css", "Range", "bytes=0-15", "206 Partial Content", "Content-Length", "16"},
		{"/missing.js", "Accept", "*/*", "404 Not Found", "", ""},
		{"/assets/../../padlock.yaml", "Accept", "*/*", "400 Bad Request", "", ""},
	} {
		response, body := visited(t, client, site+c.path, c.field, c.value)
		if response.Status != c.status || c.want != "" && response.Header.Get(c.answer) != c.want {
			t.Errorf("%s with %s: %s %v %.80q", c.path, c.value, response.Status, response.Header, body)
		}
	}

	eventually(t, func() (string, error) {
		conn, err := net.Dial("tcp", local(port))
		if err == nil {
			conn.Close()
		}
		return "", err
	})
	response, body := visited(t, client, site+"/api/visits")
	if body != `{"visits": 1}` || response.Header.Get("RateLimit") == "" {
		t.Errorf("%s %v %s", response.Status, response.Header, body)
	}
	// On a slow machine, some seconds pass, and each allows another.
	for n := 1; response.StatusCode != 429; n++ {
		if n == 1000 {
			t.Fatalf("%d requests were let through", n)
		}
		response, _ = visited(t, client, site+"/api/visits")
	}
}
