//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

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

// Debian's nginx moves and copies by WebDAV, and leads to directories: behind padlock only where its URLs are rewritten.
func TestWebDAVOfNginxThroughPadlock(t *testing.T) {
	besides(t)
	program, port := need(t, "nginx"), servicetest.FreePort(t)
	dir := t.TempDir()
	configuration := fmt.Sprintf(`
daemon off; master_process off; pid nginx.pid; error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server {
    listen 127.0.0.1:%d;
    location / { root %s/files; dav_methods PUT DELETE MKCOL COPY MOVE; create_full_put_path on; }
  }
}
`, port, dir)
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "files"), 0o755), os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(configuration), 0o600)); err != nil {
		t.Fatal(err)
	}
	nginx := exec.Command(program, "-p", dir, "-c", "nginx.conf", "-e", "stderr")
	said := &log{more: make(chan struct{})}
	nginx.Stderr = said
	if err := nginx.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nginx.Process.Kill(); _ = nginx.Wait() })
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			c.Close()
			break
		} else if time.Since(began) > time.Minute {
			t.Fatalf("nginx: %v\n%s", err, said.wait(t))
		}
	}

	file := fmt.Sprintf(`
listen: {https: ["127.0.0.1:0"], http: [], http3: false}
handshakes: {show: "off"}
access_log: {format: "off"}
sites:
  - hosts: [localhost]
    routes:
      - {path: /dav, to: "127.0.0.1:%[1]d", strip_prefix: true, rewrite_urls: true}
      - {path: /as-is, to: "127.0.0.1:%[1]d", strip_prefix: true}
`, port)
	if err := os.WriteFile(filepath.Join(dir, "padlock.yaml"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startFile(t, dir)
	curl := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(need(t, "curl"), append([]string{"-sS", "--cacert", p.root(t), "-o", filepath.Join(t.TempDir(), "answer"), "-w", "%{http_code} %{redirect_url}"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("curl %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	for _, version := range []string{"--http1.1", "--http2"} {
		for _, step := range []struct {
			want string
			args []string
		}{
			{"201 ", []string{"-X", "PUT", "-d", "text", p.url + "/dav/dir/a"}},
			{"204 ", []string{"-X", "COPY", "-H", "Destination: " + p.url + "/dav/dir/b", p.url + "/dav/dir/a"}},
			{"204 ", []string{"-X", "MOVE", "-H", "Destination: " + p.url + "/dav/dir/c", p.url + "/dav/dir/b"}},
			{"200 ", []string{p.url + "/dav/dir/c"}},
			{"404 ", []string{p.url + "/dav/dir/b"}},
			{"301 " + p.url + "/dav/dir/", []string{p.url + "/dav/dir"}},
			{"400 ", []string{"-X", "MOVE", "-H", "Destination: " + p.url + "/as-is/dir/d", p.url + "/as-is/dir/c"}},
			{"204 ", []string{"-X", "DELETE", p.url + "/dav/dir/"}},
		} {
			if got := curl(append(step.args, version)...); got != step.want {
				t.Errorf("%s %v: %q, not %q", version, step.args, got, step.want)
			}
		}
	}
}
