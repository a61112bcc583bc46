//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
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
)

// The configuration is read again under load, by SIGHUP and by padlock reload, with targets added and removed: no request fails, and
// the connections stay. A file with an error changes nothing, and is told with its line.
func TestReloadUnderLoadFailsNoRequest(t *testing.T) {
	works(t)
	var targets []string
	for i := range 3 {
		backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "target %d", i) }))
		defer backend.Close()
		targets = append(targets, strings.TrimPrefix(backend.URL, "http://"))
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "padlock.yaml")
	write := func(extra string, to ...string) {
		t.Helper()
		text := fmt.Sprintf("listen: {https: [\"127.0.0.1:0\"], http: []}\nhandshakes: {show: \"off\"}\naccess_log: {format: \"off\"}\nsites:\n  - hosts: [localhost]\n    routes: [{to: [%s]}]\n%s", strings.Join(to, ", "), extra)
		replaceFile(t, file, text)
	}
	write("", targets...)
	p := startFile(t, dir)
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(p.root(t))
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var requests, ended atomic.Int64
	var clients sync.WaitGroup
	for i := range 16 {
		clients.Go(func() {
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: i%2 == 0}
			transport.DialContext = keeping(&ended)
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
			for ctx.Err() == nil {
				response, err := client.Post(p.url, "text/plain", strings.NewReader("x"))
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(response.Body)
				response.Body.Close()
				if err != nil || response.StatusCode != 200 || !strings.HasPrefix(string(body), "target ") {
					t.Errorf("%v %d %s", err, response.StatusCode, body)
					return
				}
				requests.Add(1)
				if !*long {
					time.Sleep(20 * time.Millisecond) // they leave a processor to other tests
				}
			}
		})
	}
	for i := range 10 {
		write("", targets[i%3], targets[(i+1)%3])
		if i%2 == 0 {
			if out, err := command(p.home, "reload").CombinedOutput(); err != nil {
				t.Fatalf("%v %s", err, out)
			}
		} else {
			if err := syscall.Kill(p.pid, syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			p.stderr.wait(t, "configuration reloaded")
		}
	}
	write("sitess: []\n", targets[0])
	out, err := command(p.home, "reload").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "padlock.yaml:7:1: sitess: unknown key; did you mean sites?") {
		t.Errorf("%v %s", err, out)
	}
	write("timeouts: {idle: 3s}\n", targets[0])
	out, err = command(p.home, "reload").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "timeouts: takes effect only with a new start; nothing has been changed") {
		t.Errorf("%v %s", err, out)
	}
	cancel()
	clients.Wait()
	if n := ended.Load(); n > 0 {
		t.Errorf("padlock has ended %d connections", n)
	}
	t.Logf("%d requests", requests.Load())
}

// replaceFile writes a file so that nobody reads half of it: a reload that was asked for before may only begin now.
func replaceFile(t *testing.T, file, text string) {
	t.Helper()
	if err := errors.Join(os.WriteFile(file+".new", []byte(text), 0o600), os.Rename(file+".new", file)); err != nil {
		t.Fatal(err)
	}
}
