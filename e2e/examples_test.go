//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"padlock/internal/servicetest"
)

// freePort reserves a port, for programs that cannot be told to choose one and say which.
func freePort(t *testing.T) string {
	t.Helper()
	return strconv.Itoa(servicetest.FreePort(t))
}

// example copies a directory of examples, so that what a run leaves behind does not stay.
func example(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", "examples", name))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// eventually retries until a server that was just started answers.
func eventually(t *testing.T, try func() (string, error)) string {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		out, err := try()
		if err == nil {
			return out
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v\n%s", err, out)
		}
	}
}

func TestExampleLocalApp(t *testing.T) {
	besides(t)
	dir := example(t, "local-app")
	port := "APP_PORT=" + freePort(t)
	app := exec.Command(need(t, "python3"), filepath.Join(dir, "app.py"))
	app.Env = append(os.Environ(), port)
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = app.Process.Kill(); _ = app.Wait() })
	p := startFile(t, dir, port)
	out := eventually(t, func() (string, error) {
		out, err := exec.Command(need(t, "curl"), "-sS", "--fail", "--cacert", p.root(t), p.url).CombinedOutput()
		return string(out), err
	})
	if !strings.Contains(out, "X-Forwarded-Proto: https") || !strings.Contains(out, "X-Forwarded-Host: app.localhost") {
		t.Errorf("the app saw:\n%s", out)
	}
}

// A real gRPC client and server: messages both ways in turn, trailers, and a status.
func TestExampleGRPC(t *testing.T) {
	besides(t)
	dir := example(t, "grpc")
	python := need(t, "/usr/bin/python3") // the one that has Debian's python3-grpcio
	port := "APP_PORT=" + freePort(t)
	app := exec.Command(python, filepath.Join(dir, "server.py"))
	app.Env, app.Stderr = append(os.Environ(), port), os.Stderr
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = app.Process.Kill(); _ = app.Wait() })
	p := startFile(t, dir, port)
	out := eventually(t, func() (string, error) {
		out, err := exec.Command(python, filepath.Join(dir, "client.py"), p.root(t), p.url[strings.LastIndex(p.url, ":")+1:]).CombinedOutput()
		return string(out), err
	})
	want := "you said hello\nyou said hello again\nleft over: []\ntrailers: {'messages': '2'}\nFAILED_PRECONDITION as you wish\n"
	if out != want {
		t.Errorf("the client says:\n%s", out)
	}
}

func TestExampleClientCertificates(t *testing.T) {
	besides(t)
	dir := example(t, "client-certificates")
	need(t, "openssl")
	script := exec.Command("sh", "make-certificates.sh")
	script.Dir = dir
	if out, err := script.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p := startFile(t, dir)
	secret := strings.Replace(p.url, "open.", "secret.", 1)
	curl := []string{"-sS", "--fail", "--cacert", p.root(t)}
	out, err := exec.Command(need(t, "curl"), append(curl, p.url)...).CombinedOutput()
	if err != nil {
		t.Errorf("the open site: %v\n%s", err, out)
	}
	out, err = exec.Command("curl", append(curl, "--cert", filepath.Join(dir, "alice.pem"), "--key", filepath.Join(dir, "alice-key.pem"), secret)...).CombinedOutput()
	if err != nil {
		t.Errorf("Alice: %v\n%s", err, out)
	}
	if out, err = exec.Command("curl", append(curl, secret)...).CombinedOutput(); err == nil {
		t.Errorf("without a certificate:\n%s", out)
	}
	p.stderr.wait(t, "Alice", "the client showed no certificate, and this site requires one")
}

func TestExampleLoadBalancing(t *testing.T) {
	besides(t)
	var servers []*httptest.Server
	var ports []string
	for i, name := range []string{"ONE", "TWO", "THREE"} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "backend %d %s", i, r.URL.Path) }))
		defer s.Close()
		servers = append(servers, s)
		_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
		ports = append(ports, name+"="+port)
	}
	p := startFile(t, example(t, "load-balancing"), ports...)
	u, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	root := p.root(t)
	curl := func(path string, more ...string) string {
		args := append([]string{"-sS", "--cacert", root, "--resolve", "shop.localhost:" + u.Port() + ":127.0.0.1", p.url + path}, more...)
		out, err := exec.Command(need(t, "curl"), args...).CombinedOutput()
		if err != nil {
			t.Errorf("curl %s: %v %s", path, err, out)
		}
		return string(out)
	}
	if got := curl("/"); got != "the shop is open\n" {
		t.Error(got)
	}
	if got := curl("/old", "-L"); !strings.HasPrefix(got, "backend") {
		t.Error(got)
	}
	servers[1].Close()
	for range 12 {
		if got := curl("/api/orders"); !strings.HasSuffix(got, " /orders") || strings.Contains(got, "backend 1") {
			t.Error(got)
		}
	}
}

func TestExamplePostgreSQL(t *testing.T) {
	besides(t)
	u, err := url.Parse(servicetest.StartPostgres(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	p := startFile(t, example(t, "postgresql"), "POSTGRES_PORT="+u.Port())
	at, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(need(t, "psql"), "host=localhost port="+at.Port()+" sslmode=verify-full sslrootcert="+p.root(t)+" user=padlock dbname=postgres", "-Atc", "select 6 * 7").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "42" {
		t.Errorf("%v %s", err, out)
	}
}
