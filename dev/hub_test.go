package dev

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"padlock/config"
	"padlock/discovery"
)

// proxy is a hub whose sites are served at once, by nobody.
type proxy struct {
	*Hub
	dir    string
	served atomic.Pointer[[]config.Site]
	end    func()
}

func open(t *testing.T, dir string) *proxy {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	h, err := Open(ctx, dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Hub: h, dir: dir}
	var serving sync.WaitGroup
	base := config.Default()
	serving.Go(func() {
		h.Run(ctx, func(found *discovery.Found) {
			merged, problems := discovery.Merge(base, []discovery.Source{h}, []*discovery.Found{found}, nil)
			h.Report(problems[0])
			p.served.Store(&merged.Sites)
		})
	})
	p.end = sync.OnceFunc(func() { h.Close(); cancel(); serving.Wait() })
	t.Cleanup(p.end)
	if err := h.Listen(Ports{HTTPS: 8443, PID: 1}); err != nil {
		t.Fatal(err)
	}
	return p
}

func connect(t *testing.T, dir string) *Client {
	t.Helper()
	c, err := Connect(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for range 1000 {
		if done() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("in vain: " + what)
}

func app(name string) App {
	return App{Name: name, Hosts: []string{name + ".localhost"}, Dir: "/projects/" + name, Command: "run " + name, PID: os.Getpid()}
}

// target is where the proxy sends the requests for a host; "": nobody has it.
func (p *proxy) target(host string) string {
	sites := p.served.Load()
	if sites == nil {
		return ""
	}
	for _, s := range *sites {
		for _, h := range s.Hosts {
			if h == host {
				return s.Routes[0].To[0].Target.Address
			}
		}
	}
	return ""
}

func TestAnAppIsServedForAsLongAsItsCommandRuns(t *testing.T) {
	p := open(t, filepath.Join(t.TempDir(), "run"))
	c := connect(t, p.dir)
	served, others, err := c.Register(t.Context(), app("shop"))
	if err != nil || served.URL != "https://shop.localhost:8443" || len(others) != 0 {
		t.Fatal(served, others, err)
	}
	if got := p.target("shop.localhost"); got != filepath.Join(p.dir, pagesName) {
		t.Errorf("before it listens: %s", got)
	}
	for _, target := range []string{"127.0.0.1:4000", "[::1]:4001", ""} {
		want := target
		if want == "" {
			want = filepath.Join(p.dir, pagesName)
		}
		if err := c.Move(target); err != nil {
			t.Fatal(err)
		}
		await(t, "it is served at "+want, func() bool { return p.target("shop.localhost") == want })
	}
	_ = c.Move("example.com:80")
	if apps, err := c.List(t.Context()); err != nil || len(apps) != 1 || apps[0].Target != "" {
		t.Errorf("a target that is no address: %+v, %v", apps, err)
	}

	other := connect(t, p.dir)
	if _, others, err := other.Register(t.Context(), app("api")); err != nil || len(others) != 1 || others[0].URL != "https://shop.localhost:8443" {
		t.Fatal(others, err)
	}
	c.conn.Close() // as the kernel does for a command that is killed
	await(t, "it is gone", func() bool { return p.target("shop.localhost") == "" && p.target("api.localhost") != "" })
}

func TestNamesThatAreTakenAndNamesThatCannotBe(t *testing.T) {
	p := open(t, filepath.Join(t.TempDir(), "run"))
	c := connect(t, p.dir)
	a := app("shop")
	a.Hosts = append(a.Hosts, "*.shop.localhost", "shop.test")
	if _, _, err := c.Register(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	for _, hosts := range [][]string{{"shop.localhost"}, {"SHOP.localhost."}, {"shop.test", "other.localhost"}, {"other.localhost", "shop.test"}, {"*.shop.localhost"}} {
		second := connect(t, p.dir)
		_, _, err := second.Register(t.Context(), App{Name: "x", Hosts: hosts})
		var taken *Taken
		if !errors.As(err, &taken) || taken.By.Dir != "/projects/shop" {
			t.Errorf("%v: %v", hosts, err)
			continue
		}
		// The message names what is taken, which may be another name than the first.
		if want, _ := config.CanonicalPattern(hosts[len(hosts)-1]); len(hosts) == 1 && taken.Host != want || len(hosts) == 2 && taken.Host != "shop.test" {
			t.Errorf("%v: %s is taken", hosts, taken.Host)
		}
	}
	for _, hosts := range [][]string{nil, {""}, {"localhost"}, {"*.localhost"}, {"example.com"}, {"a b.localhost"}, {"*"}, {"127.0.0.1:80"}} {
		second := connect(t, p.dir)
		_, _, err := second.Register(t.Context(), App{Name: "x", Hosts: hosts})
		if err == nil || errors.As(err, new(*Taken)) {
			t.Errorf("%v: %v", hosts, err)
		}
	}
	free := connect(t, p.dir)
	if _, _, err := free.Register(t.Context(), app("api.shop")); err != nil {
		t.Errorf("a name below a wildcard: %v", err)
	}
}

func TestStopReachesTheCommand(t *testing.T) {
	p := open(t, filepath.Join(t.TempDir(), "run"))
	c := connect(t, p.dir)
	if _, _, err := c.Register(t.Context(), app("shop")); err != nil {
		t.Fatal(err)
	}
	other := connect(t, p.dir)
	if _, err := other.StopApp(t.Context(), "nobody"); err == nil {
		t.Error("an app that does not exist was stopped")
	}
	if a, err := other.StopApp(t.Context(), "shop"); err != nil || a.Name != "shop" {
		t.Fatal(a, err)
	}
	<-c.Stop()
	if _, err := other.StopApp(t.Context(), "shop"); err != nil { // twice is as good
		t.Error(err)
	}
	if apps, err := c.List(t.Context()); err != nil || len(apps) != 1 {
		t.Errorf("after a second stop: %v, %v", apps, err)
	}
}

// Of many commands at once, one starts the proxy, and all reach it; a proxy that is killed is replaced in the same way.
func TestOneOfManyCommandsStartsTheProxy(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	var started atomic.Int32
	var current atomic.Pointer[proxy]
	begin := func() (<-chan struct{}, error) {
		started.Add(1)
		current.Store(open(t, dir))
		return make(chan struct{}), nil
	}
	for round := range 2 {
		var joining sync.WaitGroup
		for i := range 20 {
			joining.Go(func() {
				c, err := Join(t.Context(), dir, begin)
				if err != nil {
					t.Error(err)
					return
				}
				if _, _, err := c.Register(t.Context(), app(fmt.Sprintf("a%d", i))); err != nil {
					t.Error(err)
				}
			})
		}
		joining.Wait()
		if n := started.Load(); n != int32(round+1) {
			t.Fatalf("%d proxies have started", n)
		}
		if n := len(current.Load().list()); n != 20 {
			t.Errorf("%d apps", n)
		}
		current.Load().end()
	}
	ended := make(chan struct{})
	close(ended)
	if _, err := Join(t.Context(), dir, func() (<-chan struct{}, error) { return ended, nil }); err == nil {
		t.Error("a proxy that ended at once was joined")
	}
}

func TestOneProxyRunsAtATime(t *testing.T) {
	p := open(t, filepath.Join(t.TempDir(), "run"))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if h, err := Open(ctx, p.dir, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrRunning) {
		t.Errorf("%v, %v", h, err)
	}
}

func TestTheProxyEndsAfterTheLastApp(t *testing.T) {
	p := open(t, filepath.Join(t.TempDir(), "run"))
	c := connect(t, p.dir)
	if _, _, err := c.Register(t.Context(), app("shop")); err != nil {
		t.Fatal(err)
	}
	idle := make(chan struct{})
	go func() { defer close(idle); p.Idle(t.Context(), 100*time.Millisecond) }()
	select {
	case <-idle:
		t.Fatal("it is idle with an app")
	case <-time.After(300 * time.Millisecond): // thrice the time
	}
	c.Close()
	<-idle
	if _, err := Connect(t.Context(), p.dir); !errors.Is(err, ErrNoProxy) {
		t.Errorf("a command reaches a proxy that ends: %v", err)
	}
}

// The directory may be removed, as that of a user who has logged out.
func TestAProxyThatNobodyReachesEnds(t *testing.T) {
	p := open(t, filepath.Join(t.TempDir(), "run"))
	c := connect(t, p.dir)
	if _, _, err := c.Register(t.Context(), app("shop")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(p.dir); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p.Idle(ctx, 100*time.Millisecond)
	if ctx.Err() != nil {
		t.Error("it goes on")
	}
}

func TestTheDirectoryIsItsUsersAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	p := open(t, dir)
	if info, err := os.Stat(p.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Error(info.Mode(), err)
	}
	if err := prepare(filepath.Join(dir, strings.Repeat("x", 100))); err == nil || !strings.Contains(err.Error(), "XDG_RUNTIME_DIR") {
		t.Errorf("a path too long for a socket: %v", err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if err := prepare(link); err == nil {
		t.Error("a link is taken for a directory of one's own")
	}

	// One that was there before keeps its mode, whatever it is: /dev is what is below the storage directory /.
	others := t.TempDir()
	if err := os.Chmod(others, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := prepare(others); err == nil || !strings.Contains(err.Error(), "chmod 700 "+others) {
		t.Errorf("a directory that others may enter: %v", err)
	}
	if info, err := os.Stat(others); err != nil || info.Mode().Perm() != 0o755 {
		t.Error(info.Mode(), err)
	}
	t.Setenv("XDG_RUNTIME_DIR", "")
	if dir := Directory("/"); dir == "/dev" {
		t.Error("the system's directory of devices")
	}
	// Whoever may rename what is in the directory could put a proxy of their own there.
	for mode, want := range map[os.FileMode]string{0o700: filepath.Join(others, ownName), 0o755: filepath.Join(others, ownName), 0o777: "/state/" + ownName, 0o1777: "/state/" + ownName, 0o770: "/state/" + ownName} {
		if err := syscall.Chmod(others, uint32(mode)); err != nil {
			t.Fatal(err)
		}
		t.Setenv("XDG_RUNTIME_DIR", others)
		if got := Directory("/state"); got != want {
			t.Errorf("with an XDG_RUNTIME_DIR of mode %o: %s", mode, got)
		}
	}
	if os.Geteuid() == 0 {
		if err := errors.Join(os.Chmod(others, 0o700), os.Chown(others, 12345, 12345)); err != nil {
			t.Fatal(err)
		}
		if got := Directory("/state"); got != "/state/"+ownName {
			t.Errorf("with the XDG_RUNTIME_DIR of another user: %s", got)
		}
		t.Setenv("SUDO_USER", "nobody")
		if got := Directory("/state"); strings.HasPrefix(got, "/state") {
			t.Errorf("with sudo, in the storage of the user who ran it: %s", got)
		}
	}

	if _, err := Connect(t.Context(), link); err == nil || errors.Is(err, ErrNoProxy) {
		t.Errorf("a command joins whoever answers behind a link: %v", err)
	}
}

// A proxy that is stopped accepts connections all the same. It is not taken for one that does not run, and its process is named.
func TestAProxyThatDoesNotAnswerIsNamed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	h, err := Open(t.Context(), dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	l, err := net.Listen("unix", filepath.Join(dir, socketName))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = Join(t.Context(), dir, func() (<-chan struct{}, error) { t.Error("another is started"); return nil, io.EOF })
	if silent := new(Silent); !errors.As(err, &silent) || silent.PID != os.Getpid() {
		t.Error(err)
	}
}

func TestAHostHeaderIsCheckedAtOnce(t *testing.T) {
	p := open(t, filepath.Join(t.TempDir(), "run"))
	for host, valid := range map[string]bool{"": true, "keep": true, "upstream": true, "shop.test": true, "localhost:3000": true, "a b": false, "a\nb": false, "shop.test:x": false} {
		c := connect(t, p.dir)
		a := app("shop")
		a.HostHeader = host
		if _, _, err := c.Register(t.Context(), a); (err == nil) != valid {
			t.Errorf("%q: %v", host, err)
		}
		c.Close()
		waitGone(t, p)
	}
}

// Whatever comes, the others are served on.
func TestMessagesThatCannotBeRead(t *testing.T) {
	p := open(t, filepath.Join(t.TempDir(), "run"))
	good := connect(t, p.dir)
	if _, _, err := good.Register(t.Context(), app("shop")); err != nil {
		t.Fatal(err)
	}
	for _, message := range []string{"\n", "{}\n", "null\n", "[]\n", "nonsense\n", `{"register":{}}` + "\n", `{"target":7}` + "\n", `{"group":-1}` + "\n", strings.Repeat("x", maxMessage+1)} {
		conn, err := net.Dial("unix", filepath.Join(p.dir, socketName))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, message)
		conn.Close()
	}
	if apps, err := good.List(t.Context()); err != nil || len(apps) != 1 {
		t.Errorf("%v, %v", apps, err)
	}
}

func TestThePageTellsWhatIsWaitedFor(t *testing.T) {
	p := open(t, filepath.Join(t.TempDir(), "run"))
	log := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(log, []byte(strings.Repeat("before\n", 30)+"\x1b[31m<script>alert(1)</script>\x1b[0m \x1b]0;title\x07\xff\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := connect(t, p.dir)
	a := app("shop")
	a.Log, a.Waiting, a.Hosts = log, "port 4000", append(a.Hosts, "*.shop.localhost")
	if _, _, err := c.Register(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	get := func(host, accept string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/path", nil)
		r.Host = host
		r.Header.Set("Accept", accept)
		p.page(w, r)
		return w
	}
	for _, host := range []string{"shop.localhost", "SHOP.localhost:8443", "x.shop.localhost"} {
		w := get(host, "text/html,*/*")
		body := w.Body.String()
		if w.Code != 503 || w.Header().Get("Retry-After") == "" || w.Header().Get(WaitingField) == "" || !strings.Contains(body, "port 4000") || !strings.Contains(body, "run shop") {
			t.Errorf("%s: %d %s", host, w.Code, body)
		}
		if strings.Contains(body, "<script>alert") || strings.ContainsRune(body, '\x1b') || !strings.Contains(body, "&lt;script&gt;alert(1)") {
			t.Errorf("what the app printed acts on the page: %s", body)
		}
	}
	var about situation
	if w := get("shop.localhost", "*/*"); w.Code != 503 || json.Unmarshal(w.Body.Bytes(), &about) != nil || len(about.Output) != shownLines {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for host, want := range map[string]int{"localhost": http.StatusOK, "nobody.localhost": http.StatusNotFound} {
		w := get(host, "text/html")
		if w.Code != want || !strings.Contains(w.Body.String(), "https://shop.localhost:8443") || w.Header().Get(WaitingField) != "" {
			t.Errorf("%s: %d %s", host, w.Code, w.Body)
		}
	}
}

// waitGone waits until no app is registered.
func waitGone(t *testing.T, p *proxy) {
	t.Helper()
	for range 1000 {
		if len(p.list()) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("an app stays")
}
