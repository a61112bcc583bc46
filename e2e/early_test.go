//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"padlock/internal/servicetest"
)

// What padlock answers by itself while curl is still sending its content arrives, over HTTP/1.1 and HTTP/2: curl 7.88 reported an error of the
// stream, and no answer, wherever the reset came together with it.
func TestCurlReadsAnswersToWhatItIsStillSending(t *testing.T) {
	besides(t)
	content := filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(content, make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	nobody := local(servicetest.FreePort(t))
	p := startFile(t, filepath.Dir(write(t, "padlock.yaml", fmt.Sprintf(`
listen: {https: ["127.0.0.1:0"], http: []}
limits: {header_size: 16384}
sites:
  - hosts: [localhost]
    routes:
      - {path: /gone, to: %[1]q}
      - {path: /fixed, respond: {status: 404, body: "fixed"}}
      - {path: /limit, body_limit: 1000, to: %[1]q}
      - {path: /deny, deny: [0.0.0.0/0, "::/0"], to: %[1]q}
      - {path: /moved, redirect: {to: "https://localhost/", status: 308}}
`, nobody))))
	root := p.root(t)
	_, port, _ := net.SplitHostPort(strings.TrimSuffix(strings.TrimPrefix(p.url, "https://"), "/"))
	large := "X-Large: " + strings.Repeat("x", 20<<10)
	for _, version := range []string{"--http1.1", "--http2"} {
		for path, want := range map[string]string{"/gone": "502", "/fixed": "404", "/limit": "413", "/deny": "403", "/none": "404", "/moved": "308", "/large": "431"} {
			for i := range 5 {
				args := []string{"-sS", version, "-m", "60", "-o", os.DevNull, "-w", "%{http_code}", "--cacert", root, "--resolve", "localhost:" + port + ":127.0.0.1", "--data-binary", "@" + content}
				if i%2 == 0 {
					args = append(args, "-H", "Expect:")
				}
				if path == "/large" {
					args = append(args, "-H", large)
				}
				out, err := exec.Command(need(t, "curl"), append(args, "https://localhost:"+port+path)...).CombinedOutput()
				if err != nil || string(out) != want {
					t.Errorf("%s %s: %s, %v", version, path, out, err)
				}
			}
		}
	}
}
