//go:build e2e

package e2e

import (
	"bufio"

	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"golang.org/x/sys/unix"
)

// developer is a user of padlock dev.
type developer struct {
	*padlock
	runtime string   // XDG_RUNTIME_DIR
	env     []string // further variables of its commands
}

func newDeveloper(t *testing.T) *developer {
	t.Helper()
	run, err := os.MkdirTemp("", "run") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	p := &padlock{home: t.TempDir()}
	p.storage = filepath.Join(p.home, ".local", "share", "padlock")
	d := &developer{padlock: p, runtime: run}
	t.Cleanup(func() {
		if pid := d.proxy(); pid > 0 {
			_ = syscall.Kill(pid, syscall.SIGTERM)
			d.await(t, "the proxy's end", func() bool { return syscall.Kill(pid, 0) != nil })
		}
		said.collect(p.home, p.storage, "")
		os.RemoveAll(run)
	})
	return d
}

func (d *developer) command(dir string, args ...string) *exec.Cmd {
	c := command(d.home, append([]string{"dev"}, args...)...)
	c.Dir = dir
	c.Env = slices.Concat(c.Env, []string{"XDG_RUNTIME_DIR=" + d.runtime, "PADLOCK_LISTEN=127.0.0.1:0"}, d.env)
	return c
}

// ask runs a command that ends by itself.
func (d *developer) ask(t *testing.T, args ...string) string {
	t.Helper()
	return d.in(t, "", args...)
}

// in runs it in a directory.
func (d *developer) in(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := d.command(dir, args...).Output()
	if err != nil {
		t.Fatalf("padlock dev %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (d *developer) await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for range 900 {
		if done() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	text, _ := os.ReadFile(filepath.Join(d.runtime, "padlock-dev", "proxy.log"))
	t.Fatalf("in vain: %s\n%s", what, text)
}

// registered is an app as padlock dev list --json prints it.
type registered struct {
	Name, URL, Target, Dir, Command string
	PID                             int
}

func (d *developer) apps(t *testing.T) (apps []registered) {
	t.Helper()
	if err := json.Unmarshal([]byte(d.ask(t, "list", "--json")), &apps); err != nil {
		t.Fatal(err)
	}
	return apps
}

// proxy is the process in the background; 0: there is none.
func (d *developer) proxy() int {
	conn, err := net.Dial("unix", filepath.Join(d.runtime, "padlock-dev", "dev.sock"))
	if err != nil {
		return 0
	}
	defer conn.Close()
	var hello struct{ Ports struct{ PID int } }
	line, _ := bufio.NewReader(conn).ReadBytes('\n')
	_ = json.Unmarshal(line, &hello)
	return hello.Ports.PID
}

// developed is a padlock dev that runs.
type developed struct {
	cmd   *exec.Cmd
	out   *log
	ended chan struct{}
}

func (d *developer) start(t *testing.T, dir string, args ...string) *developed {
	t.Helper()
	c := d.command(dir, args...)
	a := &developed{cmd: c, out: &log{more: make(chan struct{})}, ended: make(chan struct{})}
	c.Stdout, c.Stderr = io.MultiWriter(a.out, said), io.MultiWriter(a.out, said)
	c.WaitDelay = time.Second
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(a.ended)
		_ = c.Wait()
	}()
	t.Cleanup(func() { a.end(syscall.SIGTERM) })
	return a
}

func (a *developed) end(s syscall.Signal) int {
	_ = a.cmd.Process.Signal(s)
	<-a.ended
	return a.cmd.ProcessState.ExitCode()
}

// get asks an app as a browser of this machine does. It returns "" and the status where the answer is not 200.
func (d *developer) get(t *testing.T, url string) (body string, status int) {
	t.Helper()
	out, err := exec.Command("curl", "-sS", "--max-time", "30", "--cacert", d.root(t), "-w", "\n%{http_code}", url).CombinedOutput()
	at := strings.LastIndexByte(string(out), '\n')
	if err != nil || at < 0 {
		t.Fatalf("%s: %v\n%s", url, err, out)
	}
	status, _ = strconv.Atoi(string(out[at+1:]))
	return string(out[:at]), status
}

func writeFiles(t *testing.T, dir string, files map[string]string) string {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// nodeShop is an app of Node.js that takes PORT, and asks another app by its URL.
var nodeShop = map[string]string{
	"package.json": `{"name": "@acme/shop", "scripts": {"dev": "node server.js"}}`,
	"server.js": `
const http = require('http'), https = require('https')
http.createServer((request, response) => {
  if (request.url === '/other') {
    https.get(process.env.PADLOCK_URL_API + '/hello', r => r.pipe(response)).on('error', e => { response.statusCode = 500; response.end(String(e)) })
    return
  }
  response.end('shop at ' + request.headers.host + ' by ' + request.headers['x-forwarded-proto'] + ', ' + process.env.PADLOCK_URL)
}).listen(process.env.PORT, process.env.HOST)
`,
}

// flaskAPI is an app of Flask, which ignores PORT.
var flaskAPI = map[string]string{
	"pyproject.toml": "[project]\nname = \"api\"\n",
	"hello.py": `
from flask import Flask, request
app = Flask(__name__)

@app.get('/hello')
def hello():
    return 'hello from ' + request.host
`,
}

// Three apps in three directories, each by one command: Node.js with PORT, Flask by its flag, and PHP on a port of its own choice. One asks
// another over HTTPS and trusts it without any setting.
func TestAppsAreServedByTheirNames(t *testing.T) {
	besides(t)
	need(t, "node")
	need(t, "php")
	d := newDeveloper(t)
	flask := d.start(t, writeFiles(t, t.TempDir(), flaskAPI), "/usr/bin/python3", "-m", "flask", "--app", "hello", "run")
	flask.out.wait(t, "api listens on")
	npm := filepath.Join(t.TempDir(), "npm") // which does what npm does with the script of this package
	writeFiles(t, filepath.Dir(npm), map[string]string{"npm": "#!/bin/sh\ntest \"$*\" = 'run dev' && exec node server.js\n"})
	if err := os.Chmod(npm, 0o755); err != nil {
		t.Fatal(err)
	}
	shop := d.start(t, writeFiles(t, t.TempDir(), nodeShop), npm, "run", "dev")
	shop.out.wait(t, "shop listens on")
	if url := d.ask(t, "url", "shop"); !strings.HasPrefix(url, "https://shop.localhost:") {
		t.Error(url)
	}
	own := freePort(t)
	pages := d.start(t, writeFiles(t, filepath.Join(t.TempDir(), "pages"), map[string]string{"index.php": `<?php echo "php at ", $_SERVER["HTTP_HOST"];`}), "php", "-S", "127.0.0.1:"+own)
	pages.out.wait(t, "pages listens on 127.0.0.1:"+own)

	apps := d.apps(t)
	if len(apps) != 3 {
		t.Fatalf("%+v", apps)
	}
	for i, name := range []string{"api", "pages", "shop"} {
		if a := apps[i]; a.Name != name || !strings.HasPrefix(a.URL, "https://"+name+".localhost:") || a.Target == "" {
			t.Errorf("%+v", a)
		}
	}
	host := strings.TrimPrefix(apps[2].URL, "https://")
	if body, status := d.get(t, apps[2].URL); body != "shop at "+host+" by https, "+apps[2].URL {
		t.Errorf("%d %s", status, body)
	}
	if body, _ := d.get(t, apps[1].URL); !strings.HasPrefix(body, "php at pages.localhost:") {
		t.Error(body)
	}
	// As root, padlock writes the names into the hosts file if the system does not resolve them.
	d.await(t, "api.localhost in the system's resolver", func() bool { return exec.Command("getent", "ahosts", "api.localhost").Run() == nil })
	if body, status := d.get(t, apps[2].URL+"/other"); !strings.HasPrefix(body, "hello from api.localhost:") {
		t.Errorf("one app asks another: %d %s", status, body)
	}
	list, code := d.get(t, strings.Replace(apps[2].URL, "shop.", "", 1))
	if code != 200 || !strings.Contains(list, apps[0].URL) {
		t.Errorf("the list: %d %s", code, list)
	}

	// The commands that show a running padlock show this one, and another beside it.
	status := func() string {
		c := command(d.home, "status")
		c.Env = append(c.Env, "XDG_RUNTIME_DIR="+d.runtime)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Errorf("padlock status: %v", err)
		}
		return string(out)
	}
	if text := status(); !strings.Contains(text, "\napi.localhost") {
		t.Error(text)
	}
	d.run(t, command(d.home, "--listen", "127.0.0.1:0", "--http", "off", "beside.localhost=3999"))
	if text := status(); !strings.Contains(text, "\nbeside.localhost") || !strings.Contains(text, "\nthe proxy of padlock dev:\n") || !strings.Contains(text, "\napi.localhost") {
		t.Error(text)
	}

	if out := d.ask(t, "stop", "shop"); out != "" {
		t.Error(out)
	}
	<-shop.ended
	if _, status := d.get(t, apps[2].URL); status != 404 {
		t.Errorf("an app that was stopped: %d", status)
	}
	if code := flask.end(syscall.SIGINT); code != 0 {
		t.Errorf("Ctrl-C ends with %d:\n%s", code, flask.out.wait(t))
	}
}

// railsApp is an app of Rails without gems beyond Debian's.
var railsApp = map[string]string{
	"bin/rails":             "APP_PATH = File.expand_path('../config/application', __dir__)\nrequire 'rails/commands'\n",
	"config.ru":             "require_relative 'config/environment'\nrun Rails.application\n",
	"config/environment.rb": "require_relative 'application'\nRails.application.initialize!\n",
	"config/application.rb": `require 'rails'
require 'action_controller/railtie'
class Blog < Rails::Application
  config.load_defaults 6.1
  config.eager_load = false
  config.consider_all_requests_local = true
  config.secret_key_base = 'of this test'
end
`,
	"config/routes.rb": "Rails.application.routes.draw { root to: ->(env) { [200, {}, ['rails at ' + ActionDispatch::Request.new(env).url]] } }\n",
}

// djangoApp is an app of Django in one file. ALLOWED_HOSTS is as startproject leaves it.
var djangoApp = map[string]string{"manage.py": `
import sys
from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpResponse
from django.urls import path
settings.configure(DEBUG=True, ROOT_URLCONF=__name__, SECRET_KEY='of this test', SECURE_PROXY_SSL_HEADER=('HTTP_X_FORWARDED_PROTO', 'https'))
urlpatterns = [path('', lambda request: HttpResponse('django at ' + request.build_absolute_uri()))]
if __name__ == '__main__':
    execute_from_command_line(sys.argv)
`}

// Frameworks that ignore PORT, and check the Host header, are served by one line each. Rails says that it refuses a name that it does not know.
func TestFrameworksAreServedAsTheyAre(t *testing.T) {
	besides(t)
	for _, program := range []string{"ruby", "hugo", "jekyll"} {
		need(t, program)
	}
	d := newDeveloper(t)
	dir := writeFiles(t, t.TempDir(), map[string]string{
		"padlock.dev.yaml": "apps:\n  blog: {command: ruby bin/rails server, directory: blog, domains: [blog.test]}\n  site: {command: /usr/bin/python3 manage.py runserver --noreload, directory: site}\n" +
			"  docs: {command: hugo server, directory: docs}\n  notes: {command: jekyll serve, directory: notes}\n",
		"docs/config.toml": "", "docs/layouts/index.html": `hugo at {{ "x" | absURL }}`,
		"notes/_config.yml": "", "notes/index.html": "---\n---\njekyll at {{ site.url }}",
	})
	writeFiles(t, filepath.Join(dir, "blog"), railsApp)
	writeFiles(t, filepath.Join(dir, "site"), djangoApp)
	all := d.start(t, dir)
	all.out.wait(t, "blog listens on 127.0.0.1:4", "site listens on 127.0.0.1:4", "docs listens on 127.0.0.1:4", "notes listens on 127.0.0.1:4", "blog (Rails) refuses the Host header blog.test")
	for name, want := range map[string]string{"blog": "rails at URL/", "site": "django at URL/", "docs": "hugo at URL/x", "notes": "jekyll at http://localhost:4"} {
		url := d.ask(t, "url", name, "--wait", "30s")
		if body, status := d.get(t, url); !strings.Contains(body, strings.Replace(want, "URL", url, 1)) {
			t.Errorf("%s: %d %s", url, status, body)
		}
	}
	if code := all.end(syscall.SIGINT); code != 0 {
		t.Errorf("Ctrl-C ends with %d", code)
	}
}

// Whichever part is killed, nothing is left behind, and what is left works on.
func TestAnyPartOfDevelopmentIsKilled(t *testing.T) {
	besides(t)
	d := newDeveloper(t)
	dir := writeFiles(t, t.TempDir(), nodeShop)
	shop := d.start(t, dir, "npm-as-a-shell-does", "x")
	<-shop.ended
	if text := shop.out.wait(t); shop.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(text, "npm-as-a-shell-does") || !strings.Contains(text, "hint:") {
		t.Errorf("a program that does not exist: %d\n%s", shop.cmd.ProcessState.ExitCode(), text)
	}

	shop = d.start(t, dir, "sh", "-c", "node server.js; :")
	shop.out.wait(t, "shop listens on")
	proxy := d.proxy()
	if err := syscall.Kill(proxy, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	shop.out.wait(t, "the proxy runs again")
	if now := d.proxy(); now == proxy || now == 0 {
		t.Errorf("process %d after %d", now, proxy)
	}
	if body, status := d.get(t, d.ask(t, "url", "shop", "--wait", "60s")); status != 200 {
		t.Errorf("after the proxy was killed: %d %s", status, body)
	}
	shop.out.wait(t, d.ask(t, "url", "shop")+" →") // the port is another

	// The directory of the sockets is removed, as that of a user who has logged out.
	proxy = d.proxy()
	if err := os.RemoveAll(filepath.Join(d.runtime, "padlock-dev")); err != nil {
		t.Fatal(err)
	}
	d.await(t, "another proxy has the app", func() bool {
		now := d.proxy()
		return now != 0 && now != proxy && len(d.apps(t)) == 1 && d.apps(t)[0].Target != ""
	})

	node := d.apps(t)[0].Target
	if code := shop.end(syscall.SIGKILL); code != -1 {
		t.Error(code)
	}
	d.await(t, "the app goes with the command that was killed", func() bool { return len(d.apps(t)) == 0 })
	d.await(t, "what the app has started ends", func() bool {
		conn, err := net.Dial("tcp", node)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	d.await(t, "the proxy ends after the last app", func() bool { return d.proxy() == 0 })

	// The proxy runs in another directory, and finds a storage that is named from here nevertheless.
	d.start(t, dir, "--storage", "state", "sleep", "60").out.wait(t, "https://shop.localhost")
	if _, err := os.Stat(filepath.Join(dir, "state", "padlock-dev", "handshakes.log")); err != nil {
		t.Error(err)
	}
}

// While an app is not up, a browser is shown what padlock waits for, and loads the app by itself; its WebSocket works.
func TestABrowserWaitsForAnApp(t *testing.T) {
	besides(t)
	d := newDeveloper(t)
	dir := writeFiles(t, t.TempDir(), map[string]string{"app.py": `
import os, sys, time
print('compiling <b>everything</b>', flush=True)
while not os.path.exists('go'): time.sleep(0.05)
from aiohttp import web
async def page(request):
    return web.Response(content_type='text/html', text='''<h1>loading</h1><script>
      const socket = new WebSocket('wss://' + location.host + '/socket')
      socket.onopen = () => socket.send('hot reload')
      socket.onmessage = m => { document.querySelector('h1').textContent = m.data }
    </script>''')
async def socket(request):
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for m in ws: await ws.send_str('echo of ' + m.data)
    return ws
app = web.Application()
app.add_routes([web.get('/', page), web.get('/socket', socket)])
web.run_app(app, host='127.0.0.1', port=int(os.environ['PORT']))
`})
	a := d.start(t, dir, "--name", "slow", "/usr/bin/python3", "app.py")
	a.out.wait(t, "compiling")
	url := d.ask(t, "url", "slow")
	d.trust(t, filepath.Join(d.home, ".pki", "nssdb"))
	ctx := chromium(t, d.padlock)
	if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil {
		t.Fatal(err)
	}
	shows := func(selector string, words ...string) {
		t.Helper()
		for text := ""; ; {
			if ctx.Err() != nil {
				t.Fatalf("the page shows %q", text)
			}
			text, _ = chromedp.Run(ctx, chromedp.Text(selector)) // it may be loading
			if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) }) {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	shows("body", "slow does not listen yet", "app.py", "compiling <b>everything</b>")
	request, err := exec.Command("curl", "-sS", "-i", "--cacert", d.root(t), url).CombinedOutput()
	if text := strings.ToLower(string(request)); err != nil || !strings.Contains(text, " 503") || !strings.Contains(text, "retry-after:") || !strings.Contains(text, `"name":"slow"`) {
		t.Errorf("%v\n%s", err, request)
	}
	writeFiles(t, dir, map[string]string{"go": ""})
	shows("h1", "echo of hot reload")

	if out := d.ask(t, "logs", "slow"); !strings.Contains(out, "compiling <b>everything</b>") {
		t.Error(out)
	}
}

// What a command asks for is done, and what cannot be is said with a remedy.
func TestTheCommandsOfPadlockDev(t *testing.T) {
	besides(t)
	d := newDeveloper(t)
	d.env = []string{"PADLOCK_DEV_NO_HOSTS=1"} // so that names which this system does not resolve stay so
	refused := func(code int, dir string, words []string, args ...string) {
		t.Helper()
		out, err := d.command(dir, args...).CombinedOutput()
		exit, _ := err.(*exec.ExitError)
		if exit == nil || exit.ExitCode() != code {
			t.Errorf("padlock dev %v: %v\n%s", args, err, out)
		}
		for _, w := range words {
			if !strings.Contains(string(out), w) {
				t.Errorf("padlock dev %v does not say %q:\n%s", args, w, out)
			}
		}
	}
	empty := t.TempDir()
	refused(2, empty, []string{"padlock.dev.yaml", "Procfile", "padlock dev npm run dev"})
	refused(2, empty, []string{"a name has letters"}, "--name", "a_b", "true")
	refused(2, empty, []string{`{"event":"error","error":"--name \"a_b\": a name has letters`}, "--json", "--name", "a_b", "true")
	refused(2, empty, []string{"a name has letters"}, "--name", strings.Repeat(strings.Repeat("x", 61)+".", 4)+"x", "true")
	refused(2, empty, []string{"the command is empty"}, "")
	refused(1, empty, []string{"./nothing", "install it, or correct the command"}, "--name", "x", "./nothing")
	refused(2, empty, []string{"example.com is not a local name"}, "--domain", "example.com", "--name", "x", "sleep", "60")
	refused(1, empty, []string{"no app is called nobody"}, "stop", "nobody")
	refused(1, empty, []string{"no app is called nobody"}, "url", "nobody")
	refused(1, empty, []string{"nobody has no log"}, "logs", "nobody")
	refused(7, empty, []string{"x ended with exit code 7"}, "--name", "x", "sh", "-c", "exit 7")

	scripts := writeFiles(t, t.TempDir(), map[string]string{"mode": "echo x", "kind": "echo x"})
	if err := os.Chmod(filepath.Join(scripts, "kind"), 0o755); err != nil {
		t.Fatal(err)
	}
	refused(1, scripts, []string{"chmod +x", "padlock dev sh ./mode"}, "--name", "x", "./mode")
	refused(1, scripts, []string{"padlock dev sh ./kind"}, "--name", "x", "./kind")
	refused(1, scripts, []string{"padlock dev 3000"}, "--name", "x", "localhost:3000")
	refused(2, empty, []string{`{"event":"error","error":"flag provided but not defined: -nmae"`}, "--json", "--nmae", "x", "true")

	refused(2, empty, []string{"99999 is not a port"}, "--port", "99999", "true")
	refused(2, empty, []string{"keep, upstream or a host name"}, "--host-header", "a b", "--name", "x", "sleep", "60")
	pair := writeFiles(t, t.TempDir(), map[string]string{"padlock.dev.yaml": "apps:\n  one: {command: sleep 60}\n  two: {command: sleep 1; exit 6}\n"})
	refused(2, pair, []string{"--name is for one app"}, "--name", "x")
	refused(6, pair, []string{"two ended with exit code 6"}) // and not with that of the one which ends because of it
	refused(6, writeFiles(t, t.TempDir(), map[string]string{"padlock.dev.yaml": "apps:\n  one: {command: exit 6}\n"}), []string{"https://three.localhost"}, "--name", "Three.localhost")

	bare := d.command(empty, "--name", "x", "sh", "-c", `echo "PORT is ${PORT-unset}"; exit 5`)
	bare.Env = append(bare.Env, "PADLOCK_DEV=0", "PORT=")
	if out, err := bare.CombinedOutput(); bare.ProcessState.ExitCode() != 5 || string(out) != "PORT is \n" {
		t.Errorf("PADLOCK_DEV=0: %v\n%s", err, out)
	}

	bare = d.command(pair)
	bare.Env = append(bare.Env, "PADLOCK_DEV=0")
	if out, _ := bare.CombinedOutput(); bare.ProcessState.ExitCode() != 6 || len(out) > 0 {
		t.Errorf("PADLOCK_DEV=0 with two apps: %d\n%s", bare.ProcessState.ExitCode(), out)
	}

	// The flags behind the command are the command's, not padlock's.
	said := d.start(t, empty, "--name", "flags", "echo", "--name", "other", "-h", "--", "x")
	<-said.ended
	if text := said.out.wait(t); !strings.Contains(text, "\n--name other -h -- x\n") {
		t.Error(text)
	}

	// A folder, an app that listens already, several apps of one file, and names in use.
	dist := writeFiles(t, filepath.Join(t.TempDir(), "dist"), map[string]string{"index.html": "a folder"})
	d.start(t, filepath.Dir(dist), "./dist").out.wait(t, "dist listens on")
	if body, _ := d.get(t, d.ask(t, "url", "dist")); body != "a folder" {
		t.Error(body)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "a port") })}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	d.start(t, empty, "--name", "port", strconv.Itoa(l.Addr().(*net.TCPAddr).Port)).out.wait(t, "port listens on")
	if body, _ := d.get(t, d.ask(t, "url", "port")); body != "a port" {
		t.Error(body)
	}
	refused(1, empty, []string{"port.localhost is taken", empty, "padlock dev --name port-2", "padlock dev stop port"}, "--name", "port", "true")
	d.start(t, empty, "--name", "port-2", "sleep", "60").out.wait(t, "port-2.localhost")
	refused(1, empty, []string{"padlock dev --name port-3"}, "--name", "port", "true")
	d.ask(t, "stop", "port-2")
	elsewhere := d.start(t, empty, "--storage", t.TempDir(), "--name", "elsewhere", "sleep", "60")
	elsewhere.out.wait(t, "the proxy has its local CA in "+d.storage, "--storage "+d.storage)
	d.ask(t, "stop", "elsewhere")

	// Without a name, the app of a directory is the one that runs there. Another checkout's app has the name from here.
	for _, checkout := range []string{"main", "copy"} {
		writeFiles(t, filepath.Join(scripts, checkout), map[string]string{"package.json": `{"name":"twice"}`, "web/x": ""})
	}
	first, second := filepath.Join(scripts, "main"), filepath.Join(scripts, "copy")
	d.start(t, first, "sleep", "60").out.wait(t, "twice.localhost")
	refused(1, second, []string{"twice is that of " + first}, "stop")
	twin := d.start(t, second, "--name", "twice-2", "--wildcard", "--domain", "twin.test", "--domain", "*.twin.test", "sleep", "60")
	twin.out.wait(t, "twice-2.localhost", "this machine does not find twin.test; run once: padlock hosts add twin.test")
	refused(1, second, []string{"twin.test is taken", "leave that name out", "padlock dev stop twice-2"}, "--name", "x", "--domain", "twin.test", "true")
	d.in(t, second, "stop")
	<-twin.ended
	d.in(t, first, "stop")

	several := writeFiles(t, t.TempDir(), map[string]string{
		"padlock.dev.yaml": "apps:\n  one: {command: 'echo one starts; php -S 127.0.0.1:$PORT -t web'}\n  two: {command: php -S 127.0.0.1:$PORT, directory: web, wildcard: true, domains: [two.test]}\n",
		"web/index.php":    `<?php echo $_SERVER["HTTP_HOST"];`,
	})
	all := d.start(t, several)
	all.out.wait(t, "one | one starts", "one listens on", "two listens on", "also *.two.localhost", "also two.test")
	for _, name := range []string{"one", "two"} {
		url := d.ask(t, "url", name)
		if body, _ := d.get(t, url); "https://"+body != url {
			t.Errorf("%s: %s", url, body)
		}
	}
	if body, _ := d.get(t, strings.Replace(d.ask(t, "url", "two"), "two.", "below.two.", 1)); !strings.HasPrefix(body, "below.two.localhost") {
		t.Error(body)
	}
	d.ask(t, "stop", "one") // one that ends takes the others of its file along
	<-all.ended
	if n := len(d.apps(t)); n != 2 {
		t.Errorf("%d apps are left", n)
	}

	// What Ctrl-\ sends to padlock reaches all apps.
	traps := "{command: \"trap 'echo quits' QUIT; echo ready; sleep 60 & while :; do wait; done\"}\n"
	all = d.start(t, writeFiles(t, t.TempDir(), map[string]string{"padlock.dev.yaml": "apps:\n  left: " + traps + "  right: " + traps}))
	all.out.wait(t, "left | ready", "right | ready")
	if err := all.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	all.out.wait(t, "left | quits", "right | quits")
	all.end(syscall.SIGTERM)
	if text := all.out.wait(t); strings.Contains(text, "goroutine ") {
		t.Error(text)
	}

	opener := t.TempDir()
	writeFiles(t, opener, map[string]string{"xdg-open": "#!/bin/sh\necho \"$1\" > opened\n"})
	if err := os.Chmod(filepath.Join(opener, "xdg-open"), 0o755); err != nil {
		t.Fatal(err)
	}
	browser := d.command(opener, "open", "dist")
	browser.Env = append(browser.Env, "PATH="+opener+":"+os.Getenv("PATH"))
	if out, err := browser.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	d.await(t, "the browser is opened", func() bool {
		url, err := os.ReadFile(filepath.Join(opener, "opened"))
		return err == nil && strings.TrimSpace(string(url)) == d.ask(t, "url", "dist")
	})
	if out := d.ask(t, "list"); !strings.Contains(out, "dist") || !strings.Contains(out, "TARGET") {
		t.Error(out)
	}
}

// onScreen runs a shell in a terminal of 91 columns and 33 lines. There, $padlock is the program.
func (d *developer) onScreen(t *testing.T) screen {
	t.Helper()
	need(t, "tmux")
	s := screen{filepath.Join(d.runtime, "tmux")}
	c := d.command(d.runtime)
	start := exec.Command("tmux", "-S", s.socket, "new-session", "-d", "-x", "91", "-y", "33", "env HISTFILE= PS1='$ ' bash --norc --noprofile -i")
	start.Dir, start.Env = d.runtime, append(c.Env, "padlock="+c.Path)
	if out, err := start.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("tmux", "-S", s.socket, "kill-server").Run() }) // a test may have closed it
	return s
}

// types presses keys.
func (s screen) types(t *testing.T, keys ...string) {
	t.Helper()
	s.tmux(t, append([]string{"send-keys"}, keys...)...)
}

// In a terminal the app has one too: its size, its colours and its Ctrl-C.
func TestAnAppHasATerminal(t *testing.T) {
	besides(t)
	d := newDeveloper(t)
	writeFiles(t, d.runtime, map[string]string{"app.sh": "trap 'echo interrupted; exit 9' INT\ntrap 'echo now $(stty size)' WINCH\n" +
		"test -t 0 && test -t 1 && test -t 2 && echo a terminal of $(stty size)\nread line\necho read $line\nwhile :; do sleep 0.1; done\n"})
	s := d.onScreen(t)
	s.types(t, "$padlock dev --name shell bash app.sh; echo exit $?", "Enter")
	s.shows(t, "a terminal of 33 91")
	s.types(t, "words", "Enter")
	s.shows(t, "read words")
	s.tmux(t, "resize-window", "-x", "70", "-y", "20")
	s.shows(t, "now 20 70")
	s.types(t, "C-c")
	s.shows(t, "interrupted")
	s.shows(t, "exit 9")
}

// A shell's job control works: Ctrl-Z stops the app with padlock, bg and fg continue both, and what was started with & runs. The terminal is
// the shell's meanwhile. Ctrl-C ends an app also where it would be started again, and no key is lost while it is. What is printed to a pipe
// is no terminal's.
func TestAShellControlsTheJob(t *testing.T) {
	besides(t)
	d := newDeveloper(t)
	writeFiles(t, d.runtime, map[string]string{
		"count.sh": "echo begun; while :; do echo $((n++)) > count; sleep 0.1; done\n",
		"line.sh":  "test -t 1 || echo no terminal; echo ready; read line; echo got $line; exit 3\n",
	})
	s := d.onScreen(t)
	counts := func() bool {
		before, _ := os.ReadFile(filepath.Join(d.runtime, "count"))
		time.Sleep(time.Second)
		after, _ := os.ReadFile(filepath.Join(d.runtime, "count"))
		return string(before) != string(after)
	}

	s.types(t, "$padlock dev --name job bash count.sh", "Enter")
	s.shows(t, "begun")
	s.types(t, "C-z")
	s.shows(t, "Stopped")
	s.types(t, "stty -a | grep -o '.icanon'; echo asked", "Enter")
	s.shows(t, "asked\n")
	if text := s.tmux(t, "capture-pane", "-p"); strings.Contains(text, "-icanon") {
		t.Errorf("the shell's terminal is raw:\n%s", text)
	}
	if counts() {
		t.Error("the app runs although it is stopped")
	}
	s.types(t, "bg", "Enter")
	d.await(t, "the app goes on in the background", counts)
	s.types(t, "clear; jobs; fg", "Enter")
	s.shows(t, "Running")
	time.Sleep(time.Second) // a shell does not say when it has done so
	s.types(t, "C-c")
	s.shows(t, "exit code 130")

	s.types(t, "clear; $padlock dev --name job bash count.sh &", "Enter")
	s.shows(t, "begun")
	s.types(t, "jobs", "Enter")
	s.shows(t, "Running")
	s.types(t, "kill %1; wait; clear; echo done", "Enter")
	s.shows(t, "done\n")

	s.types(t, "clear; $padlock dev --name line --restart bash line.sh | cat", "Enter")
	s.shows(t, "no terminal\nready")
	s.types(t, "one", "Enter")
	s.shows(t, "got one")
	s.shows(t, "started again")
	s.types(t, "two", "Enter") // while it is started again
	s.shows(t, "got two")
	s.types(t, "clear", "Enter", "C-c")
	d.await(t, "the end of the app", func() bool { return len(d.apps(t)) == 0 })
}

// A proxy that is stopped is named by all commands, with what to do; padlock dev ends all the same when it is asked to, with the app's code.
func TestAStoppedProxyIsNamed(t *testing.T) {
	besides(t)
	d := newDeveloper(t)
	app := d.start(t, t.TempDir(), "--name", "shop", "sh", "-c", "trap 'exit 8' TERM; echo begun; while :; do sleep 0.1; done")
	app.out.wait(t, "begun")
	pid := d.proxy()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
	for _, args := range [][]string{{"list"}, {"stop", "shop"}, {"url", "shop"}, {"--name", "other", "true"}} {
		out, err := d.command("", args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), fmt.Sprintf("kill -9 %d", pid)) {
			t.Errorf("padlock dev %v: %v\n%s", args, err, out)
		}
	}
	if code := app.end(syscall.SIGTERM); code != 8 {
		t.Errorf("exit code %d", code)
	}
}

// With --json, padlock's own lines are events, and standard output is the app's. An app that refuses the Host header is named, unless it
// receives its own address there.
func TestEventsOfAnApp(t *testing.T) {
	besides(t)
	need(t, "php")
	d := newDeveloper(t)
	dir := writeFiles(t, t.TempDir(), map[string]string{
		"index.php": `<?php if (str_starts_with($_SERVER["HTTP_HOST"], "shop")) { http_response_code(403); echo 'Blocked request. This host ("shop.localhost") is not allowed.'; }`,
	})
	events := func(args ...string) (names []string) {
		c := d.command(dir, append(args, "--name", "shop", "--json", "sh", "-c", "echo the app; exec php -S 127.0.0.1:$PORT 2>log")...)
		var out strings.Builder
		c.Stdout = &out
		text, err := c.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := json.NewDecoder(text)
		for {
			var event struct {
				Event, Name, URL, Address, Server string
				Code                              *int
			}
			if err := lines.Decode(&event); err != nil {
				break
			}
			names = append(names, event.Event)
			last := "host_refused"
			if len(args) > 0 {
				last = "listening"
			}
			switch event.Event {
			case "registered":
				if event.URL == "" || event.Name != "shop" {
					t.Errorf("%+v", event)
				}
			case "host_refused":
				if event.Server != "Vite" {
					t.Errorf("%+v", event)
				}
			case "ended":
				if event.Code == nil || *event.Code != 143 {
					t.Errorf("%+v", event)
				}
			}
			if event.Event == last {
				_ = c.Process.Signal(syscall.SIGTERM)
			}
		}
		_ = c.Wait() // the code is in an event
		if out.String() != "the app\n" {
			t.Errorf("standard output: %q", out.String())
		}
		return names
	}
	if got := events(); !slices.Equal(got, []string{"registered", "listening", "host_refused", "ended"}) {
		t.Error(got)
	}
	if got := events("--host-header", "upstream"); !slices.Equal(got, []string{"registered", "listening", "ended"}) {
		t.Error(got)
	}
	d.start(t, dir, "--name", "shop", "php", "-S", "127.0.0.1:{port}").out.wait(t, "(Vite) refuses the Host header shop.localhost")
}

// padlock PORT mentions padlock dev at a terminal, once.
func TestPadlockDevIsMentionedOnce(t *testing.T) {
	besides(t)
	d := newDeveloper(t)
	s := d.onScreen(t)
	s.tmux(t, "resize-window", "-x", "200") // lines are not broken
	for _, mentioned := range []bool{true, false} {
		s.types(t, "clear", "Enter")
		d.await(t, "an empty screen", func() bool { return !strings.Contains(s.tmux(t, "capture-pane", "-p"), "localhost") })
		s.types(t, "$padlock --listen 127.0.0.1:0 3999; echo ended $?", "Enter")
		s.shows(t, "https://localhost")
		if mentioned {
			s.shows(t, "padlock dev npm run dev")
		}
		s.types(t, "C-c")
		s.shows(t, "ended 0")
		if text := s.tmux(t, "capture-pane", "-p"); strings.Contains(text, "padlock dev npm run dev") != mentioned {
			t.Errorf("mentioned is not %v:\n%s", mentioned, text)
		}
	}
}

// Closing the terminal ends the app, its route and padlock dev.
func TestTheTerminalIsClosed(t *testing.T) {
	besides(t)
	d := newDeveloper(t)
	s := d.onScreen(t)
	s.types(t, "$padlock dev --name closed bash -c 'echo $$ > pid; while :; do sleep 0.1; done'", "Enter")
	pid := 0
	d.await(t, "the app", func() bool {
		text, _ := os.ReadFile(filepath.Join(d.runtime, "pid"))
		pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		return pid > 0
	})
	s.tmux(t, "kill-server")
	d.await(t, "the end of the app", func() bool { return syscall.Kill(pid, 0) != nil && len(d.apps(t)) == 0 })
}

// Another user of the machine who listens on the port of an app, before the app does, gets none of its requests, and sees no setting of the proxy.
func TestAnotherUserTakesThePortOfAnApp(t *testing.T) {
	besides(t)
	d := newDeveloper(t)
	d.storage = filepath.Join(t.TempDir(), "of-its-own")
	d.env = []string{"PADLOCK_STORAGE=" + d.storage}

	// The kernel takes a socket's owner from the thread that opens it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if _, err := unix.SetfsuidRetUid(54321); err != nil {
		t.Fatal(err)
	}
	theirs, err := net.Listen("tcp", "127.0.0.1:0")
	if _, back := unix.SetfsuidRetUid(0); err != nil || back != nil {
		t.Fatal(err, back)
	}
	defer theirs.Close()
	var taken atomic.Int64
	go func() {
		_ = http.Serve(theirs, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { taken.Add(1) }))
	}()

	_, port, _ := net.SplitHostPort(theirs.Addr().String())
	app := d.start(t, t.TempDir(), "--name", "shop", "--port", port, "sleep", "600")
	app.out.wait(t, "port "+port+" is used by user 54321")
	url := d.ask(t, "url", "shop")
	if body, status := d.get(t, url); status != 503 {
		t.Errorf("%d %s", status, body)
	}
	listed := d.start(t, t.TempDir(), "--name", "listed", "--json", port)
	listed.out.wait(t, `"event":"port_taken"`, `"user":"54321"`)
	if body, status := d.get(t, d.ask(t, "url", "listed")); status != 503 || taken.Load() > 0 {
		t.Errorf("%d %s; the other user has %d requests", status, body, taken.Load())
	}

	// Everybody can read the arguments of a process, and a storage's URL may have a password.
	if arguments, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", d.proxy())); err != nil || strings.Contains(string(arguments), d.storage) {
		t.Errorf("the proxy was started with %q, %v", arguments, err)
	}
	if _, err := os.Stat(filepath.Join(d.storage, "localca", "root.pem")); err != nil {
		t.Error(err)
	}
}
