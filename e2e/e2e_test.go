//go:build e2e

// Package e2e runs the built program against real clients.
package e2e

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "padlock-e2e-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "padlock")
	if out, err := exec.Command("go", "build", "-race", "-o", binary, "../cmd/padlock").CombinedOutput(); err != nil {
		panic(string(out))
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// padlock is a running program with a home of its own.
type padlock struct {
	home, url string
	stderr    *log
}

// log collects what the program writes, and can be waited on.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.more)
	l.more = make(chan struct{})
	return l.text.Write(p)
}

// wait returns the text as soon as it holds every word.
func (l *log) wait(t *testing.T, words ...string) string {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		l.mu.Lock()
		text, more := l.text.String(), l.more
		l.mu.Unlock()
		missing := ""
		for _, w := range words {
			if !strings.Contains(text, w) {
				missing = w
			}
		}
		if missing == "" {
			return text
		}
		select {
		case <-more:
		case <-timeout:
			t.Fatalf("%q was never said in:\n%s", missing, text)
		}
	}
}

func command(home string, args ...string) *exec.Cmd {
	c := exec.Command(binary, args...)
	c.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME=", "NO_COLOR=1")
	return c
}

func start(t *testing.T, args ...string) *padlock {
	t.Helper()
	p := &padlock{home: t.TempDir(), stderr: &log{more: make(chan struct{})}}
	c := command(p.home, append([]string{"--listen", "127.0.0.1:0"}, args...)...)
	c.Stderr = p.stderr
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for p.url == "" && lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "padlock: https://"); ok {
			p.url = "https://" + strings.Fields(rest)[0]
		}
	}
	t.Cleanup(func() {
		c.Process.Signal(syscall.SIGTERM)
		for lines.Scan() { // the pipe is drained before Wait closes it
		}
		if err := c.Wait(); err != nil {
			t.Errorf("padlock ended with %v:\n%s", err, p.stderr.text.String())
		}
	})
	if p.url == "" {
		t.Fatalf("no URL was printed:\n%s", p.stderr.text.String())
	}
	return p
}

// root writes the local CA's root to a file, by padlock trust --print.
func (p *padlock) root(t *testing.T) string {
	t.Helper()
	out, err := command(p.home, "trust", "--print").Output()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(p.home, "root.pem")
	if err := os.WriteFile(file, out, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// need fails the test, and never skips it, when a program is not installed.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%s is not installed: run e2e/install.sh", program)
	}
	return path
}
