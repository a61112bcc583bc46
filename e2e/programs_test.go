//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Programs with a store of their own trust the local CA by what padlock trust --env prints, each in a handshake of its own; without it they do
// not. Variables that replace the system's roots name a file that has those too.
func TestProgramsTrustTheLocalCAByTheirVariables(t *testing.T) {
	besides(t)
	p := start(t)
	java := filepath.Join(t.TempDir(), "Get.java")
	if err := os.WriteFile(java, []byte(`public class Get { public static void main(String[] a) throws Exception { System.out.print(new String(new java.net.URI(a[0]).toURL().openStream().readAllBytes())); } }`), 0o600); err != nil {
		t.Fatal(err)
	}
	python := `import sys; `
	for name, test := range map[string]struct {
		variable string
		command  []string
		want     string
	}{
		"Node.js":           {"NODE_EXTRA_CA_CERTS", []string{"node", "-e", `fetch(process.argv[1]).then(r => r.text()).then(console.log).catch(e => { console.error(e); process.exit(1) })`, p.url}, "This connection is encrypted"},
		"Python":            {"SSL_CERT_FILE", []string{"/usr/bin/python3", "-c", python + `import urllib.request; print(urllib.request.urlopen(sys.argv[1]).read())`, p.url}, "This connection is encrypted"},
		"Python's requests": {"REQUESTS_CA_BUNDLE", []string{"/usr/bin/python3", "-c", python + `import requests; print(requests.get(sys.argv[1]).text)`, p.url}, "This connection is encrypted"},
		"curl":              {"CURL_CA_BUNDLE", []string{"curl", "-sS", "--fail", p.url}, "This connection is encrypted"},
		"git":               {"GIT_SSL_CAINFO", []string{"git", "ls-remote", p.url + "/repository"}, "not found"},
		"Java":              {"JAVA_TOOL_OPTIONS", []string{"java", java, p.url}, "This connection is encrypted"},
	} {
		t.Run(name, func(t *testing.T) {
			need(t, test.command[0])
			script := `"$@"`
			for _, trusting := range []bool{false, true} {
				if trusting {
					script = `eval "$(` + binary + ` trust --env --java --storage "$STORAGE")"; for v in NODE_EXTRA_CA_CERTS DENO_CERT SSL_CERT_FILE REQUESTS_CA_BUNDLE CURL_CA_BUNDLE GIT_SSL_CAINFO AWS_CA_BUNDLE JAVA_TOOL_OPTIONS; do
	[ "$v" = ` + test.variable + ` ] || unset $v; done; "$@"`
				}
				c := exec.Command("sh", append([]string{"-c", script, "sh"}, test.command...)...)
				c.Env = append(os.Environ(), "HOME="+p.home, "STORAGE="+p.storage, "GIT_TERMINAL_PROMPT=0", "LC_ALL=C")
				out, err := c.CombinedOutput()
				if got := strings.Contains(string(out), test.want); got != trusting {
					t.Errorf("with the variable %v: %v\n%s", trusting, err, out)
				}
			}
		})
	}

	printed, err := command(p.home, "trust", "--env", "--storage", p.storage).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, variable := range []string{"NODE_EXTRA_CA_CERTS", "DENO_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "AWS_CA_BUNDLE"} {
		if !strings.Contains(string(printed), "export "+variable+"=") {
			t.Errorf("%s is missing in\n%s", variable, printed)
		}
	}
	system, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := os.ReadFile(filepath.Join(p.storage, "localca", "programs", "bundle.pem"))
	root, failed := os.ReadFile(p.root(t))
	if err != nil || failed != nil || string(bundle) != strings.TrimRight(string(system), "\n")+"\n"+string(root) {
		t.Errorf("the bundle is not the system's roots and the local CA's: %v, %v", err, failed)
	}
	if strings.Contains(string(bundle), "PRIVATE KEY") {
		t.Error("the bundle has a key")
	}
}
