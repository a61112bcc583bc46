//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// curl that is stopped for longer than timeouts.body_idle, as behind a pipe whose reader waits, gets the whole answer when it goes on.
func TestCurlThatIsStoppedGetsTheRest(t *testing.T) {
	besides(t)
	curl := need(t, "curl")
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<21) // 32 MiB: more than the system holds on the way
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) }))
	defer app.Close()
	dir := t.TempDir()
	text := fmt.Sprintf("listen: {https: [\"127.0.0.1:0\"], http: []}\nhandshakes: {show: \"off\"}\naccess_log: {format: \"off\"}\ntimeouts: {body_idle: 500ms}\nsites: [{hosts: [localhost], routes: [{to: %q}]}]\n", app.URL)
	if err := os.WriteFile(filepath.Join(dir, "padlock.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startFile(t, dir)
	for _, version := range []string{"--http1.1", "--http2"} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		c := exec.CommandContext(ctx, curl, "-sS", version, "--cacert", p.root(t), p.url)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var stderr strings.Builder
		c.Stderr = &stderr
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		sum := sha256.New()
		if _, err := io.CopyN(sum, out, 1<<20); err != nil {
			t.Fatal(err, stderr.String())
		}
		if err := c.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		<-time.After(4 * time.Second) // eight times timeouts.body_idle, and longer where the machine is busy
		if err := c.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(sum, out)
		if err := c.Wait(); err != nil {
			t.Errorf("%s: %v %s", version, err, stderr.String())
		}
		if want := sha256.Sum256(content); err != nil || !bytes.Equal(sum.Sum(nil), want[:]) {
			t.Errorf("%s: %d bytes more, %v", version, n, err)
		}
		cancel()
	}
}
