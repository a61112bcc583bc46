//go:build e2e

// Package e2e runs the built program against real clients.
package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"padlock/internal/servicetest"
)

// binary has the race detector, and overwrites buffers that are given back; plain is as it is released.
var binary, plain string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "padlock-e2e-")
	if err != nil {
		panic(err)
	}
	if err := build(dir); err != nil {
		panic(err)
	}
	if said, err = newWritten(filepath.Join(dir, "said")); err != nil {
		panic(err)
	}
	keyLog := filepath.Join(dir, "keylog") // of curl, browsers and others: what they know, padlock must not tell
	os.Setenv("SSLKEYLOGFILE", keyLog)
	beside()
	debug.SetGCPercent(400) // a tenth of the time of the clients of TestIdentity goes into it otherwise
	code := m.Run()
	said.keepLog(keyLog)
	if !nothingSecretWasSaid() {
		code = max(code, 1)
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// build builds both, but where E2E_PADLOCK names another version: to see whether a test finds what was wrong with that.
func build(dir string) error {
	if other := os.Getenv("E2E_PADLOCK"); other != "" {
		binary, plain = other, other
		return nil
	}
	binary, plain = filepath.Join(dir, "padlock"), filepath.Join(dir, "padlock-plain")
	if built := os.Getenv("E2E_RACED"); built != "" { // internal/testrun builds it once for all
		binary = built
	} else if out, err := exec.Command("go", "build", "-race", "-tags", "poison", "-ldflags=-s -w", "-o", binary, "../cmd/padlock").CombinedOutput(); err != nil {
		return errors.New(string(out))
	}
	if built := os.Getenv("E2E_PLAIN"); built != "" {
		plain = built
		return nil
	}
	return servicetest.BuildPlain(plain, "../cmd/padlock", "-ldflags", "-s -w -X main.version="+imageVersion)
}

// said is all that the padlocks of this run have said.
var said *written

// nothingSecretWasSaid searches it, at the end of the run.
func nothingSecretWasSaid() bool {
	if len(said.secrets) == 0 {
		return true // no padlock was run
	}
	n, secrets, found, err := said.verdict()
	fmt.Printf("%d bytes of what padlock said were searched for %d secrets: %d found, %v\n", n, secrets, len(found), err)
	for _, what := range found {
		fmt.Println("    padlock has written a secret:", what)
	}
	return len(found) == 0 && err == nil
}

// padlock is a running program with a home of its own.
type padlock struct {
	home, url string
	admin     string // URL of the console, where there is one
	storage   string // of the local CA
	pid       int
	stderr    *log
	end       func(os.Signal) error // once; later calls do nothing
}

// stop ends it as a service manager would, and expects that it ends well.
func (p *padlock) stop(t *testing.T) {
	t.Helper()
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Errorf("padlock ended with %v:\n%s", err, p.stderr.wait(t))
	}
}

// kill ends it without a chance to do anything.
func (p *padlock) kill() { _ = p.end(syscall.SIGKILL) }

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
	return l.waitFor(t, 90*time.Second, words...)
}

func (l *log) waitFor(t *testing.T, limit time.Duration, words ...string) string {
	t.Helper()
	timeout := time.After(limit)
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

// command runs padlock with the race detector, except for commands that ask or write something and end.
func command(home string, args ...string) *exec.Cmd {
	if len(args) > 0 && slices.Contains(brief, args[0]) {
		return program(plain, home, args...)
	}
	return program(binary, home, args...)
}

// brief commands are run by the hundred. The race detector takes a third of a second of a processor to start, and the tests
// of cmd/padlock run these commands with it.
var brief = []string{"hosts", "man", "reload", "status", "trust", "untrust"}

func program(path, home string, args ...string) *exec.Cmd {
	c := exec.Command(path, args...)
	c.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME=", "SUDO_USER=", "DOAS_USER=", "NO_COLOR=1")
	return c
}

func start(t *testing.T, args ...string) *padlock {
	t.Helper()
	return startBinary(t, binary, args...)
}

func startBinary(t *testing.T, path string, args ...string) *padlock {
	t.Helper()
	return startEnv(t, nil, path, args...)
}

// startEnv starts a program with more variables in its environment.
func startEnv(t *testing.T, env []string, path string, args ...string) *padlock {
	t.Helper()
	p := &padlock{home: t.TempDir()}
	p.storage = filepath.Join(p.home, ".local", "share", "padlock")
	if i := slices.Index(args, "--storage"); i >= 0 {
		p.storage = args[i+1]
	}
	c := program(path, p.home, append([]string{"--listen", "127.0.0.1:0"}, args...)...)
	c.Env = append(c.Env, env...)
	p.run(t, c)
	return p
}

// startFile runs a directory's padlock.yaml, on a port of the kernel's choice where the file takes HTTPS_PORT. Env has further variables
// that it takes.
func startFile(t *testing.T, dir string, env ...string) *padlock {
	t.Helper()
	p := &padlock{home: t.TempDir()}
	p.storage = filepath.Join(p.home, ".local", "share", "padlock")
	c := command(p.home, "run", "--config", "padlock.yaml")
	c.Dir, c.Env = dir, append(append(c.Env, "HTTPS_PORT=0"), env...)
	p.run(t, c)
	return p
}

func (p *padlock) run(t *testing.T, c *exec.Cmd) {
	t.Helper()
	p.stderr = &log{more: make(chan struct{})}
	c.Stderr = io.MultiWriter(p.stderr, said)
	pipe, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := io.TeeReader(pipe, said)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	p.pid = c.Process.Pid
	lines := bufio.NewScanner(stdout)
	for p.url == "" && lines.Scan() {
		if at, ok := strings.CutPrefix(lines.Text(), "padlock: console at "); ok {
			p.admin = at
		}
		if rest, ok := strings.CutPrefix(lines.Text(), "padlock: "); ok && strings.Contains(rest, "://") && strings.Contains(rest, " → ") {
			p.url = strings.Fields(rest)[0]
		}
	}
	var once sync.Once
	p.end = func(signal os.Signal) (err error) {
		once.Do(func() {
			_ = c.Process.Signal(signal)
			hangs := time.AfterFunc(2*time.Minute, func() { _ = c.Process.Signal(syscall.SIGQUIT) }) // it writes what it waits for
			defer hangs.Stop()
			for lines.Scan() { // the pipe is drained before Wait closes it
			}
			err = c.Wait()
		})
		return err
	}
	t.Cleanup(func() {
		p.stop(t)
		said.collect(p.home, p.storage, c.Dir)
	})
	if p.url == "" {
		t.Fatalf("no URL was printed:\n%s", p.stderr.wait(t))
	}
}

// root writes the local CA's root to a file, by padlock trust --print.
func (p *padlock) root(t *testing.T) string {
	t.Helper()
	out, err := command(p.home, "trust", "--print", "--storage", p.storage).Output()
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
