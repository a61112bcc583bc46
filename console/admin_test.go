package console_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"padlock/console"
	"padlock/handshake"
	"padlock/traffic"
)

func admin(t *testing.T, o console.Options, g console.Guard) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, o, g, l)
	return "http://" + l.Addr().String()
}

func serve(t *testing.T, o console.Options, g console.Guard, l net.Listener) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- console.NewAdmin(o).Serve(ctx, l, g) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

var local = console.Guard{Network: "tcp"}

// ask sends a request with fields, of which Host is one.
func ask(t *testing.T, method, url string, fields map[string]string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range fields {
		if name == "Host" {
			request.Host = value
		}
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

func body(t *testing.T, response *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A web page that rebinds its name to this machine, or that asks across origins, reads and does nothing.
func TestTheAdminEndpointAnswersToItsOwnNamesAndPagesOnly(t *testing.T) {
	o := console.Options{Recent: handshake.NewRecent(4), Metrics: console.NewMetrics("test"), Reload: func() error { return nil }}
	at := admin(t, o, local)
	far := admin(t, o, console.Guard{Network: "tcp", Remote: true, Hosts: []string{"padlock.internal"}})
	type fields = map[string]string
	for _, c := range []struct {
		at, method, path string
		fields           fields
		want             int
	}{
		{at, "GET", "/metrics", fields{"Host": "localhost"}, 200},
		{at, "GET", "/metrics", fields{"Host": "LOCALHOST.:2020"}, 200},
		{at, "GET", "/metrics", fields{"Host": "127.0.0.1:2020"}, 200},
		{at, "GET", "/metrics", fields{"Host": "[::1]:2020"}, 200},
		{at, "GET", "/metrics", fields{"Host": "evil.example"}, 403},
		{at, "GET", "/", fields{"Host": "evil.example"}, 403},
		{at, "GET", "/live", fields{"Host": "localhost.evil.example"}, 403},
		{at, "GET", "/metrics", fields{"Host": "192.0.2.1"}, 403},
		{at, "GET", "/metrics", fields{"Host": "127.0.0.1.evil.example"}, 403},
		{at, "GET", "/handshakes", fields{"Host": "localhost", "Origin": "https://evil.example"}, 403},
		{at, "GET", "/handshakes", fields{"Host": "localhost", "Origin": "null"}, 403},
		{at, "POST", "/reload", fields{"Host": "localhost", "Origin": "http://localhost.evil.example"}, 403},
		{at, "POST", "/reload", fields{"Host": "localhost", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 403},
		{at, "POST", "/reload", fields{"Host": "localhost", "Sec-Fetch-Site": "same-site"}, 403},
		{at, "POST", "/reload", fields{"Host": "localhost:1", "Origin": "http://localhost:1", "Sec-Fetch-Site": "same-origin"}, 200},
		{at, "GET", "/", fields{"Host": "localhost", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 200}, // a link that is followed
		{at, "GET", "/", fields{"Host": "localhost", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, 403},
		{at, "GET", "/status", fields{"Host": "localhost", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}, 403},
		{far, "GET", "/metrics", fields{"Host": "192.0.2.1:2020"}, 200},
		{far, "GET", "/metrics", fields{"Host": "Padlock.Internal"}, 200},
		{far, "GET", "/metrics", fields{"Host": "evil.example"}, 403},
	} {
		if got := ask(t, c.method, c.at+c.path, c.fields).StatusCode; got != c.want {
			t.Errorf("%s %s %v: %d, not %d", c.method, c.path, c.fields, got, c.want)
		}
	}
}

func TestTheAdminEndpointAsksForItsToken(t *testing.T) {
	url := admin(t, console.Options{}, console.Guard{Network: "tcp", Token: "0123456789abcdef"})
	basic := func(password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte("anybody:"+password))
	}
	for authorization, want := range map[string]int{
		"": 401, "Bearer 0123456789abcdef": 200, "Bearer 0123456789abcdeg": 401, "Bearer ": 401, "Bearer 0123456789abcdef0": 401,
		basic("0123456789abcdef"): 200, basic(""): 401, basic("wrong"): 401, "Basic !": 401,
	} {
		response := ask(t, "GET", url+"/status", map[string]string{"Authorization": authorization})
		if response.StatusCode != want {
			t.Errorf("%q: %d, not %d", authorization, response.StatusCode, want)
		}
		if want == 401 && !strings.HasPrefix(response.Header.Get("WWW-Authenticate"), "Basic ") {
			t.Error("a browser would not ask for it")
		}
	}
}

func TestNoPageOfTheConsoleNeedsAnythingFromElsewhere(t *testing.T) {
	url := admin(t, console.Options{Recent: handshake.NewRecent(4), Trends: console.NewTrends()}, local)
	for _, path := range []string{"/", "/traffic", "/keys", "/handshakes/9", "/console.css", "/console.js"} {
		response := ask(t, "GET", url+path, nil)
		if p := response.Header.Get("Content-Security-Policy"); !strings.Contains(p, "default-src 'none'") || strings.Contains(p, "unsafe") {
			t.Errorf("%s: %q", path, p)
		}
		text := body(t, response)
		for _, bad := range []string{"https://", "//cdn", "<style", " style=", " onclick=", "<script>"} {
			if strings.Contains(text, bad) {
				t.Errorf("%s has %q", path, bad)
			}
		}
	}
}

func TestReadinessAndHealthAreTold(t *testing.T) {
	var leaving atomic.Bool
	certificates := []console.Certificate{{Name: "a.test", Expiring: true}, {Name: "a.test", KeyType: "rsa2048", Expiring: true}, {Name: "b.test"}, {Name: "c.test", Source: "file", NotAfter: &time.Time{}, Expiring: true}}
	url := admin(t, console.Options{Version: "1.2.3", Leaving: leaving.Load, Certificates: func() []console.Certificate { return certificates }, Traffic: func() traffic.Counts {
		return traffic.Counts{Targets: []traffic.TargetCount{{Name: "http://127.0.0.1:1"}, {Name: "http://127.0.0.1:2", Healthy: true}}}
	}}, local)
	want := "ok\nwarning: the certificate of a.test has expired or expires soon, and could not be renewed\nwarning: the certificate of c.test expired on 0001-01-01: replace its file\nwarning: the target http://127.0.0.1:1 is unhealthy\n"
	if got := body(t, ask(t, "GET", url+"/healthz", nil)); got != want {
		t.Errorf("%q", got)
	}
	if code := ask(t, "GET", url+"/readyz", nil).StatusCode; code != 200 {
		t.Error(code)
	}
	var status console.Status
	if err := json.Unmarshal([]byte(body(t, ask(t, "GET", url+"/status", nil))), &status); err != nil || !status.Ready || status.Version != "1.2.3" || len(status.Targets) != 2 || status.Targets[0].State != "unhealthy" {
		t.Errorf("%+v, %v", status, err)
	}
	leaving.Store(true)
	if code := ask(t, "GET", url+"/readyz", nil).StatusCode; code != 503 {
		t.Error(code)
	}
	if code := ask(t, "GET", url+"/healthz", nil).StatusCode; code != 200 {
		t.Error("a padlock that leaves would be killed:", code)
	}
}

func TestHandshakesAreListedAndFollowed(t *testing.T) {
	recent := handshake.NewRecent(4)
	url := admin(t, console.Options{Recent: recent}, local)
	event := func(id uint64, outcome handshake.Outcome, sni string) {
		recent.Handshake(&handshake.Event{ID: id, Outcome: outcome, SNI: sni, Remote: "192.0.2.1:1"})
	}
	event(1, handshake.Complete, "a.test")
	event(2, handshake.Failed, "b.test")
	for query, want := range map[string]string{"": "12", "?outcome=failures": "2", "?sni=a.test": "1", "?remote=192.0.2.9": "", "?outcome=complete": "1"} {
		response, err := http.Get(url + "/handshakes" + query)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		got := ""
		for _, id := range []string{"1", "2"} {
			if strings.Contains(string(body), `"id":`+id+",") {
				got += id
			}
		}
		if got != want {
			t.Errorf("%s: %q, not %q", query, got, want)
		}
	}
	for _, path := range []string{"/handshakes?outcome=fialed", "/handshakes?follow=1&outcome=fialed", "/live?outcome=fialed", "/?outcome=fialed", "/handshakes?version=1.4", "/handshakes?version=TLS"} {
		response, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<16)); response.StatusCode != 400 || !strings.Contains(string(body), " must be one of ") {
			t.Errorf("%s: %s\n%s", path, response.Status, body)
		}
		response.Body.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	request, _ := http.NewRequestWithContext(ctx, "GET", url+"/handshakes?follow=1&format=line", nil)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	go func() {
		for id := uint64(3); ctx.Err() == nil; id++ { // until the follower listens
			event(id, handshake.Complete, "c.test")
			time.Sleep(10 * time.Millisecond)
		}
	}()
	if line, err := bufio.NewReader(response.Body).ReadString('\n'); err != nil || !strings.Contains(line, "c.test") {
		t.Errorf("%q, %v", line, err)
	}
	if response, err := http.Get(url + "/handshakes?format=poem"); err != nil || response.StatusCode != 400 {
		t.Error(response, err)
	}
}
