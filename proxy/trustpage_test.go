package proxy_test

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"padlock/certs/localca"
	"padlock/config"
	"padlock/console"
	"padlock/hostinfo"
	"padlock/proxy"
)

// visit follows no redirect.
func visit(t *testing.T, client *http.Client, method, url, host string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	still := *client
	still.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := still.Do(request)
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

const padlockTrust = "/.well-known/padlock-trust"

// trustPage is the real one, for a machine whose address is that of the test's listeners.
func trustPage(ca *localca.CA, deps *proxy.Dependencies) {
	deps.Trust = console.NewTrust(console.TrustOptions{
		Root: hostinfo.NewRoot(ca.Root()), Network: func() (hostinfo.Network, error) { return hostinfo.Network{}, nil }, Hosts: []string{"127.0.0.1"},
		Log: slog.New(slog.DiscardHandler),
	})
}

func TestPlainHTTPServesTheTrustPageAndRedirectsEverythingElse(t *testing.T) {
	app := backend(t, func(w http.ResponseWriter, r *http.Request) { t.Errorf("the app saw %s", r.URL) })
	e := startWith(t, app, func(c *config.Config) { c.Sites[0].Hosts = append(c.Sites[0].Hosts, "127.0.0.1") }, trustPage)
	_, port, _ := strings.Cut(e.address, ":")
	for _, path := range []string{"/", "/trust"} {
		if response, body := visit(t, http.DefaultClient, "GET", "http://"+e.plain+path, ""); response.StatusCode != 200 || !strings.Contains(body, "https://127.0.0.1:"+port+padlockTrust) {
			t.Errorf("%s: %s %s", path, response.Status, body)
		}
	}
	for _, c := range []struct{ method, path, host, location string }{
		{"GET", "/app", "", "https://127.0.0.1:" + port + "/app"}, {"POST", "/", "", "https://127.0.0.1:" + port + "/"}, {"GET", "/", "localhost", "https://localhost:" + port + "/"},
	} {
		response, _ := visit(t, http.DefaultClient, c.method, "http://"+e.plain+c.path, c.host)
		if response.StatusCode != 308 || response.Header.Get("Location") != c.location {
			t.Errorf("%s %s %s: %s to %s", c.method, c.host, c.path, response.Status, response.Header.Get("Location"))
		}
	}
	if response, _ := visit(t, http.DefaultClient, "GET", "http://"+e.plain+"/", "evil.example"); response.StatusCode != 404 {
		t.Errorf("a stranger's name: %s", response.Status)
	}
}

func TestADeviceThatTriesHTTPSIsAnsweredByPadlockAndNotByTheApp(t *testing.T) {
	app := backend(t, func(w http.ResponseWriter, r *http.Request) { t.Errorf("the app saw %s", r.URL) })
	e := startWith(t, app, nil, trustPage)
	for name, client := range e.clients(t) {
		response, body := visit(t, client, "GET", "https://localhost"+padlockTrust+"?x=1", "127.0.0.1")
		if response.StatusCode != 200 || !strings.Contains(body, "The handshake came through.") || response.Header.Get("Cross-Origin-Resource-Policy") != "cross-origin" {
			t.Errorf("%s: %s %v %s", name, response.Status, response.Header, body)
		}
		if response, _ := visit(t, client, "POST", "https://localhost"+padlockTrust, "127.0.0.1"); response.StatusCode != 405 {
			t.Errorf("%s: POST: %s", name, response.Status)
		}
		if response, _ := visit(t, client, "GET", "https://localhost"+padlockTrust, "localhost"); response.StatusCode != 404 {
			t.Errorf("%s: by another name: %s", name, response.Status)
		}
	}
	if _, body := visit(t, http.DefaultClient, "GET", "http://"+e.plain+"/trust/status?since=0", ""); !strings.Contains(body, "waiting") {
		t.Errorf("a page that was opened afterwards is told %s", body)
	}
}

func TestWithoutTheTrustPageItsPathsAreAnyOthers(t *testing.T) {
	seen := make(chan string, 1)
	e := start(t, backend(t, func(w http.ResponseWriter, r *http.Request) { seen <- r.URL.Path }), nil)
	visit(t, e.clients(t)["h1"], "GET", "https://localhost"+padlockTrust, "")
	if path := <-seen; path != padlockTrust {
		t.Errorf("the app saw %s", path)
	}
	for _, path := range []string{"/", "/trust", "/trust/padlock-ca.crt", "/trust/status"} {
		if response, body := visit(t, http.DefaultClient, "GET", "http://"+e.plain+path, "localhost"); response.StatusCode != 308 || body != "" {
			t.Errorf("%s: %s %s", path, response.Status, body)
		}
	}
}
