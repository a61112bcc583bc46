//go:build e2e

package e2e

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Behind a real oauth2-proxy, nobody sees the app without a login, whoever has logged in sees it over every protocol, and the app learns who that is from oauth2-proxy alone.
func TestExampleForwardAuth(t *testing.T) {
	besides(t)
	dir := example(t, "forward-auth")
	auth, app := freePort(t), freePort(t)
	for _, program := range []*exec.Cmd{
		exec.Command(need(t, "oauth2-proxy"), "--config", "oauth2-proxy.cfg", "--http-address", "127.0.0.1:"+auth), exec.Command(need(t, "python3"), "app.py"),
	} {
		program.Dir, program.Env = dir, append(os.Environ(), "APP_PORT="+app)
		if err := program.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = program.Process.Kill(); _ = program.Wait() })
	}
	p := startFile(t, dir, "AUTH_PORT="+auth, "APP_PORT="+app)
	u, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-sS", "--cacert", p.root(t), "--resolve", u.Host + ":127.0.0.1", "-w", "\n%{http_code} %{redirect_url}"}
	jar := filepath.Join(t.TempDir(), "jar")
	curl := func(more ...string) (string, error) {
		out, err := exec.Command(need(t, "curl"), append(args, more...)...).CombinedOutput()
		return string(out), err
	}
	see := func(want string, more ...string) {
		t.Helper()
		out, err := curl(more...)
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%v: %v\n%s", more, err, out)
		}
	}

	// Both programs take a moment until they listen.
	eventually(t, func() (string, error) { return curl("--fail", "-u", "demo:demo", p.url) })
	see("\n403 ", "-H", "X-Auth-Request-User: demo", p.url+"/a?b=c")
	see("\n302 "+p.url+"/a?b=c", "-c", jar, "-d", "username=demo", "-d", "password=demo", "--data-urlencode", "rd=/a?b=c", p.url+"/oauth2/sign_in")
	for _, protocol := range []string{"--http1.1", "--http2"} {
		see("hello demo\n\n200 ", protocol, "-b", jar, "-H", "X-Auth-Request-User: root", "-H", "X_Auth_Request_User: root", p.url+"/a?b=c")
	}
	see("\n403 ", "-b", strings.Repeat("x=y; ", 10)+"_oauth2_proxy=forged", p.url)
}
