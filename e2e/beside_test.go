//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// besideRow is an input, and what comes of it.
type besideRow struct {
	input   string
	padlock string // what padlock makes of it
	liberal bool   // another proxy does the same
	ask     func(t *testing.T, p *peer) string
}

// besideAnswers are what the target sends, by the path that it is asked for.
var besideAnswers = map[string]string{
	"/padded":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6  \r\ntarget\r\n0\r\n\r\n",
	"/twice":    "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nContent-Length: 6\r\n\r\ntarget",
	"/both":     "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n6\r\ntarget\r\n0\r\n\r\n",
	"/contrary": "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nContent-Length: 5\r\n\r\ntarget",
	"/two":      "HTTP/2.0 404 Not Found\r\nContent-Length: 6\r\n\r\ntarget",
	"/h2":       "HTTP/2 404 Not Found\r\nContent-Length: 6\r\n\r\ntarget",
	"/coding":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n6\r\ntarget\r\n0\r\n\r\n",
	"/codings":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n6\r\ntarget\r\n0\r\n\r\n",
	"/600":      "HTTP/1.1 600 Odd\r\nContent-Length: 6\r\n\r\ntarget",
	"/999":      "HTTP/1.1 999 Request Denied\r\nContent-Length: 6\r\n\r\ntarget",
	"/lf":       "HTTP/1.1 200 OK\nX-Seen: one\nContent-Length: 6\n\ntarget",
	"/folded":   "HTTP/1.1 200 OK\r\nX-Seen: one\r\n  two\r\nContent-Length: 6\r\n\r\ntarget",
	"/nul":      "HTTP/1.1 200 OK\r\nX-Seen: one\x00\r\nContent-Length: 6\r\n\r\ntarget",
	"/cut":      "HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\ntarget",
	"/alt-svc":  "HTTP/1.1 200 OK\r\nAlt-Svc: h3=\":4430\"\r\nContent-Length: 6\r\n\r\ntarget",
	"/moved":    "HTTP/1.1 302 Found\r\nLocation: http://SELF/login\r\nContent-Length: 0\r\n\r\n",
}

// String is what a client sees of an answer.
func (s glimpse) String() string {
	text := ""
	if s.status != 0 {
		text = fmt.Sprint(s.status)
	}
	for _, more := range []string{strings.TrimSpace(s.fields.Get("X-Seen")), s.end} {
		if more != "" && text != "" {
			text += ", "
		}
		text += more
	}
	return text
}

// told is what the target is told by a field.
func (s glimpse) told(name string) string {
	var values []string
	for line := range strings.Lines(s.asked) {
		if field, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(field, name) {
			values = append(values, strings.TrimSpace(value))
		}
	}
	if len(values) == 0 {
		return "not sent"
	}
	return "`" + strings.Join(values, "`, `") + "`"
}

// target is what the target is asked for.
func (s glimpse) target() string {
	line, _, _ := strings.Cut(s.asked, "\r\n")
	if line == "" {
		return s.String()
	}
	return s.String() + ", forwarded as `" + strings.Fields(line)[1] + "`"
}

// besideRows are the inputs, in the order of the table.
func besideRows() []besideRow {
	one := func(text string) func(*testing.T, *peer) string {
		return func(t *testing.T, p *peer) string { return p.one(t, text).String() }
	}
	get := func(path string, fields ...string) string {
		lines := append([]string{"GET " + path + " HTTP/1.1", "Host: localhost:PORT", "Connection: close"}, fields...)
		return strings.Join(lines, "\r\n") + "\r\n\r\n"
	}
	return []besideRow{
		{"request: a space in the query, over HTTP/2", "400, RST_STREAM PROTOCOL_ERROR", false,
			func(t *testing.T, p *peer) string { return p.two(t, "/?q=a b").String() }},
		{"request: a control character in the query, over HTTP/2", "400, RST_STREAM PROTOCOL_ERROR", false,
			func(t *testing.T, p *peer) string { return p.two(t, "/?q=a\x01b").String() }},
		{"request: a space in the query", "400", false, one(get("/?q=a b"))},
		{"request: raw UTF-8 in the query", "200, forwarded as `/?q=größe`", true, func(t *testing.T, p *peer) string { return p.one(t, get("/?q=größe")).target() }},
		{"request: raw UTF-8 in the query, over HTTP/2", "200, forwarded as `/?q=größe`", true,
			func(t *testing.T, p *peer) string { return p.two(t, "/?q=größe").target() }},
		{"request: white space after a chunk size", "400", false, one("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2  \r\nhi\r\n0\r\n\r\n")},
		{"request: a repeated Content-Length", "400", false, one("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")},
		{"request: Content-Length with Transfer-Encoding", "400", false, one("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nhi\r\n0\r\n\r\n")},
		{"request: lines that end with a bare LF", "400", false, one("GET / HTTP/1.1\nHost: localhost\nConnection: close\n\n")},
		{"request: a folded header line", "400", false, one("GET / HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n c\r\nConnection: close\r\n\r\n")},
		{"response: white space after a chunk size", "200", true, one(get("/padded"))},
		{"response: a repeated Content-Length", "200", true, one(get("/twice"))},
		{"response: two different Content-Length values", "502", false, one(get("/contrary"))},
		{"response: Content-Length with Transfer-Encoding", "200", true, one(get("/both"))},
		{"response: status line `HTTP/2.0 404`", "404", true, one(get("/two"))},
		{"response: status line `HTTP/2 404`", "404", false, one(get("/h2"))},
		{"response: Transfer-Encoding: chunked in two fields", "200", true, one(get("/coding"))},
		{"response: Transfer-Encoding: chunked, chunked", "200", true, one(get("/codings"))},
		{"response: status 600", "600", true, one(get("/600"))},
		{"response: status 999", "999", true, one(get("/999"))},
		{"response: lines that end with a bare LF", "200, one", true, one(get("/lf"))},
		{"response: a folded header line", "200, one two", true, one(get("/folded"))},
		{"response: NUL in a header", "502", false, one(get("/nul"))},
		{"response: the connection closes before the end of the body", "200, cut", false, one(get("/cut"))},
		{"response: the target's Alt-Svc", "dropped", false, func(t *testing.T, p *peer) string {
			if strings.Contains(strings.Join(p.one(t, get("/alt-svc")).fields["Alt-Svc"], ""), ":4430") {
				return "passed"
			}
			return "dropped"
		}},
		{"response: Location with the target's own address", "`https://localhost:PORT/login`", true,
			func(t *testing.T, p *peer) string { return "`" + p.one(t, get("/moved")).fields.Get("Location") + "`" }},
		{"sent to the target: Destination of a MOVE", "`http://localhost:PORT/b`", false, func(t *testing.T, p *peer) string {
			return p.one(t, "MOVE /a HTTP/1.1\r\nHost: localhost:PORT\r\nDestination: https://localhost:PORT/b\r\nConnection: close\r\n\r\n").told("Destination")
		}},
		{"sent to the target: X-Forwarded-Port", "`PORT`", false, func(t *testing.T, p *peer) string { return p.one(t, get("/")).told("X-Forwarded-Port") }},
		{"sent to the target: X-Forwarded-Prefix, for `/app/x` forwarded as `/x`", "`/app`", false,
			func(t *testing.T, p *peer) string { return p.one(t, get("/app/x")).told("X-Forwarded-Prefix") }},
		{"sent to the target: X-Forwarded-User of an untrusted client", "not sent", false,
			func(t *testing.T, p *peer) string {
				return p.one(t, get("/", "X-Forwarded-User: root")).told("X-Forwarded-User")
			}},
		{"sent to the target: Cookie, in two fields over HTTP/2", "`a=1; b=2`", true,
			func(t *testing.T, p *peer) string { return p.two(t, "/", "cookie=a=1", "cookie=b=2").told("Cookie") }},
		{"curl sends 3 MiB; the limit is 1,000 bytes", "413", true, curlSends("--http1.1", "/limit")},
		{"the same, over HTTP/2", "413", true, curlSends("--http2", "/limit")},
		{"curl sends 3 MiB to a path that the proxy answers with 404, over HTTP/2", "404", true, curlSends("--http2", "/none")},
	}
}

// curlSends is what curl makes of an answer that comes while it sends.
func curlSends(version, path string) func(*testing.T, *peer) string {
	return func(t *testing.T, p *peer) string {
		content := filepath.Join(t.TempDir(), "content")
		if err := os.WriteFile(content, make([]byte, 3<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		port := portOf(p.address)
		c := exec.Command(need(t, "curl"), "-s", version, "-m", "60", "-o", os.DevNull, "-w", "%{http_code}", "--cacert", p.root, "-H", "Expect:",
			"--resolve", "localhost:"+port+":127.0.0.1", "--data-binary", "@"+content, "https://localhost:"+port+path)
		out, err := c.Output()
		if err != nil {
			return fmt.Sprintf("curl fails (%d)", c.ProcessState.ExitCode())
		}
		return string(out)
	}
}

// The same inputs through nginx, HAProxy, Caddy and padlock, with the same targets behind them: docs/beside.md is what each makes of them, which
// UPDATE_DOCS=1 writes. padlock is no stricter with harmless mistakes than all of the others are, and repairs no request.
func TestTheSameInputsThroughOtherProxies(t *testing.T) {
	works(t)
	rows := besideRows()
	peers := startPeers(t, besideAnswers)
	cells := make([][]string, len(peers))
	var all sync.WaitGroup
	for i, p := range peers {
		all.Go(func() {
			for _, row := range rows {
				cell := row.ask(t, p)
				cell = strings.ReplaceAll(strings.ReplaceAll(cell, p.target.address, "TARGET"), portOf(p.address), "PORT")
				cells[i] = append(cells[i], cell)
			}
		})
	}
	all.Wait()

	var table bytes.Buffer
	table.WriteString(besideHead)
	names := "| |"
	for _, p := range peers {
		names += " " + strings.TrimSpace(p.name+" "+p.version) + " |"
	}
	fmt.Fprintf(&table, "%s\n|---|---|---|---|---|\n", names)
	for i, row := range rows {
		others := []string{cells[0][i], cells[1][i], cells[2][i]}
		if got := cells[3][i]; got != row.padlock {
			t.Errorf("%s: padlock: %s, not %s", row.input, got, row.padlock)
		}
		if row.liberal && !slices.Contains(others, row.padlock) {
			t.Errorf("%s: padlock: %s, and none of the others: %q", row.input, row.padlock, others)
		}
		fmt.Fprintf(&table, "| %s | %s | %s |\n", row.input, strings.Join(others, " | "), cells[3][i])
	}
	t.Logf("\n%s", table.String())
	besideDocument(t, table.Bytes(), rows)
}

const besideHead = "# The same inputs through other proxies\n\nThis table shows how nginx, HAProxy, Caddy and padlock handle the same messages, with the same target, each set up as its documentation " +
	"recommends\nfor a proxy in front of an application. `TestTheSameInputsThroughOtherProxies` sends the messages and writes this table. A cell begins with the status that the " +
	"client receives.\n\npadlock rejects every request that two readers could understand differently, and corrects harmless errors in responses: " +
	"[architecture](architecture.md#http11-what-is-refused).\n\n"

// besideDocument writes the document, or finds padlock's column in it.
func besideDocument(t *testing.T, table []byte, rows []besideRow) {
	t.Helper()
	const file = "../docs/beside.md"
	if os.Getenv("UPDATE_DOCS") == "1" {
		if err := os.WriteFile(file, table, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		stands := false
		for line := range strings.Lines(string(text)) {
			stands = stands || strings.HasPrefix(line, "| "+row.input+" |") && strings.HasSuffix(line, "| "+row.padlock+" |\n")
		}
		if !stands {
			t.Errorf("%s does not say %q of %q: run this test with UPDATE_DOCS=1", file, row.padlock, row.input)
		}
	}
}
