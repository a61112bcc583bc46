package proxy_test

import (
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"padlock/config"
)

// What should stay secret does not reach the log, and what a client sends cannot make a line of its own.
func TestTheAccessLogKeepsSecretsAndLines(t *testing.T) {
	app := backend(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "content") })
	for _, format := range []string{"json", "combined"} {
		e := start(t, app, func(c *config.Config) {
			c.AccessLog.Format = format
			c.AccessLog.Headers = []string{"Referer", "Authorization", "Cookie", "X-Tenant"}
		})
		request, _ := http.NewRequest("GET", "https://localhost/path?a=1&token=hunter2&%74oken=hunter2&b=2", nil)
		request.Header.Set("Authorization", "Bearer hunter2")
		request.Header.Set("Cookie", "session=hunter2")
		request.Header.Set("Referer", "https://elsewhere.test/?password=hunter2")
		request.Header.Set("User-Agent", `agent "quoted" \ 	tab`)
		request.Header.Set("X-Tenant", "blue")
		response, err := e.clients(t)["h1"].Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if err := e.stop(); err != nil {
			t.Fatal(err)
		}
		log := e.access.String()
		if strings.Contains(log, "hunter2") || strings.Count(log, "\n") != 1 {
			t.Errorf("%s: %s", format, log)
		}
		if format == "combined" {
			want := regexp.MustCompile(`^127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /path\?a=1&token=REDACTED&%74oken=REDACTED&b=2 HTTP/1\.1" 200 7 ` +
				`"https://elsewhere\.test/\?password=REDACTED" "agent \\x22quoted\\x22 \\x5c \\x09tab"\n$`)
			if !want.MatchString(log) {
				t.Errorf("combined: %s", log)
			}
			continue
		}
		var line map[string]any
		if err := json.Unmarshal([]byte(log), &line); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"time", "request_id", "host", "method", "target", "proto", "status", "bytes_in", "bytes_out", "duration_ms", "remote", "handshake", "upstream", "wait_ms", "connect_ms", "first_byte_ms", "user_agent"} {
			if _, ok := line[key]; !ok {
				t.Errorf("no %s in %s", key, log)
			}
		}
		headers, _ := line["headers"].(map[string]any)
		if headers["authorization"] != "REDACTED" || headers["cookie"] != "REDACTED" || headers["x-tenant"] != "blue" {
			t.Errorf("headers: %v", headers)
		}
	}
}

// Requests of plain HTTP have a line each too, whatever they get, with the client that a trusted proxy names and without the keys that a client
// sends there by mistake.
func TestRedirectsToHTTPSAreLogged(t *testing.T) {
	t.Parallel()
	keys := keyFile(t)
	e := startFile(t, `
trusted_proxies: [127.0.0.1]
access_log: {headers: [X-Key, X-Tenant]}
sites: [{hosts: [localhost], api_keys: {file: %q, header: X-Key}, routes: [{respond: {body: served}}]}]
`, keys)
	for request, want := range map[string]string{
		"GET /a?token=hunter2 HTTP/1.1\r\nHost: localhost\r\nX-Key: cron-key-0123456789\r\nX-Tenant: blue\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n": "308",
		"GET /b HTTP/1.1\r\nHost: stranger.test\r\n\r\n": "404",
	} {
		if answer := speak(t, e.plain, request); !strings.HasPrefix(answer, "HTTP/1.1 "+want) {
			t.Errorf("%q: %q", request, answer)
		}
	}
	if err := e.stop(); err != nil {
		t.Fatal(err)
	}
	log := e.access.String()
	if strings.Contains(log, "hunter2") || strings.Contains(log, "cron-key") || strings.Count(log, "\n") != 2 {
		t.Errorf("%s", log)
	}
	for _, want := range []string{`"target":"/a?token=REDACTED","proto":"HTTP/1.1","status":308,`, `"client":"192.0.2.7"`, `"headers":{"x-key":"REDACTED","x-tenant":"blue"}`, `"host":"stranger.test","method":"GET","target":"/b","proto":"HTTP/1.1","status":404,`} {
		if !strings.Contains(log, want) {
			t.Errorf("no %s in %s", want, log)
		}
	}
}
