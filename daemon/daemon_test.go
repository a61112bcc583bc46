package daemon

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"padlock/config"
	"padlock/discovery"
	"padlock/internal/servicetest"
)

const testVersion = "test"

// parsed is a configuration, in whose text DIR is a directory of the test's own.
func parsed(t *testing.T, dir, text string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("padlock.yaml", []byte(strings.ReplaceAll(text, "DIR", dir)))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// running is a daemon that serves a file.
type running struct {
	file, address string // host:port of HTTPS
	admin         string // http://host:port
	roots         *x509.CertPool
	stderr        *servicetest.Buffer
	sources       []discovery.Source
	before        func() error // is called before the file is read again; nil: nothing is
	meanwhile     func()       // is called when the file has been read at the start; nil: nothing is
	watch         bool         // the file is read again when it changes

	cancel context.CancelFunc
	ended  chan error
}

// reporter prints what it is told to where a daemon writes, too, and so waits for whoever reads that.
type reporter struct {
	stdout, stderr io.Writer
	started        chan Started
}

func (r *reporter) NoPlainPort([]int) { fmt.Fprintln(r.stderr, "no port for plain HTTP") }

func (r *reporter) Started(s Started) {
	r.started <- s
	fmt.Fprintln(r.stdout, "started")
}

func (r *reporter) Stopping(limit time.Duration) { fmt.Fprintln(r.stderr, "stopping within", limit) }

// runFile serves a file, in which the addresses of HTTPS and admin have port 0 and the storage is STORAGE.
func runFile(t *testing.T, content string) *running {
	t.Helper()
	r := &running{file: filepath.Join(t.TempDir(), "padlock.yaml"), roots: x509.NewCertPool(), stderr: &servicetest.Buffer{}}
	r.write(t, content)
	r.start(t, io.Discard, r.stderr)
	t.Cleanup(func() {
		if err := r.end(t); err != nil {
			t.Errorf("it ended with %v:\n%s", err, r.stderr)
		}
	})
	return r
}

// start returns when the daemon serves.
func (r *running) start(t *testing.T, stdout, stderr io.Writer) {
	t.Helper()
	load := func(name string, warn func(config.Error)) (*config.Config, error) {
		return config.Load(name, strings.NewReader(""), warn)
	}
	cfg, err := load(r.file, func(config.Error) {})
	if err != nil {
		t.Fatal(err)
	}
	if r.before != nil {
		first := load
		load = func(name string, warn func(config.Error)) (*config.Config, error) {
			if err := r.before(); err != nil {
				return nil, err
			}
			return first(name, warn)
		}
	}
	if r.meanwhile != nil {
		r.meanwhile()
	}
	told := &reporter{stdout, stderr, make(chan Started, 1)}
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(context.Background())
	t.Cleanup(r.cancel)
	r.ended = make(chan error, 1)
	go func() {
		r.ended <- Run(ctx, cfg, Options{Stdout: stdout, Stderr: stderr, Version: testVersion, File: &File{Name: r.file, Load: load, Watch: r.watch}, Reporter: told, Sources: r.sources})
	}()

	select {
	case s := <-told.started:
		r.address, r.admin = s.Listeners[0].Addr().String(), s.Console
	case err := <-r.ended:
		t.Fatalf("%v:\n%s", err, r.stderr)
	case <-time.After(20 * time.Second):
		t.Fatalf("it does not serve:\n%s", r.stderr)
	}
	pem, err := os.ReadFile(filepath.Join(filepath.Dir(r.file), "localca", "root.pem"))
	if !errors.Is(err, fs.ErrNotExist) && (err != nil || !r.roots.AppendCertsFromPEM(pem)) { // none: no site needs it
		t.Fatal(err)
	}
}

// end ends the daemon as a signal does.
func (r *running) end(t *testing.T) error {
	t.Helper()
	r.cancel()
	select {
	case err := <-r.ended:
		r.ended <- err
		return err
	case <-time.After(30 * time.Second):
		t.Fatalf("it does not end:\n%s", r.stderr)
		return nil
	}
}

func (r *running) write(t *testing.T, content string) {
	t.Helper()
	content = strings.ReplaceAll(content, "STORAGE", filepath.Dir(r.file))
	if err := os.WriteFile(r.file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// reload has the file read again.
func (r *running) reload(t *testing.T) {
	t.Helper()
	if status, text := r.tryReload(t); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
}

func (r *running) tryReload(t *testing.T) (status int, text string) {
	t.Helper()
	response, err := http.Post(r.admin+"/reload", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(body)
}

// get is the body of a page, asked for by a connection of its own.
func (r *running) get(t *testing.T) string {
	t.Helper()
	client := r.client(false, nil)
	response, err := client.Get("https://localhost/")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func (r *running) tls() *tls.Config { return &tls.Config{RootCAs: r.roots, ServerName: "localhost"} }

// Parts start in their order and close in the opposite one; after one that fails, only those that are open are closed, and nothing behind
// it starts.
func TestPartsCloseInTheOppositeOrder(t *testing.T) {
	var happened []string
	named := func(name string, err error) part {
		return part{
			name,
			func(context.Context) error { happened = append(happened, "start "+name); return err },
			func() { happened = append(happened, "close "+name) },
		}
	}
	silent := named("b", nil)
	silent.Close = nil
	for _, test := range []struct {
		parts []part
		want  string
		told  string
		err   error
	}{
		{
			[]part{named("a", nil), silent, named("c", nil)}, "start a, start b, start c, close c, close a",
			"the start of its a, the start of its b, the start of its c, its c, its a", nil,
		},
		{
			[]part{named("a", nil), silent, named("c", io.EOF), named("d", nil)}, "start a, start b, start c, close a",
			"the start of its a, the start of its b, the start of its c, its a", io.EOF,
		},
	} {
		happened = nil
		var told []string
		tell := func(what string) { told = append(told, what) }
		started, err := start(t.Context(), test.parts, tell)
		if err != test.err {
			t.Errorf("%v, not %v", err, test.err)
		}
		started.close(tell)
		if got := strings.Join(told, ", "); got != test.told {
			t.Errorf("told: %s\nnot %s", got, test.told)
		}
		if got := strings.Join(happened, ", "); got != test.want {
			t.Errorf("%s\nnot %s", got, test.want)
		}
	}
}

// What the end of one part needs is closed after it: the log last, what nodes share and the targets only when no request is open, and the
// files of the logs when nothing is recorded any more.
func TestTheOrderOfParts(t *testing.T) {
	var names []string
	for _, p := range new(daemon).parts() {
		names = append(names, p.name)
	}
	for _, before := range [][2]string{
		{"operation log", "listeners"}, {"listeners", "privilege drop"}, {"privilege drop", "certificates"}, {"discovery", "certificates"},
		{"tracing", "recorder"}, {"recorder", "access log"}, {"access log", "storage"}, {"storage", "proxy"}, {"proxy", "admin endpoint"},
		{"admin endpoint", "report"}, {"report", "renewal"}, {"renewal", "notices"}, {"notices", "restart"}, {"restart", "reload"}, {"reload", "admin"},
	} {
		if first, second := slices.Index(names, before[0]), slices.Index(names, before[1]); first < 0 || second < 0 || first > second {
			t.Errorf("%s is not before %s in %q", before[0], before[1], names)
		}
	}
}

// everything is a configuration with all that can be opened.
const everything = `
listen: {https: ["127.0.0.1:0"], http: ["localhost:0"], http3: true}
storage: STORAGE
admin: {address: "127.0.0.1:0"}
handshakes: {format: json, output: STORAGE/handshakes.log}
access_log: {format: json, output: STORAGE/access.log}
tracing: {endpoint: "COLLECTOR", sample: 1}
timeouts: {shutdown: 1s}
sites: [{hosts: [localhost], routes: [{path: /app, to: 127.0.0.1:1, sticky: id, health: {path: /}}, {respond: {body: "BODY"}}]}]
`

// A daemon that has ended leaves no goroutine behind, and neither does one that has reloaded.
func TestNoGoroutineIsLeft(t *testing.T) {
	collector := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer collector.Close()
	file := func(body string) string {
		return strings.NewReplacer("BODY", body, "COLLECTOR", collector.URL).Replace(everything)
	}
	r := &running{file: filepath.Join(t.TempDir(), "padlock.yaml"), roots: x509.NewCertPool(), stderr: &servicetest.Buffer{}}
	r.write(t, file("one"))
	r.start(t, io.Discard, r.stderr)
	if got := r.get(t); got != "one" {
		t.Errorf("%q is served", got)
	}
	r.write(t, file("two"))
	r.reload(t)
	if got := r.get(t); got != "two" {
		t.Errorf("%q is served after the reload", got)
	}
	if err := r.end(t); err != nil {
		t.Errorf("%v:\n%s", err, r.stderr)
	}
	noneLeft(t)
}

// noneLeft waits until no goroutine runs padlock's code but those of tests.
func noneLeft(t *testing.T) {
	t.Helper()
	servicetest.Until(t, func() error {
		buffer := make([]byte, 4<<20)
		for stack := range bytes.SplitSeq(buffer[:runtime.Stack(buffer, true)], []byte("\n\n")) {
			if bytes.Contains(stack, []byte("padlock/")) && !bytes.Contains(stack, []byte("padlock/daemon.Test")) {
				return fmt.Errorf("a goroutine is left:\n%s", stack)
			}
		}
		return nil
	})
}

// A start that fails closes all that it has opened, wherever it fails: its ports are free again, and nothing of it runs on.
func TestAStartThatFailsClosesWhatItHasOpened(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, test := range map[string]struct{ from, to, says string }{
		"a port is taken":                  {`http: ["localhost:0"]`, fmt.Sprintf("http: [%q]", taken.Addr()), "address already in use"},
		"a certificate is none":            {"sites:", "certificates: {files: [{cert: DIR/padlock.yaml, key: DIR/padlock.yaml}]}\nsites:", "padlock.yaml"},
		"the handshake log is a directory": {"DIR/handshakes.log", "DIR", "opening the log"},
		"the access log is a directory":    {"DIR/access.log", "DIR", "opening the log"},
		"the storage cannot be made":       {"storage: DIR", "storage: /proc/padlock", "/proc/padlock"},
		"the storage key does not fit":     {"storage: DIR", "storage: DIR\nstorage_key: short", "32 bytes"},
		"the admin's port is taken":        {"address: \"127.0.0.1:0\"", fmt.Sprintf("address: %q", taken.Addr()), "admin endpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			https := servicetest.FreePort(t)
			text := strings.NewReplacer("STORAGE", dir, "COLLECTOR", "http://127.0.0.1:1", `https: ["127.0.0.1:0"]`, fmt.Sprintf(`https: ["127.0.0.1:%d"]`, https)).Replace(everything)
			text = strings.ReplaceAll(strings.Replace(strings.ReplaceAll(text, dir, "DIR"), test.from, test.to, 1), "DIR", dir)
			file := filepath.Join(dir, "padlock.yaml")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := config.Load(file, strings.NewReader(""), func(config.Error) {})
			if err != nil {
				t.Fatal(err)
			}

			var stderr servicetest.Buffer
			told := &reporter{io.Discard, &stderr, make(chan Started, 1)}
			ended := make(chan error, 1)
			go func() {
				ended <- Run(t.Context(), cfg, Options{Stdout: io.Discard, Stderr: &stderr, Version: testVersion, Reporter: told})
			}()
			select {
			case err = <-ended:
			case <-time.After(30 * time.Second):
				t.Fatalf("it does not end:\n%s", &stderr)
			}
			if err == nil || !strings.Contains(err.Error(), test.says) || len(told.started) > 0 {
				t.Errorf("%v, without %q:\n%s", err, test.says, &stderr)
			}

			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", https))
			if err != nil {
				t.Error("the listener is still open:", err)
			} else {
				l.Close()
			}
			noneLeft(t)
		})
	}
}

// A key under a name that it had before is told in the log by each reload, and works.
func TestAReloadWarnsOfRenamedKeys(t *testing.T) {
	file := strings.NewReplacer("BODY", "one", "COLLECTOR", "http://127.0.0.1:1").Replace(everything)
	r := runFile(t, file)
	r.write(t, strings.Replace(file, "shutdown: 1s", "shutdown: 1s, stall: 20s", 1))
	r.reload(t)
	if said := r.stderr.String(); !strings.Contains(said, "timeouts.stall: is now body_idle") {
		t.Error(said)
	}
}

// A file that is watched may change while padlock starts, after it was read: that is served soon. One that has not changed is not read again.
func TestAFileThatChangesDuringTheStartIsServed(t *testing.T) {
	const text = `
storage: STORAGE
admin: 127.0.0.1:0
listen: {https: ["127.0.0.1:0"], http: []}
handshakes: {show: off}
sites: [{hosts: [localhost], routes: [{respond: {body: %s}}]}]
`
	for _, changes := range []bool{false, true} {
		r := &running{file: filepath.Join(t.TempDir(), "padlock.yaml"), roots: x509.NewCertPool(), stderr: &servicetest.Buffer{}, watch: true}
		r.write(t, fmt.Sprintf(text, "before"))
		want := "before"
		if changes {
			r.meanwhile, want = func() { r.write(t, fmt.Sprintf(text, "after")) }, "after"
		}
		r.start(t, io.Discard, r.stderr)
		servicetest.Until(t, func() error {
			if got := r.get(t); got != want {
				return fmt.Errorf("%q is served, not %q", got, want)
			}
			return nil
		})
		if err := r.end(t); err != nil {
			t.Error(err)
		}
		if read := strings.Contains(r.stderr.String(), "configuration reloaded"); read != changes {
			t.Errorf("the file has changed: %t, and was read again: %t\n%s", changes, read, r.stderr)
		}
	}
}

// A reload that fails leaves the configuration before in service, with its certificates, its listeners and its targets; the next one that can
// be used is served.
func TestAReloadThatFailsKeepsWhatIsServed(t *testing.T) {
	file := func(body string) string {
		return strings.NewReplacer("BODY", body, "COLLECTOR", "http://127.0.0.1:1").Replace(everything)
	}
	r := runFile(t, file("one"))
	certificate := func() string {
		conn, err := tls.Dial("tcp", r.address, r.tls())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return string(conn.ConnectionState().PeerCertificates[0].Raw)
	}
	before := certificate()
	for what, bad := range map[string]struct{ text, says string }{
		"no YAML":                 {"sites: [", "never closed"},
		"a certificate is none":   {file("two") + "certificates: {files: [{cert: STORAGE/padlock.yaml, key: STORAGE/padlock.yaml}]}\n", "padlock.yaml"},
		"no address of ours":      {strings.Replace(file("two"), `http: ["localhost:0"]`, `http: ["localhost:0", "192.0.2.1:80"]`, 1), "192.0.2.1"},
		"only with a new start":   {strings.Replace(file("two"), "shutdown: 1s", "shutdown: 2s", 1), "takes effect only with a new start"},
		"a CA of clients is none": {strings.Replace(file("two"), "hosts: [localhost],", "hosts: [localhost], tls: {client_auth: {mode: require, ca: STORAGE/padlock.yaml}},", 1), "padlock.yaml"},
	} {
		r.write(t, bad.text)
		if status, text := r.tryReload(t); status == 200 || !strings.Contains(text, bad.says) {
			t.Errorf("%s: %d %s", what, status, text)
		}
		if got := r.get(t); got != "one" || certificate() != before {
			t.Errorf("%s: %q is served, or another certificate", what, got)
		}
	}

	r.write(t, file("two"))
	r.reload(t)
	if got := r.get(t); got != "two" {
		t.Errorf("%q is served", got)
	}
}

// A file of a directory that cannot be used is counted, and those beside it are served.
func TestAnUnusableFileOfADirectoryIsLeftOut(t *testing.T) {
	certificates := t.TempDir()
	servicetest.Certificate(t, certificates) // for localhost
	bad := filepath.Join(certificates, "broken.pem")
	if err := os.WriteFile(bad, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := runFile(t, "storage: STORAGE\nadmin: 127.0.0.1:0\nlisten: {https: [127.0.0.1:0], http: []}\nhandshakes: {format: line}\ncertificates: {files: [{directory: "+certificates+"}]}\n"+
		"sites: [{hosts: [localhost], routes: [{respond: {body: x}}]}]\n")
	if m, text := r.scrape(t); m.value("padlock_certificate_file_unusable", "file", bad) != 1 {
		t.Errorf("the metric is missing:\n%s", text)
	}

	conn, err := tls.Dial("tcp", r.address, &tls.Config{ServerName: "localhost", InsecureSkipVerify: true}) // which certificate it is, is what is looked at
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if name := conn.ConnectionState().PeerCertificates[0].Subject.CommonName; name != "pebble" {
		t.Errorf("the certificate of %q is served", name)
	}
}
