package proxy_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"padlock/config"
)

// steering is text that would move a terminal's cursor, change its title, turn its writing round or end a line, where it is shown as it is.
// What a field's value cannot hold by HTTP is left out.
const steering = "\u009b2J\u0085\u009d0;title\u009c\u202e\u2066\u200f\ufeff\xff\xc2\u2028'\"\\<script>alert(1)</script>`$(id)%n{{.}}"

// steers reports what in a text could act on a terminal.
func steers(text string) string {
	if !utf8.ValidString(text) {
		return "invalid UTF-8"
	}
	for _, r := range text {
		if r != '\n' && !unicode.IsPrint(r) {
			return string(r)
		}
	}
	return ""
}

// Whatever a client puts into its host, path, fields, name and certificate stands in the access log as harmless text, a line for each request.
func TestNoTextOfAClientActsThroughTheAccessLog(t *testing.T) {
	ca := newAuthority(t)
	evil := ca.client(t, 7, pkix.Name{CommonName: "\x1b[2J\r\n" + strings.ToValidUTF8(steering, "?"), Organization: []string{"\u202e\u009b"}})
	app := script(t, "HTTP/1.1 200 "+strings.ToValidUTF8(steering, "?")+"\r\nContent-Length: 0\r\nX: "+strings.ToValidUTF8(steering, "?")+"\r\n\r\n", "HTTP/1.1 200 OK\r\nX: \x1b]0;evil\a\r\n\r\n")
	for _, format := range []string{"json", "combined"} {
		e := startFile(t, `
sites:
  - {hosts: [localhost], tls: {client_auth: {mode: request, ca: %s}}, routes: [{to: "http://%s"}, {path: /dead, to: "127.0.0.1:1"}]}
`, ca.file, app.Addr())
		e = withLog(t, e, format)
		lines := 0
		for _, path := range []string{"/0", "/1", "/dead/%1b[2J%0d%0a%9b", `/0?"\<>|` + "`", "/nothing"} {
			for _, fields := range [][]string{
				{"User-Agent: " + steering, "Referer: " + steering, "X-Evil: " + steering, "Authorization: Basic " + steering}, {"User-Agent: \t\t", "Referer: https://x/?token=" + steering}, {"User-Agent: " + strings.Repeat("\u009b", 1000)}, {"User-Agent: \x80\x9b\xff"},
			} {
				c := e.tls()
				c.Certificates, c.NextProtos = []tls.Certificate{evil}, []string{"http/1.1"}
				conn, err := tls.Dial("tcp", e.address, c)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"+strings.Join(fields, "\r\n")+"\r\n\r\n")
				answer, _ := io.ReadAll(conn)
				conn.Close()
				if !strings.HasPrefix(string(answer), "HTTP/1.1 ") {
					t.Fatalf("%s %q: %q", path, fields, answer)
				}
				lines++
			}
		}
		if err := e.stop(); err != nil {
			t.Fatal(err)
		}
		log := e.access.String()
		if got := strings.Count(log, "\n"); got != lines {
			t.Errorf("%s: %d lines of %d requests", format, got, lines)
		}
		if bad := steers(log); bad != "" {
			t.Errorf("%s: %q stands in the log as it is:\n%.3000q", format, bad, log)
		}
		for line := range strings.Lines(log) {
			if format == "json" && !json.Valid([]byte(line)) {
				t.Errorf("no JSON: %s", line)
			}
			if format == "combined" && strings.Count(line, `"`) != 6 {
				t.Errorf("not six quotes: %s", line)
			}
		}
		if !strings.Contains(log, "u009b") && !strings.Contains(log, `\xc2\x9b`) {
			t.Errorf("%s: what the client sent is not told:\n%.2000s", format, log)
		}
	}
}

// withLog is the same edge with another access log.
func withLog(t *testing.T, e *edge, format string) *edge {
	t.Helper()
	return start(t, "http://127.0.0.1:1", func(c *config.Config) {
		*c = *e.config
		c.AccessLog.Format, c.AccessLog.Headers = format, []string{"X-Evil", "Referer"}
	})
}

// Error pages show nothing of a request that a browser would run.
func TestErrorPagesRunNothing(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	e := start(t, "http://"+dead.Addr().String(), nil)
	for _, accept := range []string{"text/html", "application/json", "text/plain", "*/*", "<script>alert(1)</script>"} {
		for _, host := range []string{"localhost", "other.test"} {
			answer := e.say(t, "GET /<script>alert(1)</script>?\"onload='alert(1)' HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\nAccept: "+accept+"\r\nUser-Agent: <script>alert(1)</script>\r\nReferer: javascript:alert(1)\r\n\r\n")
			response, err := http.ReadResponse(bufio.NewReader(strings.NewReader(answer)), nil)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(answer, "<script") || strings.Contains(answer, "alert(1)") || response.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s %s: %s", accept, host, answer)
			}
		}
	}
}
