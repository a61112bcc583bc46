//go:build e2e

package e2e

//lint:file-ignore SA1019 x/net's HTTP/2 is what go.mod pins.

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"padlock/internal/servicetest"
)

// Rules for paths hold, whatever the application behind them makes of a path: none of five thousand targets, made of what was seen in
// attacks, gets an answer of a handler that a rule keeps closed, from seven kinds of application and by any setting but raw. By raw some do,
// or the targets prove nothing. Ordinary paths get where they should.
func TestNoPathGetsToWhatIsProtected(t *testing.T) {
	works(t)
	targets := 5000
	backends := pathBackends(t)
	g := newGates(t, backends)
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("PATHS_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	t.Logf("PATHS_SEED=%d", seed)

	var all sync.WaitGroup
	var mu sync.Mutex
	around, answered, asked := map[string]int{}, map[string]int{}, 0
	const workers = 4
	for worker := range workers {
		all.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(worker)))
			ask := g.asker(t, worker)
			for range targets / workers {
				target := pathTarget(random)
				for _, backend := range backends {
					for _, mode := range []string{pathModes[random.IntN(len(pathModes)-1)], "raw"} {
						rule := pathRules[random.IntN(len(pathRules))]
						if mode == "raw" && random.IntN(4) > 0 || mode == "ignore_case" && !backend.ignoresCase {
							continue // a few are enough; and it is for those that do
						}
						handler, status := ask(gate(backend.name, mode, rule.name), target)
						mu.Lock()
						asked++
						if handler != "" {
							answered[backend.name+" "+mode]++
						}
						switch {
						case !slices.Contains(rule.closed, handler):
						case mode == "raw":
							around[backend.name]++
						default:
							t.Errorf("%s, paths %s, %s: %s is answered %s by handler %q", backend.name, mode, rule.name, target, status, handler)
						}
						mu.Unlock()
					}
				}
			}
		})
	}
	all.Wait()

	t.Logf("%d requests; answered: %v; around rules with raw: %v", asked, answered, around)
	for _, backend := range backends {
		for _, mode := range pathModes {
			if answered[backend.name+" "+mode] == 0 && (mode != "ignore_case" || backend.ignoresCase) {
				t.Errorf("%s, paths %s: no target got anywhere", backend.name, mode)
			}
		}
	}
	for _, name := range []string{"express", "tomcat", "php"} {
		if around[name] == 0 {
			t.Errorf("no target goes around a rule at %s with raw: they prove nothing", name)
		}
	}
	g.ordinary(t, backends)
}

// pathBackend is an application with handlers, or files, for /admin, /internal, /public and others.
type pathBackend struct {
	name, address string
	ignoresCase   bool
}

// pathModes are settings of a site; raw comes last.
var pathModes = []string{"default", "strict", "normalize", "ignore_case", "raw"}

// pathRules are routes of a site for an application at %s, and the handlers that nobody may get to.
var pathRules = []struct {
	name, routes string
	closed       []string
}{
	{"deny", "[{to: %[1]s}, {path: /admin, deny: [0.0.0.0/0], to: %[1]s}, {path: /internal, allow: [192.0.2.1], to: %[1]s}]", []string{"admin", "internal"}},
	{"auth", "[{basic_auth: {users: {a: $2y$04$W0ZyAsLrSxvBTcBWo6nrZOVSeL53vH3ISJmBBuRGzG.1MOZzDMpZa}}, to: %[1]s}, {path: /public, to: %[1]s}]", []string{"admin", "internal", "other"}},
	{"only", "[{path: /public, to: %[1]s}]", []string{"admin", "internal", "other"}},
	{"strip", "[{path: /app, strip_prefix: true, to: %[1]s}, {path: /app/admin, strip_prefix: true, deny: [0.0.0.0/0], to: %[1]s}, {path: /app/internal, respond: {status: 403}}, {respond: {status: 404}}]", []string{"admin", "internal"}},
}

func gate(backend, mode, rule string) string {
	return strings.NewReplacer(" ", "-", "_", "-").Replace(backend+"-"+mode+"-"+rule) + ".localhost"
}

// pathBackends starts the applications, side by side.
func pathBackends(t *testing.T) []pathBackend {
	files := t.TempDir()
	for _, name := range []string{"admin", "internal", "public", "other"} {
		for _, dir := range []string{"files", "."} {
			at := filepath.Join(files, name, dir)
			if err := os.MkdirAll(at, 0o755); err != nil {
				t.Fatal(err)
			}
			for _, file := range []string{"index.html", "x", "secret.txt"} {
				if err := os.WriteFile(filepath.Join(at, file), []byte("handler="+name+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := os.WriteFile(filepath.Join(files, "index.html"), []byte("handler=other\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	mux := http.NewServeMux()
	say := func(name string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "handler=%s\n%s", name, r.RequestURI) }
	}
	for _, name := range []string{"admin", "internal", "public"} {
		mux.HandleFunc("/"+name, say(name))
		mux.HandleFunc("/"+name+"/", say(name))
	}
	mux.HandleFunc("/", say("other"))
	golang := httptest.NewServer(mux)
	t.Cleanup(golang.Close)

	const dir = "testdata/paths/"
	one, two, php := servicetest.FreePort(t), servicetest.FreePort(t), servicetest.FreePort(t)
	conf, err := os.ReadFile(dir + "nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	conf = []byte(strings.NewReplacer("ONE", strconv.Itoa(one), "TWO", strconv.Itoa(two)).Replace(string(conf)))
	prefix := filepath.Dir(write(t, "nginx.conf", string(conf)))
	if err := os.Chmod(prefix, 0o755); err != nil {
		t.Fatal(err)
	}
	launch(t, nil, need(t, "nginx"), "-p", prefix, "-c", filepath.Join(prefix, "nginx.conf"), "-e", "stderr")
	launch(t, nil, need(t, "php"), "-n", "-d", "display_errors=0", "-S", local(php), dir+"router.php")

	printed := map[string][]string{
		"express": {need(t, "node"), dir + "express.js", files},
		"tomcat":  {need(t, "java"), "-XX:TieredStopAtLevel=1", "-cp", "/usr/share/tomcat10/lib/*:/usr/share/tomcat10/bin/*", dir + "Servlets.java", t.TempDir()},
		"flask":   {"/usr/bin/python3", dir + "flask_app.py"},
		"files":   {"/usr/bin/python3", dir + "files.py", files},
	}
	ports := map[string]chan string{}
	for name, command := range printed {
		ports[name] = make(chan string, 1)
		launch(t, ports[name], command...)
	}
	backends := []pathBackend{
		{"go", golang.Listener.Addr().String(), false}, {"nginx", local(one), false}, {"nginx without case", local(two), true}, {"php", local(php), true},
	}
	for _, name := range []string{"express", "tomcat", "flask", "files"} {
		select {
		case port := <-ports[name]:
			backends = append(backends, pathBackend{name, "127.0.0.1:" + port, name == "express"})
		case <-time.After(60 * time.Second):
			t.Fatalf("%s did not start: run e2e/install.sh", name)
		}
	}
	for _, b := range backends {
		deadline := time.Now().Add(30 * time.Second)
		for {
			c, err := net.Dial("tcp", b.address)
			if err == nil {
				c.Close()
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %v", b.name, err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return backends
}

// launch runs a program until the test ends. The first line that it prints goes to the channel.
func launch(t *testing.T, first chan string, command ...string) {
	t.Helper()
	c := exec.Command(command[0], command[1:]...)
	c.Env = append(os.Environ(), "PHP_CLI_SERVER_WORKERS=2", "NODE_PATH=/usr/share/nodejs")
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // PHP's workers outlive it
	errors, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer errors.Close()
	c.Stderr = errors
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		r := bufio.NewReader(out)
		if line, err := r.ReadString('\n'); err == nil && first != nil {
			first <- strings.TrimSpace(line)
		}
		_, _ = io.Copy(io.Discard, r)
	}()
	t.Cleanup(func() {
		_ = c.Process.Signal(os.Interrupt)
		ended := make(chan struct{})
		go func() { _ = c.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			_ = c.Process.Kill()
			<-ended
		}
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		if text, _ := os.ReadFile(errors.Name()); t.Failed() && len(text) > 0 {
			t.Logf("%s said: %.2000s", command[0], text)
		}
	})
}

// gates are the sites of a padlock: one for each application, mode and set of rules.
type gates struct {
	*padlock
	address string
	config  *tls.Config
}

func newGates(t *testing.T, backends []pathBackend) *gates {
	var text strings.Builder
	fmt.Fprintf(&text, "listen: {https: ['127.0.0.1:0'], http: [], http3: false}\nhandshakes: {show: 'off'}\naccess_log: {format: 'off'}\nstorage: %q\nadmin: 'off'\nsites:\n", t.TempDir())
	for _, backend := range backends {
		for _, mode := range pathModes {
			for _, rule := range pathRules {
				fmt.Fprintf(&text, "  - hosts: [%s]\n", gate(backend.name, mode, rule.name))
				switch mode {
				case "default":
				case "ignore_case":
					fmt.Fprintln(&text, "    ignore_case: true")
				default:
					fmt.Fprintln(&text, "    paths:", mode)
				}
				fmt.Fprintf(&text, "    routes: "+rule.routes+"\n", backend.address)
			}
		}
	}
	p := &padlock{home: t.TempDir()}
	p.storage = strings.Split(text.String(), "\"")[1]
	p.run(t, program(plain, p.home, "run", "--config", write(t, "padlock.yaml", text.String())))
	at, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	name := gate(backends[0].name, "default", "deny")
	return &gates{p, "127.0.0.1:" + at.Port(), &tls.Config{RootCAs: p.roots(t), ServerName: name}}
}

// asker asks a site for a target as it stands, by HTTP/1.1 or 2, and tells which handler has answered, and the status.
func (g *gates) asker(t *testing.T, worker int) func(host, target string) (handler, status string) {
	var response *http.Response
	var err error
	if worker%2 == 0 {
		c := g.config.Clone()
		c.NextProtos = []string{"h2"}
		two := &http2.Transport{TLSClientConfig: c}
		conn, dialErr := tls.Dial("tcp", g.address, c)
		if dialErr != nil {
			t.Error(dialErr)
			return func(string, string) (string, string) { return "", "" }
		}
		client, dialErr := two.NewClientConn(conn)
		if dialErr != nil {
			t.Error(dialErr)
		}
		t.Cleanup(func() { client.Close() })
		return func(host, target string) (string, string) {
			request := &http.Request{Method: "GET", Host: host, Header: http.Header{}, URL: &url.URL{Scheme: "https", Host: host, Opaque: "//" + host + target}}
			response, err = client.RoundTrip(request)
			return heard(t, host, target, response, err)
		}
	}
	var conn *tls.Conn
	var r *bufio.Reader
	t.Cleanup(func() {
		if conn != nil {
			conn.Close()
		}
	})
	return func(host, target string) (string, string) {
		if conn == nil {
			if conn, err = tls.Dial("tcp", g.address, g.config); err != nil {
				t.Error(err)
				return "", ""
			}
			r = bufio.NewReader(conn)
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, host)
		response, err = http.ReadResponse(r, &http.Request{Method: "GET"})
		handler, status := heard(t, host, target, response, err)
		if err != nil || response.Close {
			conn.Close()
			conn = nil
		}
		return handler, status
	}
}

func heard(t *testing.T, host, target string, response *http.Response, err error) (handler, status string) {
	if err != nil {
		t.Errorf("%s %s: %v", host, target, err)
		return "", ""
	}
	body, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil {
		t.Errorf("%s %s: %v", host, target, err)
	}
	if at := strings.Index(string(body), "handler="); at >= 0 {
		handler, _, _ = strings.Cut(string(body[at+len("handler="):]), "\n")
	}
	return handler, response.Status
}

// ordinary asks for paths that mean one thing, which everybody gets.
func (g *gates) ordinary(t *testing.T, backends []pathBackend) {
	ask := g.asker(t, 1)
	for _, backend := range backends {
		for _, mode := range pathModes {
			for _, target := range []string{"/public/x", "/public/secret.txt?a=../admin&b=%2f", "/public", "/public/%78"} {
				want := "public"
				if handler, status := ask(gate(backend.name, mode, "auth"), target); handler != want && !(status[:1] == "3" && target == "/public") {
					t.Errorf("%s, paths %s: %s is answered %s by %q", backend.name, mode, target, status, handler)
				}
			}
			for target, want := range map[string]string{"/app/other/x": "other", "/app/public/x": "public", "/app/%70ublic/x": "public"} {
				if handler, status := ask(gate(backend.name, mode, "strip"), target); handler != want {
					t.Errorf("%s, paths %s: %s is answered %s by %q", backend.name, mode, target, status, handler)
				}
			}
			for target, want := range map[string]string{"/admin": "403", "/admin/secret.txt": "403", "/internal/x": "403"} {
				if handler, status := ask(gate(backend.name, mode, "deny"), target); handler != "" || !strings.HasPrefix(status, want) {
					t.Errorf("%s, paths %s: %s is answered %s by %q", backend.name, mode, target, status, handler)
				}
			}
			if backend.name == "flask" || backend.name == "files" || mode == "normalize" {
				continue // they have no such names, or it changes them
			}
			for _, target := range []string{"/public/a%20b", "/public/caf%C3%A9", "/public/item;v=1/x", "/public/files//x", "/public/photos/2024+x=1&y,z!(1)", "/public/100%25", "/public/~me/@x:1"} {
				if handler, status := ask(gate(backend.name, mode, "auth"), target); handler != "public" && !(backend.name == "go" && status[:1] == "3") {
					t.Errorf("%s, paths %s: %s is answered %s by %q", backend.name, mode, target, status, handler)
				}
			}
		}
	}
}

// pathTarget is a path to one of the handlers, written in some way that somebody might read as that or as another.
func pathTarget(random *rand.Rand) string {
	pick := func(all ...string) string { return all[random.IntN(len(all))] }
	segments := strings.Split(pick("admin", "admin/secret.txt", "admin/x", "internal/secret.txt", "internal", "other/x", "public/x", "admin/files/secret.txt"), "/")
	if random.IntN(2) == 0 { // from somewhere else, and back
		up := pick("..", "..", "%2e%2e", ".%2e", "%2E.", "..;", "..;x=y", "%2e%2e;", "..%3b", "..%20", "..%00", "%252e%252e", "%c0%ae%c0%ae", "...", "..%09", "..\\..", "..%5c", ".")
		segments = slices.Concat(strings.Split(pick("public", "public/x", "other", "app/public", "x"), "/"), slices.Repeat([]string{up}, 1+random.IntN(2)), segments)
	}
	if random.IntN(3) == 0 {
		segments = append([]string{pick("app", "app", "APP", "%61pp", "app;", "public", "other")}, segments...)
	}
	for range random.IntN(3) {
		i := random.IntN(len(segments))
		segments[i] = mangled(random, segments[i])
	}

	target := ""
	calm := random.IntN(2) == 0 // one thing at a time goes further
	for _, segment := range segments {
		if calm {
			target += "/" + segment
			continue
		}
		target += pick("/", "/", "/", "/", "/", "/", "/", "/", "/", "/", "/", "/", "/", "/", "/", "/", "/", "/", "/", "/", "//", "%2f", "%2F", "\\", "%5c", "/./", "/;/", "/%2e/", "/%252f") + segment
	}
	if target[0] != '/' {
		target = "/" + target
	}
	if calm && random.IntN(3) > 0 {
		return target
	}
	return target + pick("", "", "", "", "/", "//", "?x", "?/public", "%3f", "%23x", ";x", "/.", "/..;/", "%00", ".", "%20", "/%2e", ".html", "::$DATA", "%3b.css", "/x.css", "%0a")
}

// mangled is a segment that some take for the same.
func mangled(random *rand.Rand, segment string) string {
	if segment == "" {
		return segment
	}
	at := random.IntN(len(segment))
	switch random.IntN(9) {
	case 0:
		return strings.ToUpper(segment)
	case 1:
		return segment[:at] + strings.ToUpper(segment[at:at+1]) + segment[at+1:]
	case 2:
		return segment[:at] + fmt.Sprintf("%%%02x", segment[at]) + segment[at+1:]
	case 3:
		return segment[:at] + fmt.Sprintf("%%25%02x", segment[at]) + segment[at+1:]
	case 4:
		return segment + ";" + []string{"", "a=b", "/", "jsessionid=1"}[random.IntN(4)]
	case 5:
		return segment + []string{".", "%20", "%00", "%3b", "..", "%09"}[random.IntN(6)]
	case 6:
		return strings.ReplaceAll(segment, "i", []string{"%c4%b1", "%69", "I"}[random.IntN(3)])
	case 7:
		return fmt.Sprintf("%%u00%02x", segment[0]) + segment[1:]
	}
	return segment
}
