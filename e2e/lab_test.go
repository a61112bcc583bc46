//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"padlock/internal/servicetest"
	"padlock/lab"
)

// labReport is what padlock lab --check --json prints.
type labReport struct {
	Failed  string
	Counts  map[lab.Verdict]int
	Results []labResult
}

type labResult struct {
	Endpoint string
	Group    lab.Group
	Expected lab.Expectation
	Verdict  lab.Verdict
	Accepted bool
	Reason   string
}

func (r *labReport) with(v lab.Verdict) (names []string) {
	for _, result := range r.Results {
		if result.Verdict == v {
			names = append(names, result.Endpoint)
		}
	}
	return names
}

// labClient is a client of Debian as its documentation says how to use it.
type labClient struct {
	name    string
	version []string // the command that prints it
	command []string
	build   []string // runs before, in the same directory
	always  bool     // also in the short form
}

const rawRequest = `printf 'GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$0"`

var labClients = []labClient{
	{"curl", []string{"curl", "--version"}, []string{"curl", "-sS", "-o", "/dev/null", "--cacert", "{root}", "{url}"}, nil, true},
	{"wget", []string{"wget", "--version"}, []string{"wget", "-q", "-O", "/dev/null", "--tries=1", "--ca-certificate={root}", "{url}"}, nil, false},
	{"openssl s_client", []string{"openssl", "version"}, []string{"sh", "-c", `case $0 in 127.*) name="-verify_ip $0";; *) name="-verify_hostname $0 -servername $0";; esac; ` + rawRequest + ` | openssl s_client -quiet -verify_return_error $name -CAfile "$1" -connect "$2"`, "{host}", "{root}", "{connect}"}, nil, false},
	{"gnutls-cli", []string{"gnutls-cli", "--version"}, []string{"sh", "-c", rawRequest + ` | gnutls-cli --x509cafile "$1" --port "$2" "$0"`, "{host}", "{root}", "{port}"}, nil, false},
	{"Python ssl", []string{"/usr/bin/python3", "--version"}, []string{"/usr/bin/python3", "ssl-client.py", "{host}", "{port}", "{root}"}, nil, false},
	{"Python urllib", []string{"/usr/bin/python3", "--version"}, []string{"/usr/bin/python3", "urllib-client.py", "{url}", "{root}"}, nil, false},
	{"Python requests", []string{"/usr/bin/python3", "-c", "import requests; print(requests.__version__)"}, []string{"/usr/bin/python3", "requests-client.py", "{url}", "{root}"}, nil, false},
	{"Node.js https", []string{"node", "--version"}, []string{"node", "client.js", "{url}", "{root}"}, nil, false},
	{"Node.js fetch", []string{"node", "--version"}, []string{"env", "NODE_EXTRA_CA_CERTS={root}", "node", "fetch.mjs", "{url}"}, nil, false},
	{"Java HttpClient", []string{"java", "--version"}, []string{"java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "Client", "{url}", "{root}"}, []string{"javac", "Client.java"}, false},
	{"Go net/http", []string{"go", "version"}, []string{"./client", "{url}", "{root}"}, []string{"go", "build", "-o", "client", "client.go"}, true},
	{"Ruby Net::HTTP", []string{"/usr/bin/ruby", "--version"}, []string{"/usr/bin/ruby", "client.rb", "{url}", "{root}"}, nil, false},
	{"PHP streams", []string{"php", "--version"}, []string{"php", "client.php", "{url}", "{root}"}, nil, false},
	{"Perl IO::Socket::SSL", []string{"perl", "-MIO::Socket::SSL", "-e", "print $IO::Socket::SSL::VERSION"}, []string{"perl", "client.pl", "{host}", "{port}", "{root}"}, nil, false},
	{"git", []string{"git", "--version"}, []string{"sh", "-c", `GIT_SSL_CAINFO="$1" git ls-remote "$0" 2>&1 | tee /dev/stderr | grep -q "not found\|valid.*git"`, "{url}", "{root}"}, nil, false},
}

// labDirectory has the programs of the clients, and a hosts file with the names of the lab.
func labDirectory(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/lab")); err != nil {
		t.Fatal(err)
	}
	names, err := command(dir, "lab", "--names").Output()
	if err != nil {
		t.Fatal(err)
	}
	hosts := []byte("127.0.0.1 localhost\n")
	for name := range strings.FieldsSeq(string(names)) {
		hosts = append(hosts, "127.0.0.1 "+name+"\n"...)
	}
	// All of /etc is bound, and not one file: a file that somebody replaces meanwhile would be seen again.
	if out, err := exec.Command("cp", "-a", "/etc", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "etc", "hosts"), hosts, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// checkClient runs padlock lab --check where the names lead to this machine, whatever its resolver knows.
func checkClient(t *testing.T, dir string, flags []string, client ...string) (*labReport, int) {
	t.Helper()
	args := append([]string{"--mount", "sh", "-c", `mount --bind etc /etc && exec "$@"`, "sh", binary, "lab", "--check", "--listen", "localhost:0", "--json"}, flags...)
	c := program(need(t, "unshare"), dir, append(append(args, "--"), client...)...)
	c.Dir = dir
	var errors2 bytes.Buffer
	c.Stderr = &errors2
	out, err := c.Output()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	report := &labReport{}
	if err := json.Unmarshal(out, report); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, errors2.String())
	}
	return report, c.ProcessState.ExitCode()
}

func (c *labClient) prepare(t *testing.T, dir string) {
	t.Helper()
	need(t, c.version[0])
	if c.build == nil {
		return
	}
	build := exec.Command(need(t, c.build[0]), c.build[1:]...)
	build.Dir = dir
	cache, err := servicetest.BuildCache()
	if err != nil {
		t.Fatal(err)
	}
	// What has been compiled for other tests is not compiled again: it was with these settings.
	build.Env = append(os.Environ(), "GOCACHE="+cache, "GOFLAGS=-trimpath -buildvcs=false", "CGO_ENABLED=0", "GO111MODULE=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", c.build, err, out)
	}
}

// What must hold of a client that is used as its documentation says, whatever its version: it refuses what is at the
// heart of TLS.
var labHeart = []string{
	"expired", "not-yet-valid", "self-signed", "untrusted-root", "same-name-ca", "invalid-signature", "wrong-host", "wildcard-too-deep", "name-with-nul",
	"leaf-as-ca", "ca-without-flag", "name-constraints-violated", "critical-extension", "wrong-signature", "wrong-key", "zero-signature", "wrong-finished",
	"no-certificate-verify", "no-certificate", "zero-key-share", "flip-certificate", "flip-finished", "downgraded", "plain-http", "suite-rc4",
}

// Real clients meet all endpoints: in the short form two of them, in the long one all, whose verdicts are the table in
// docs/lab.md. UPDATE_DOCS=1 with the long form writes it.
func TestTheLabAgainstRealClients(t *testing.T) {
	works(t)
	dir := labDirectory(t)
	// In the short form, no client waits at the endpoints that say nothing.
	flags := []string{"--jobs", "4", "--timeout", "60s", "--only", "!silence*,!one-byte-*"}
	if *long {
		flags = []string{"--jobs", "4", "--timeout", "20s"}
	}

	reports := map[string]*labReport{}
	for i := range labClients {
		client := &labClients[i]
		if !*long && !client.always {
			continue
		}
		client.prepare(t, dir)
		report, code := checkClient(t, dir, flags, client.command...)
		reports[client.name] = report
		if report.Failed != "" {
			t.Errorf("%s: %s", client.name, report.Failed)
			continue
		}
		if unsafe := report.with(lab.Unsafe); (code == 1) != (len(unsafe) > 0) || len(report.Results) < 180 {
			t.Errorf("%s: exit code %d with %d results, unsafe: %q", client.name, code, len(report.Results), unsafe)
		}
		for _, result := range report.Results {
			if slices.Contains(labHeart, result.Endpoint) && result.Verdict != lab.OK {
				t.Errorf("%s at %s: %s, %s", client.name, result.Endpoint, result.Verdict, result.Reason)
			}
			if result.Verdict == lab.TooStrict && result.Expected == lab.MustAccept {
				t.Errorf("%s at %s: %s, %s", client.name, result.Endpoint, result.Verdict, result.Reason)
			}
		}
		t.Logf("%s: %v\nunsafe: %q\nweak: %q\ntoo strict: %q\nunclear: %q", client.name, report.Counts, report.with(lab.Unsafe), report.with(lab.Weak), report.with(lab.TooStrict), report.with(lab.Unclear))
	}

	if *long {
		for name, report := range map[string]func(*testing.T) *labReport{"Chromium": chromiumReport, "Firefox": firefoxReport} {
			reports[name] = report(t)
			reports[name].sound(t, name)
		}
	}
	if *long && os.Getenv("UPDATE_DOCS") == "1" {
		writeLabTable(t, reports)
	}
}

// A client with a deliberate hole is unsafe where the hole is.
func TestTheLabFindsDeliberateHoles(t *testing.T) {
	besides(t)
	dir := labDirectory(t)
	for i := range labClients {
		if labClients[i].name == "Go net/http" {
			labClients[i].prepare(t, dir)
		}
	}
	holes := []string{"expired", "self-signed", "untrusted-root", "wrong-host"}
	for name, client := range map[string][]string{
		"Python verify=False":            {"/usr/bin/python3", "requests-client.py", "{url}", "False"},
		"Node rejectUnauthorized: false": {need(t, "node"), "client.js", "{url}", "false"},
		"Go InsecureSkipVerify":          {"./client", "{url}", "insecure"},
		"curl --insecure":                {need(t, "curl"), "-sS", "--insecure", "{url}"},
	} {
		report, code := checkClient(t, dir, []string{"--only", strings.Join(holes, ",") + ",wrong-signature"}, client...)
		if unsafe := report.with(lab.Unsafe); code != 1 || !slices.Equal(unsafe, []string{"expired", "self-signed", "untrusted-root", "wrong-host"}) {
			t.Errorf("%s: exit code %d, unsafe: %q, failed: %q", name, code, unsafe, report.Failed)
		}
	}
}

// Nothing is concluded of a client that does not trust the root or does not run, and the exit code says so.
func TestTheLabConcludesNothingOfAClientThatFailsTheControls(t *testing.T) {
	besides(t)
	dir := labDirectory(t)
	for want, client := range map[string][]string{
		"the client refuses good.lab.localhost": {need(t, "curl"), "-sS", "{url}"},
		"the client made no connection":         {"true"},
		"the command could not be run":          {"./absent"},
	} {
		report, code := checkClient(t, dir, nil, client...)
		if code != 3 || !strings.Contains(report.Failed, want) || len(report.Results) > 0 {
			t.Errorf("%q: exit code %d, %q, %d results", client, code, report.Failed, len(report.Results))
		}
	}
}

var labMarks = map[lab.Verdict]string{lab.OK: "✓", lab.Unsafe: "**unsafe**", lab.Weak: "weak", lab.TooStrict: "strict", lab.Unclear: "?"}

// writeLabTable writes the part of docs/lab.md between its marks.
func writeLabTable(t *testing.T, reports map[string]*labReport) {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("| client | version | unsafe | weak | too strict | unclear | ok |\n|---|---|---|---|---|---|---|\n")
	var names []string
	browsers := []labClient{{name: "Chromium", version: []string{"chromium", "--version"}}, {name: "Firefox", version: []string{"firefox-esr", "--version"}}}
	for _, c := range slices.Concat(labClients, browsers) {
		r := reports[c.name]
		if r == nil || r.Failed != "" {
			continue
		}
		names = append(names, c.name)
		out, _ := exec.Command(c.version[0], c.version[1:]...).CombinedOutput()
		version := regexp.MustCompile(`\d+\.\d+[\w.]*`).FindString(string(out))
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %d | %d |\n", c.name, version, r.Counts[lab.Unsafe], r.Counts[lab.Weak], r.Counts[lab.TooStrict], r.Counts[lab.Unclear], r.Counts[lab.OK])
	}

	fmt.Fprintf(&b, "\n| endpoint | expected | %s |\n|---|---|%s\n", strings.Join(names, " | "), strings.Repeat("---|", len(names)))
	for _, e := range lab.Endpoints() {
		row, notable := "", false
		for _, name := range names {
			cell := ""
			for _, r := range reports[name].Results {
				if r.Endpoint == e.Name {
					cell = labMarks[r.Verdict]
					notable = notable || r.Verdict != lab.OK
				}
			}
			row += " | " + cell
		}
		if notable {
			fmt.Fprintf(&b, "| %s | %s%s |\n", e.Name, e.Expect, row)
		}
	}

	const file, begin, end = "../docs/lab.md", "<!-- clients: begin -->\n", "<!-- clients: end -->"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("docs/lab.md has no marks")
	}
	if err := os.WriteFile(file, []byte(head+begin+b.String()+end+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}
