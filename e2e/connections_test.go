//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
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

// docker exec and docker run -i go over from HTTP to a protocol of their own, in which the end of the input is passed on and the output goes on.
func TestDockerRunsThroughPadlock(t *testing.T) {
	besides(t)
	dir := t.TempDir()
	file := `
listen: {https: ["127.0.0.1:0"], http: [], http3: false}
handshakes: {show: "off"}
access_log: {format: "off"}
sites: [{hosts: [localhost], routes: [{to: "unix:/var/run/docker.sock", upgrades: [websocket, tcp]}]}]
`
	if err := os.WriteFile(filepath.Join(dir, "padlock.yaml"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	image := appImage(t)
	c := runContainer(t, image)
	p := startFile(t, dir)
	host := "tcp://" + strings.TrimPrefix(p.url, "https://")
	for _, args := range [][]string{
		{"exec", "-i", c.name, "/container", "cat"},
		{"run", "-i", "--rm", image, "cat"},
	} {
		command := exec.Command("docker", append([]string{"-H", host, "--tlsverify", "--tlscacert", p.root(t)}, args...)...)
		command.Stdin = strings.NewReader(strings.Repeat("some input\n", 10_000))
		out, err := command.CombinedOutput()
		if want := strings.Repeat("some input\n", 10_000) + "the end\n"; err != nil || string(out) != want {
			t.Errorf("docker %v: %v, %d bytes of %d: %.200s", args, err, len(out), len(want), out)
		}
	}
}
