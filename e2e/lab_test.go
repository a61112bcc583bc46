//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"padlock/internal/servicetest"
	"padlock/lab"
)

// labReport is what padlock lab --check --json prints.
type labReport struct {
	Failed  string
	Left    int
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
	{"Go net/http", []string{"go", "version"}, []string{"./client", "{url}", "{root}"}, []string{"go", "build", "-o", "client", "client.go"}, false},
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
	// Go's client is a module of today: one without a go.mod would have the defaults of Go 1.20, 3DES and RSA key exchange
	// among them (https://go.dev/doc/godebug).
	build.Env = append(os.Environ(), "GOCACHE="+cache, "GOFLAGS=-trimpath -buildvcs=false", "CGO_ENABLED=0", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", c.build, err, out)
	}
	if c.build[0] == "go" {
		if out, err := exec.Command("go", "version", "-m", filepath.Join(dir, "client")).CombinedOutput(); err != nil || bytes.Contains(out, []byte("DefaultGODEBUG")) {
			t.Fatalf("Go's client does not have the defaults of its version: %v\n%s", err, out)
		}
	}
}

// What must hold of a client that is used as its documentation says, whatever its version: it refuses what is at the
// heart of TLS.
var labHeart = []string{
	"expired", "not-yet-valid", "self-signed", "untrusted-root", "same-name-ca", "invalid-signature", "wrong-host", "wildcard-too-deep", "name-with-nul",
	"leaf-as-ca", "ca-without-flag", "name-constraints-violated", "critical-extension", "wrong-signature", "wrong-key", "zero-signature", "wrong-finished",
	"no-certificate-verify", "no-certificate", "zero-key-share", "flip-certificate", "flip-finished", "downgraded", "plain-http", "suite-rc4",
}

// Real clients meet all endpoints: in the short form curl, in the long one all, whose verdicts are the table in
// docs/lab.md. UPDATE_DOCS=1 with the long form writes it.
func TestTheLabAgainstRealClients(t *testing.T) {
	works(t)
	dir := labDirectory(t)
	// In the short form, no client waits at the endpoints that say nothing.
	flags := []string{"--jobs", "4", "--timeout", "60s", "--only", "!silence*,!one-byte-*"}
	if *long {
		flags = []string{"--jobs", "6", "--timeout", "30s"}
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

// holed is a client of which one thing is left out, and nothing else: Python's, as its parts can be turned off one by one.
const holed = `
import socket, ssl, sys
hole, host, port, root = sys.argv[1:]
context = ssl.create_default_context(cafile=root)
context.check_hostname = hole != "names"
if hole == "dates":
    context.verify_flags |= 0x200000 # X509_V_FLAG_NO_CHECK_TIME
if hole != "ends":
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
with socket.create_connection((host, int(port))) as plain:
    with context.wrap_socket(plain, server_hostname=host, suppress_ragged_eofs=hole == "ends") as tls:
        tls.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        while tls.recv(65536):
            pass
`

// A client that leaves one check out is unsafe where that check counts, and nowhere else.
func TestTheLabTellsHolesApart(t *testing.T) {
	works(t)
	dir := labDirectory(t)
	// In the short form, some that are right, and some with other faults.
	only := "expired*,not-yet-valid,self-signed,leaf-as-ca,wildcard*,name-*,wrong-host,address-for-name,truncated*"
	if *long {
		only = "certificates,truncated*"
	}
	for hole, want := range map[string][]string{
		"none":  nil,
		"dates": {"expired", "expired-long-ago", "not-yet-valid", "expired-intermediate"},
		"names": {"wrong-host", "wrong-subdomain", "common-name-beside-san", "wildcard-too-deep", "wildcard-parent", "wildcard-inside", "wildcard-alone", "name-with-nul", "name-as-uri", "address-for-name", "no-names"},
		"ends":  {"truncated", "truncated-length", "truncated-chunked", "truncated-head"},
	} {
		report, code := checkClient(t, dir, []string{"--jobs", "4", "--only", only}, "/usr/bin/python3", "-c", holed, hole, "{host}", "{port}", "{root}")
		want = slices.DeleteFunc(want, func(name string) bool {
			return !slices.ContainsFunc(report.Results, func(r labResult) bool { return r.Endpoint == name })
		})
		if unsafe := report.with(lab.Unsafe); (code == 1) != (len(want) > 0) || !slices.Equal(unsafe, want) || len(report.Results) < 25 {
			t.Errorf("%s: exit code %d, unsafe: %q, failed: %q", hole, code, unsafe, report.Failed)
		}
	}
}

// Whatever a client does beside its request, the verdict is about that, or there is none.
func TestTheLabWithStrangeClients(t *testing.T) {
	besides(t)
	dir := labDirectory(t)
	curl := need(t, "curl") + ` -sS -m 20 -o /dev/null --cacert "$0" `
	for name, c := range map[string]struct {
		script  string
		failed  string      // why nothing is concluded
		expired lab.Verdict // at an endpoint that must be refused
		why     string
		good    lab.Verdict // at one that must be accepted
	}{
		"crashes at what it refuses":  {script: curl + `"$1" || kill -SEGV $$`, expired: lab.Unclear, why: "it crashed: segmentation fault", good: lab.OK},
		"of a shell crashes":          {script: curl + `"$1" || exit 134`, expired: lab.Unclear, why: "it crashed: aborted", good: lab.OK},
		"never ends":                  {script: curl + `"$1"; sleep 600`, failed: "still busy with good.lab.localhost"},
		"hangs at what it refuses":    {script: curl + `"$1" || sleep 600`, expired: lab.Unclear, why: "still busy", good: lab.OK},
		"prints garbage":              {script: `head -c 100000 /dev/urandom; ` + curl + `"$1"`, expired: lab.OK, good: lab.OK},
		"tries again":                 {script: curl + `--retry 2 --retry-all-errors --retry-delay 0 --retry-max-time 5 "$1"`, expired: lab.OK, good: lab.OK},
		"tries again without looking": {script: curl + `"$1" || ` + curl + `--insecure "$1"`, expired: lab.Unsafe, why: "it sent its request", good: lab.OK},
		"has several connections":     {script: curl + `"$1" && ` + curl + `"$1"`, expired: lab.OK, good: lab.OK},
		"leaves a process behind":     {script: `sleep 600 & echo $! >> left; ` + curl + `"$1"`, expired: lab.OK, good: lab.OK},
		"leaves a daemon behind":      {script: `setsid sleep 600 > /dev/null 2>&1 & echo $! >> left; ` + curl + `"$1"`, expired: lab.OK, good: lab.OK},
		"speaks plain HTTP":           {script: curl + `"http://${1#https://}"`, failed: "sent no TLS"},
		"asks for another name":       {script: curl + `"https://other.lab.localhost:$2" --resolve "other.lab.localhost:$2:127.0.0.1"`, failed: "asked for the server name other.lab.localhost"},
		"never asks":                  {script: `echo no idea where that is >&2`, failed: "no connection to good.lab.localhost: no idea where that is"},
	} {
		junit := filepath.Join(dir, "lab.xml")
		report, code := checkClient(t, dir, []string{"--only", "expired,wildcard", "--timeout", "5s", "--junit", junit}, "sh", "-c", c.script, "{root}", "{url}", "{port}")
		if c.failed != "" {
			if code != 3 || !strings.Contains(report.Failed, c.failed) {
				t.Errorf("a client that %s: exit code %d, %q", name, code, report.Failed)
			}
			continue
		}
		if report.Failed != "" || len(report.Results) != 2 {
			t.Errorf("a client that %s: %q, %d results", name, report.Failed, len(report.Results))
			continue
		}
		expired, good := report.Results[0], report.Results[1]
		if (code == 1) != (c.expired == lab.Unsafe) || expired.Verdict != c.expired || !strings.Contains(expired.Reason, c.why) || good.Verdict != c.good {
			t.Errorf("a client that %s: exit code %d; %s, %s; %s, %s", name, code, expired.Verdict, expired.Reason, good.Verdict, good.Reason)
		}
		text, err := os.ReadFile(junit)
		if err := errors.Join(err, xml.Unmarshal(text, new(struct{}))); err != nil {
			t.Errorf("a client that %s: JUnit: %v\n%s", name, err, text)
		}
	}

	left, err := os.ReadFile(filepath.Join(dir, "left"))
	if err != nil {
		t.Fatal(err)
	}
	for pid := range strings.FieldsSeq(string(left)) {
		// That of a process that nobody has waited for is empty.
		if text, err := os.ReadFile("/proc/" + pid + "/cmdline"); err == nil && bytes.Contains(text, []byte("sleep")) {
			t.Errorf("process %s is left behind", pid)
		}
	}
}

// An interrupted check ends at once with what it has found; its exit code is not that of an unsafe client, and neither is
// that of a check that cannot begin.
func TestTheLabIsInterrupted(t *testing.T) {
	besides(t)
	dir := labDirectory(t)
	seen := filepath.Join(dir, "seen")
	c := command(dir, "lab", "--check", "--json", "--jobs", "1", "--", "sh", "-c", `echo "$1" >> seen; exec curl -sS -o /dev/null --cacert "$0" --resolve "$2" "$1"`, "{root}", "{url}", "{resolve}")
	c.Dir = dir
	var out bytes.Buffer
	c.Stdout = &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	eventuallyFor(t, time.Minute, func() (string, error) {
		text, err := os.ReadFile(seen)
		if n := bytes.Count(text, []byte("\n")); err == nil && n < 8 {
			err = fmt.Errorf("%d endpoints", n)
		}
		return "", err
	})
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait()
	report := &labReport{}
	if err := json.Unmarshal(out.Bytes(), report); err != nil || c.ProcessState.ExitCode() != 3 || len(report.Results) < 3 || report.Left < 100 || report.Counts[lab.OK]+report.Counts[lab.TooStrict] != len(report.Results) {
		t.Errorf("exit code %d, %v\n%s", c.ProcessState.ExitCode(), err, out.String())
	}

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for want, args := range map[string][]string{
		"address already in use": {"--listen", taken.Addr().String()}, "no such file or directory": {"--junit", "absent/lab.xml"}, "not a directory": {"--storage", seen},
	} {
		refused := command(dir, slices.Concat([]string{"lab", "--check"}, args, []string{"--", "true", "{url}"})...)
		text, _ := refused.CombinedOutput()
		if code := refused.ProcessState.ExitCode(); code != 3 || !strings.Contains(string(text), want) {
			t.Errorf("%q: exit code %d\n%s", args, code, text)
		}
	}
}

// A lab whose port of UDP somebody else has says that it serves no QUIC, and serves the rest.
func TestTheLabSaysThatItServesNoQUIC(t *testing.T) {
	besides(t)
	taken, err := net.ListenPacket("udp", local(servicetest.FreePort(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	c := command(t.TempDir(), "lab", "--check", "--listen", taken.LocalAddr().String(), "--", need(t, "curl"), "-sS", "{url}")
	out, _ := c.CombinedOutput()
	if text := string(out); c.ProcessState.ExitCode() != 3 || !strings.Contains(text, "does not serve QUIC") || !strings.Contains(text, "refuses good.lab.localhost") {
		t.Errorf("exit code %d\n%s", c.ProcessState.ExitCode(), text)
	}
}

// Nothing is concluded of a client that does not trust the root or does not run, and the exit code says so.
func TestTheLabConcludesNothingOfAClientThatFailsTheControls(t *testing.T) {
	besides(t)
	dir := labDirectory(t)
	for want, client := range map[string][]string{
		"the client refuses good.lab.localhost": {need(t, "curl"), "-sS", "{url}"},
		"the client made no connection":         {"true", "{url}"},
		"the command could not be run":          {"./absent", "{url}"},
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
	fmt.Fprintf(&b, "The tables are of all %d endpoints.\n\n", len(lab.Endpoints()))
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
