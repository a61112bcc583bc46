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
