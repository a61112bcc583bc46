//go:build linux

package launch

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
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
)

// TestMain lets the test's own program be an app.
func TestMain(m *testing.M) {
	if os.Getenv("LAUNCH_TEST_APP") != "" {
		app()
		return
	}
	os.Exit(m.Run())
}

// app listens where its variables say, behind as many shells as they say.
func app() {
	l, err := net.Listen("tcp", os.Getenv("LAUNCH_TEST_APP"))
	if err != nil {
		fmt.Println(err)
		os.Exit(3)
	}
	defer l.Close()
	fmt.Println("listening")
	time.Sleep(time.Minute) // the test ends it
}

func start(t *testing.T, c Command) *Process {
	t.Helper()
	p, err := Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(t.Context(), syscall.SIGKILL); p.Wait() })
	return p
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

// Wherever the app's processes listen, padlock goes there: on the port that it was given, on another, over IPv6 alone, behind a shell.
func TestAnAppIsFoundWhereItListens(t *testing.T) {
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	given, err := FreePort(nil)
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct{ listen, want string }{
		"given":      {fmt.Sprintf("127.0.0.1:%d", given), fmt.Sprintf("127.0.0.1:%d", given)},
		"everywhere": {fmt.Sprintf("0.0.0.0:%d", given), fmt.Sprintf("127.0.0.1:%d", given)},
		"both":       {fmt.Sprintf(":%d", given), fmt.Sprintf("127.0.0.1:%d", given)},
		"another":    {"127.0.0.1:0", "127.0.0.1:"},
		"IPv6":       {"[::1]:0", "[::1]:"},
	} {
		p := start(t, Command{Args: []string{"sh", "-c", own + "; :"}, Env: Environment(os.Environ(), "LAUNCH_TEST_APP="+c.listen), Port: given, Stdout: &safeBuffer{}})
		var at netip.AddrPort
		await(t, what+" listens", func() bool {
			var ok bool
			at, ok = p.Listening()
			return ok
		})
		if !strings.HasPrefix(at.String(), c.want) {
			t.Errorf("%s: found at %s, not %s", what, at, c.want)
		}
		p.Stop(t.Context(), syscall.SIGTERM)
		p.Wait()
		if at, ok := p.Listening(); ok {
			t.Errorf("%s: found at %s after its end", what, at)
		}
	}
}

// A debugger's port is not the app's.
func TestTheGivenPortGoesFirstAndADebuggersNever(t *testing.T) {
	parse := netip.MustParseAddrPort
	nobody := func() []netip.AddrPort { return nil }
	debug := append(slices.Clone(debuggers), 7000)
	for _, c := range []struct {
		own  []netip.AddrPort
		want string
	}{
		{[]netip.AddrPort{parse("127.0.0.1:3000"), parse("127.0.0.1:4000")}, "127.0.0.1:4000"},
		{[]netip.AddrPort{parse("127.0.0.1:9229"), parse("127.0.0.1:3000")}, "127.0.0.1:3000"},
		{[]netip.AddrPort{parse("127.0.0.1:9229")}, ""},
		{[]netip.AddrPort{parse("127.0.0.1:7000"), parse("127.0.0.1:3000")}, "127.0.0.1:3000"},
		{[]netip.AddrPort{parse("[::1]:3000"), parse("127.0.0.1:3001")}, "127.0.0.1:3001"},
		{nil, ""},
	} {
		at, ok := choose(4000, c.own, debug, nobody)
		if got := at.String(); ok != (c.want != "") || ok && got != c.want {
			t.Errorf("%v: %s, %v", c.own, got, ok)
		}
	}
	if at, ok := choose(4000, nil, debug, func() []netip.AddrPort { return []netip.AddrPort{parse("0.0.0.0:4000")} }); !ok || at.String() != "127.0.0.1:4000" {
		t.Errorf("a container's port: %s, %v", at, ok)
	}
}

func TestTheExitCodeIsTheApps(t *testing.T) {
	for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -TERM $$": 143} {
		p := start(t, Command{Args: []string{"sh", "-c", script}})
		if got := p.Wait(); got != want {
			t.Errorf("%s: %d", script, got)
		}
	}
	if _, err := Start(Command{Args: []string{"no-such-program-anywhere"}}); err == nil {
		t.Error("a program that does not exist has started")
	}
}

// alive reports whether a process runs, and has not only been left by its parent.
func alive(pid int) bool {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err == nil && !strings.Contains(string(text), ") Z ")
}

// What an app has started ends with it, though it is asked in vain.
func TestTheWholeGroupEnds(t *testing.T) {
	var out safeBuffer
	p := start(t, Command{Args: []string{"sh", "-c", `trap "" TERM; sleep 60 & echo $!; wait`}, Stdout: &out})
	await(t, "the child's number", func() bool { return strings.HasSuffix(out.String(), "\n") })
	child, err := strconv.Atoi(strings.TrimSpace(out.String()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	p.Stop(ctx, syscall.SIGTERM)
	p.Wait()
	await(t, "the child's end", func() bool { return !alive(child) })
}

func TestAGroupIsEndedByAnotherProcess(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sleep 60 & sleep 60; :")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	EndGroup(cmd.Process.Pid)
	<-ended
}

func TestALogKeepsTheEnd(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x.log")
	l, err := OpenLog(name)
	if err != nil {
		t.Fatal(err)
	}
	line := bytes.Repeat([]byte("x"), 1<<10)
	for i := range 15 << 10 {
		copy(line, fmt.Sprintf("%08d", i))
		line[len(line)-1] = '\n'
		_, _ = l.Write(line)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := ReadLog(name, MaxLog)
	if err != nil || len(text) != MaxLog {
		t.Fatalf("%d bytes, %v", len(text), err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	for i := range lines {
		if n, err := strconv.Atoi(lines[len(lines)-1-i][:8]); err != nil || n != 15<<10-1-i {
			t.Fatalf("line %d from the end is %.8s", i, lines[len(lines)-1-i])
		}
	}
	if short, err := ReadLog(name, 10); err != nil || len(short) != 10 {
		t.Errorf("%q, %v", short, err)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
}

func TestLinesOfSeveralAppsStayWhole(t *testing.T) {
	var out safeBuffer
	var lines sync.Mutex
	var writing sync.WaitGroup
	for _, name := range []string{"a", "b"} {
		w := Prefixed(&out, name+" | ", &lines)
		writing.Go(func() {
			for range 100 {
				for _, part := range []string{name, name, "\r\n", name, "\n"} {
					_, _ = w.Write([]byte(part))
				}
			}
			_, _ = w.Write([]byte("end"))
			_ = w.Close()
		})
	}
	writing.Wait()
	for line := range strings.Lines(out.String()) {
		switch line {
		case "a | aa\n", "a | a\n", "b | bb\n", "b | b\n", "a | end\n", "b | end\n":
		default:
			t.Fatalf("%q", line)
		}
	}
}

// safeBuffer is written and read by different goroutines.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// What an app leaves in its process group when it ends goes with it.
func TestAnAppsGroupEndsWithIt(t *testing.T) {
	dir := t.TempDir()
	p, err := Start(Command{Args: []string{"sh", "-c", "sleep 1000 & echo $! > left; exit 3"}, Dir: dir, Env: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	if code := p.Wait(); code != 3 {
		t.Errorf("exit code %d", code)
	}
	text, err := os.ReadFile(filepath.Join(dir, "left"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	for _, left := range processes() {
		if left.pid == pid && !left.ended {
			t.Errorf("process %d is left", pid)
		}
	}
}
