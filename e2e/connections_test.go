//go:build e2e

package e2e

import (
	"os/exec"
	"strings"
	"testing"

	"padlock/internal/servicetest"
)

// curl authenticates itself with NTLM, over HTTP/1.1 and from HTTP/2 on, and sends a second request without credentials: it is still the user,
// and nobody else is.
func TestCurlAuthenticatesItsConnection(t *testing.T) {
	besides(t)
	target := servicetest.StartNTLM(t, "NTLM")
	p := start(t, target.URL)
	curl := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(need(t, "curl"), append([]string{"-sS", "--cacert", p.root(t), "-w", "%{http_code} %{http_version}\n"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("curl %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	for _, version := range []string{"--http1.1", "--http2"} {
		if got, want := curl(version, "--ntlm", "-u", "alice:secret", p.url+"/1", p.url+"/2"), "alice\n200 1.1\nalice\n200 1.1\n"; got != want {
			t.Errorf("curl %s: %q, not %q", version, got, want)
		}
		for range 3 {
			if got := curl(version, p.url); !strings.Contains(got, "\n401 ") || strings.Contains(got, "alice") {
				t.Errorf("curl %s without credentials: %q", version, got)
			}
		}
	}
}

// oneByOne is Python's server without threads: while a connection is open, it accepts no other.
const oneByOne = `
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        self.send_response(200)
        self.send_header('Content-Length', '3')
        self.end_headers()
        self.wfile.write(b'ok\n')
    def log_message(self, *args):
        pass
server = http.server.HTTPServer(('127.0.0.1', 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
`

// Python's own server, which serves one connection at a time, answers requests that come at once, where padlock keeps none of its connections.
func TestAPythonServerThatServesOneConnectionAtATime(t *testing.T) {
	besides(t)
	p := start(t, script(t, "python3", "-c", oneByOne), "--keepalive", "off")
	args := []string{"-sS", "--fail", "--cacert", p.root(t), "--parallel", "--parallel-immediate", "--max-time", "120"}
	for range 12 {
		args = append(args, p.url)
	}
	for _, version := range []string{"--http1.1", "--http2"} {
		out, err := exec.Command(need(t, "curl"), append(args, version)...).CombinedOutput()
		if got := strings.Count(string(out), "ok\n"); err != nil || got != 12 {
			t.Errorf("%s: %d of 12 answers, %v\n%s", version, got, err, out)
		}
	}
}
