//go:build e2e

package e2e

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"padlock/internal/servicetest"
)

// documented are the commands in README and docs. Each is run: here, or by the test that is named.
var documented = map[string]howRun{
	"go run ./cmd/padlock":                      by("TestTheCommandLine"), // make test and this are what .ci and every contributor run first
	"make test":                                 by("TestEveryDocumentedCommandIsRun"),
	"go install ./cmd/padlock":                  by("TestPadlockIsInstalledFromACheckout"),
	"padlock version":                           answers(0, "padlock "),
	"padlock 3000":                              serves("https://localhost → http://localhost:3000"),
	"padlock ./public":                          serves("https://localhost → files in ./public"),
	"padlock --listen 127.0.0.1:9443":           serves("https://localhost:9443"),
	"padlock --listen 127.0.0.1:8443":           serves("https://localhost:8443"),
	"padlock 3000 --admin 127.0.0.1:2020":       serves("console at http://127.0.0.1:2020"),
	"padlock 3000 --lan":                        by("TestAPhoneComesToTrustPadlock"),
	"padlock 3000 --otlp http://127.0.0.1:4318": serves("traces go to http://127.0.0.1:4318"),
	"curl --unix-socket ~/.local/share/padlock/admin.sock http://localhost/metrics": by("TestACollectorThatIsAwayCostsSpansOnly"),
	"padlock 3000 --capture handshakes.pcapng --insecure-export-secrets":            serves("https://localhost"),
	"padlock proxy --from shop.localhost --to 3000":                                 serves("https://shop.localhost → http://localhost:3000"),
	"padlock proxy --from shop.test --to 3000":                                      serves("https://shop.test → http://localhost:3000"),
	"padlock proxy --from app.example.com --to app:3000 --email ops@example.com":    serves("certificates from 127.0.0.1:14000 for app.example.com"),
	"padlock dev npm run dev":                                                       by("TestAppsAreServedByTheirNames"),
	"padlock dev --lan npm run dev":                                                 by("TestDevicesNearbyAskForAnApp"),
	"padlock dev list":                                                              by("TestTheCommandsOfPadlockDev"),
	"padlock dev url shop":                                                          by("TestAppsAreServedByTheirNames"),
	"padlock dev open shop":                                                         by("TestTheCommandsOfPadlockDev"),
	"padlock dev logs shop":                                                         by("TestABrowserWaitsForAnApp"),
	"padlock dev stop shop":                                                         by("TestAppsAreServedByTheirNames"),
	"padlock run --config padlock.yaml":                                             serves("https://app.localhost → http://localhost:3000"),
	"padlock check --config padlock.yaml":                                           answers(0, "padlock.yaml is valid"),
	"padlock reload":                                                                by("TestReloadAfterReloadFailsNoRequest"),
	"padlock maintenance on www.example.com --until 30m --allow 203.0.113.7":        by("TestMaintenanceByCommand"),
	"padlock deploy www.example.com --to app-v2:3000 --health /up":                  by("TestExampleDeploy"),
	"padlock deploy www.example.com --from canary-v1:3000 --to canary-v2:3000":      by("TestACanaryIsDeployedByItsTarget"),
	"padlock deploy status":                                                         by("TestExampleDeploy"),
	"padlock deploy rollback www.example.com":                                       by("TestExampleDeploy"),
	"padlock maintenance status":                                                    by("TestMaintenanceByCommand"),
	"padlock maintenance off www.example.com":                                       by("TestMaintenanceByCommand"),
	"padlock console":                                                               by("TestTheConsoleOfASocketIsOpenedByACommand"),
	"padlock watch --outcome failures":                                              by("TestWatchShowsHandshakesAsTheyHappen"),
	"padlock watch --requests --status 5xx":                                         by("TestTheInspectorShowsRequestsAndSendsThemAgain"),
	"padlock watch --outcome failures --format line":                                by("TestWatchShowsHandshakesAsTheyHappen"),
	"padlock probe example.com":                                                     by("TestProbeJudgesAServer"),
	"padlock doctor":                                                                by("TestDoctorFindsNothingWrong"),
	"padlock explain \"SEC_ERROR_UNKNOWN_ISSUER\"":                                  answers(0, "The CA is not trusted"),
	"padlock lab": by("TestTheLabsPageInBrowsers"),
	"padlock lab --check -- curl -sS --cacert {root} {url}":                               by("TestTheLabAgainstRealClients"),
	"padlock lab --check -- wget -q -O /dev/null --tries=1 --ca-certificate={root} {url}": by("TestTheLabAgainstRealClients"),
	"padlock lab --check -- python3 client.py {url} {root}":                               by("TestTheLabAgainstRealClients"),
	"padlock lab --check -- node client.js {url} {root}":                                  by("TestTheLabAgainstRealClients"),
	"padlock lab --check -- ./client {url} {root}":                                        by("TestTheLabAgainstRealClients"),
	"padlock hosts add $(padlock lab --names)":                                            by("TestTheLabsNamesInTheHostsFile"),
	"padlock hosts remove $(padlock lab --names)":                                         by("TestTheLabsNamesInTheHostsFile"),
	"sh -c 'printf \"GET / HTTP/1.0\\r\\n\\r\\n\" | openssl s_client -quiet -verify_return_error -verify_hostname $0 -servername $0 -CAfile $1 -connect $2' {host} {root} {connect}": by("TestTheLabAgainstRealClients"),
	"sh -c 'printf \"GET / HTTP/1.0\\r\\n\\r\\n\" | gnutls-cli --x509cafile $1 --port $2 $0' {host} {root} {port}":                                                                   by("TestTheLabAgainstRealClients"),
	"padlock trust":                               by("TestTrustIsVerifiedStoreByStore"),
	"padlock trust --renew":                       by("TestTrustRenewReplacesTheRootEverywhere"),
	"padlock certs encrypt":                       by("TestAStorageOfBeforeTheKeyIsEncryptedByOneCommand"),
	"padlock certs encrypt --config padlock.yaml": by("TestAStorageOfBeforeTheKeyIsEncryptedByOneCommand"),
	"padlock trust --print > root.pem":            answers(0, ""),
	"curl --cacert root.pem https://localhost/":   by("TestCurlAndOpenSSLSeeThePageAndTheTerminalTellsEveryStage"),
	"padlock certs list":                          answers(0, "No certificate is kept here"),
	"padlock certs csr --organization \"Example Ltd\" --country GB --locality London shop.example.com": answers(0, "shop.example.com.csr"),
	"padlock certs import shop.example.com.crt --key shop.example.com.key --intermediates ca.pem":      by("TestACertificateThatWasBought"),
	"padlock certs inspect app.example.com":                                                            by("TestTheCertsCommandsAgainstACA"),
	"padlock certs obtain app.example.com":                                                             by("TestTheCertsCommandsAgainstACA"),
	"padlock certs renew --force app.example.com":                                                      by("TestTheCertsCommandsAgainstACA"),
	"padlock certs revoke --reason key-compromise app.example.com":                                     by("TestTheCertsCommandsAgainstACA"),
	"padlock certs remove app.example.com":                                                             by("TestTheCertsCommandsAgainstACA"),
	"tar -C /var/lib/padlock -czf padlock-backup.tar.gz .":                                             by("TestABackupOfTheStorageIsRestored"),
	"go test -tags e2e -v -run TheConsoleUnder ./e2e -console-rounds 3":                                by("TestTheConsoleUnderManyHandshakes"),
	"docker run -p 80:80 -p 443:443 -p 443:443/udp -v padlock:/data padlock app.example.com=app:3000":  by("TestAContainerWithoutPrivilegesServesAnApp"),

	"docker build -t padlock .":                                 by("TestTheImageIsSmallAndReproducible"),
	"docker build --build-arg VERSION=1.0.0 -t padlock .":       by("TestTheImageIsSmallAndReproducible"),
	"docker image inspect -f '{{json .RootFS.Layers}}' padlock": by("TestTheImageIsSmallAndReproducible"),
	"docker run -d --name padlock -p 80:80 -p 443:443 -p 443:443/udp -v padlock:/data padlock app.example.com=app:3000":            by("TestAContainerWithoutPrivilegesServesAnApp"),
	"docker run -d --name padlock --read-only --cap-drop ALL --security-opt no-new-privileges -p 443:443 -v padlock:/data padlock": by("TestAContainerWithoutPrivilegesServesAnApp"),
	"docker exec padlock /padlock trust --print > root.pem":                                                                        by("TestAContainerWithoutPrivilegesServesAnApp"),
	"docker run --rm -v padlock:/data padlock trust --print > root.pem":                                                            by("TestAContainerWithoutPrivilegesServesAnApp"),
	"docker run -d --name padlock -p 80:80 -p 443:443 -p 443:443/udp -v padlock:/data -v ./padlock:/etc/padlock:ro padlock run":    by("TestSignalsOfAContainer"),
	"docker exec padlock /padlock check":                        by("TestSignalsOfAContainer"),
	"docker exec padlock /padlock reload":                       by("TestSignalsOfAContainer"),
	"padlock --docker":                                          serves("containers with the label padlock.host become sites (unix:///var/run/docker.sock)"),
	"docker run -d --label padlock.host=shop.localhost my-shop": by("TestContainersComeAndGoUnderLoad"),
	"docker run -p 443:443 -p 443:443/udp -p 80:80 -v padlock:/data -v /var/run/docker.sock:/var/run/docker.sock:ro --group-add $(stat -c %g /var/run/docker.sock) padlock --docker": by("TestPadlockInAContainerReachesOthersByTheNetworkThatTheyShare"),
}

type howRun struct {
	serves, answers string
	code            int
	by              string
}

func serves(text string) howRun            { return howRun{serves: text} }
func answers(code int, text string) howRun { return howRun{answers: text, code: code} }
func by(test string) howRun                { return howRun{by: test} }

var (
	commandLine = regexp.MustCompile(`^(\$ )?((?:padlock|curl|docker|go|make|openssl|kubectl|systemctl|psql|python3|node|bash|sh|tar|sudo|apt|apt-get|dpkg|man|sysctl|promtool)(?: .*)?)$`)
	remark      = regexp.MustCompile(`\s+#\s.*$`)
)

// commandsIn are the commands in a document's fenced blocks, without their remarks.
func commandsIn(text string) (all []string) {
	fenced, language := false, ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if rest, ok := strings.CutPrefix(line, "```"); ok {
			fenced, language = !fenced, rest
			continue
		}
		if m := commandLine.FindStringSubmatch(line); fenced && (language == "" || language == "sh") && m != nil && !strings.HasPrefix(line, "padlock: ") {
			all = append(all, strings.TrimSpace(remark.ReplaceAllString(m[2], "")))
		}
	}
	return all
}

// Every command in README and docs is run by a test, and no test is left that runs one which is documented nowhere any more.
func TestEveryDocumentedCommandIsRun(t *testing.T) {
	besides(t)
	files, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, file := range append(files, "../README.md", "../CONTRIBUTING.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, command := range commandsIn(string(text)) {
			found[command] = file
		}
	}
	tests := testNames(t)
	for command, file := range found {
		how, ok := documented[command]
		switch {
		case !ok:
			t.Errorf("%s: no test runs this: %s", file, command)
		case how.by != "" && !tests[how.by]:
			t.Errorf("%s: there is no %s, which would run: %s", file, how.by, command)
		}
	}
	for command := range documented {
		if found[command] == "" {
			t.Errorf("documented nowhere any more: %s", command)
		}
	}
}

// Every example is a directory that a test runs.
func TestEveryExampleIsRun(t *testing.T) {
	besides(t)
	examples, err := filepath.Glob("../examples/*/README.md")
	tests, err2 := filepath.Glob("*_test.go")
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	var text []byte
	for _, file := range tests {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, source...)
	}
	for _, readme := range examples {
		if name := filepath.Base(filepath.Dir(readme)); !bytes.Contains(text, []byte(`"`+name+`"`)) && !bytes.Contains(text, []byte("/"+name)) {
			t.Errorf("no test runs examples/%s", name)
		}
	}
}

// A directory that was copied while padlock ran, as docs/operations.md says, is a storage as good as the one it was copied from.
func TestABackupOfTheStorageIsRestored(t *testing.T) {
	besides(t)
	p := start(t)
	root := p.root(t)
	backup := filepath.Join(t.TempDir(), "padlock-backup.tar.gz")
	restored := t.TempDir()
	for _, args := range [][]string{{"-C", p.storage, "-czf", backup, "."}, {"-C", restored, "-xzf", backup}} {
		if out, err := exec.Command("tar", args...).CombinedOutput(); err != nil {
			t.Fatalf("tar %v: %v\n%s", args, err, out)
		}
	}
	again := start(t, "--storage", restored)
	if out, err := exec.Command(need(t, "curl"), "-sS", "--fail", "--cacert", root, again.url).CombinedOutput(); err != nil {
		t.Errorf("who trusts the first does not trust the second: %v\n%s", err, out)
	}
}

// testNames are those of all tests.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
				names[f.Name.Name] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// The commands that need nothing but padlock run as they stand, where ports 443 and 80 are free: in a network of their own.
func TestDocumentedCommandsDoWhatIsSaidOfThem(t *testing.T) {
	besides(t)
	n := newNetwork(t)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"padlock.yaml": "sites:\n  - hosts: [app.localhost]\n    routes: [{to: 3000}]\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "public"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(plain, filepath.Join(dir, "bin", "padlock")); err != nil {
		t.Fatal(err)
	}
	app := n.command(dir, "python3", "-m", "http.server", "3000", "--bind", "127.0.0.1")
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = app.Process.Kill(); _ = app.Wait() })
	lines := make([]string, 0, len(documented))
	for line := range documented {
		lines = append(lines, line)
	}
	slices.Sort(lines)
	for _, line := range lines {
		how := documented[line]
		if how.by != "" {
			continue
		}
		t.Run(line, func(t *testing.T) {
			c := n.command(dir, "sh", "-c", "exec "+line)
			if how.serves == "" {
				out, err := c.CombinedOutput()
				if c.ProcessState == nil || c.ProcessState.ExitCode() != how.code || !strings.Contains(string(out), how.answers) {
					t.Errorf("%v, and not %d with %q:\n%s", err, how.code, how.answers, out)
				}
				return
			}
			out := &log{more: make(chan struct{})}
			c.Stdout, c.Stderr = out, out
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			out.wait(t, how.serves)
			_ = c.Process.Signal(syscall.SIGTERM)
			if err := c.Wait(); err != nil {
				t.Errorf("%v\n%s", err, out.wait(t))
			}
		})
	}
}

// The README's first command, from a checkout, where nothing has been set up and the usual ports are free.
func TestTheFirstCommandOfTheREADME(t *testing.T) {
	besides(t)
	n := newNetwork(t)
	path, err := exec.Command("go", "env", "GOPATH").Output()
	if err != nil {
		t.Fatal(err)
	}
	cache, err := servicetest.BuildCache()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	c := n.command(home, "go", "run", "./cmd/padlock")
	c.Dir = ".."
	// What has been compiled for other tests is not compiled again: it was with these settings.
	c.Env = append(c.Env, "GOPATH="+strings.TrimSpace(string(path)), "GOCACHE="+cache, "GOFLAGS=-trimpath -buildvcs=false", "CGO_ENABLED=0")
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // go run and what it runs, as a terminal signals both
	out := &log{more: make(chan struct{})}
	c.Stdout, c.Stderr = out, out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	// The program is linked first.
	out.waitFor(t, 5*time.Minute, "https://localhost → a page that shows your own handshake")
	root, err := n.command(home, plain, "trust", "--print").Output()
	if err == nil {
		err = os.WriteFile(filepath.Join(home, "root.pem"), root, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	page, err := n.command(home, "curl", "-sS", "--cacert", "root.pem", "--location", "http://localhost/").CombinedOutput()
	if err != nil || !strings.Contains(string(page), "Your handshake, number") {
		t.Errorf("%v\n%s", err, page)
	}
	out.wait(t, "the padlock is closed")
	_ = syscall.Kill(-c.Process.Pid, syscall.SIGINT)
	_ = c.Wait() // go run ends with 1 after an interrupt, whatever its program did
	out.wait(t, "finishing open requests")
}

// go install puts the program where its user's shell finds it, and it runs.
func TestPadlockIsInstalledFromACheckout(t *testing.T) {
	besides(t)
	cache, err := servicetest.BuildCache()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	c := exec.Command("go", "install", "./cmd/padlock")
	c.Dir = ".."
	c.Env = append(os.Environ(), "GOBIN="+bin, "GOCACHE="+cache, "GOFLAGS=-trimpath -buildvcs=false", "CGO_ENABLED=0") // as for other tests, which have compiled it
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	out, err := exec.Command(filepath.Join(bin, "padlock"), "version").Output()
	if err != nil || !strings.HasPrefix(string(out), "padlock ") {
		t.Errorf("%v: %q", err, out)
	}
}

// network is a network namespace of the test's own, with nothing but loopback.
type network struct{ name string }

func newNetwork(t *testing.T) network {
	t.Helper()
	n := network{fmt.Sprintf("padlock-%d-%s", os.Getpid(), strings.ToLower(rand.Text()[:6]))}
	ip := need(t, "ip")
	for _, args := range [][]string{{"netns", "add", n.name}, {"-n", n.name, "link", "set", "lo", "up"}} {
		if out, err := exec.Command(ip, args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v\n%s", args, err, bytes.TrimSpace(out))
		}
	}
	t.Cleanup(func() { _ = exec.Command(ip, "netns", "delete", n.name).Run() })
	return n
}

func (n network) command(dir string, args ...string) *exec.Cmd {
	c := exec.Command("ip", append([]string{"netns", "exec", n.name}, args...)...)
	c.Dir = dir
	c.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME=", "NO_COLOR=1", "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"),
		"PADLOCK_ACME=https://127.0.0.1:14000/dir")
	return c
}
