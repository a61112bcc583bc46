//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/sys/unix"

	"padlock/internal/servicetest"
)

// unprivileged is where padlock runs as a user without privileges: a directory that the user can reach, with the program in it.
type unprivileged struct {
	*user.User
	uid, gid              int
	dir, program, storage string
}

// asNobody puts a copy of a program there: of the one with the race detector, where it is to serve.
func asNobody(t *testing.T, path string) unprivileged {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("to give root up one must be root")
	}
	account, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	u := unprivileged{User: account}
	u.uid, _ = strconv.Atoi(account.Uid)
	u.gid, _ = strconv.Atoi(account.Gid)
	if u.dir, err = os.MkdirTemp("", "padlock-user-"); err != nil { // t.TempDir is below a directory that only root can enter
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(u.dir) })
	u.program, u.storage = filepath.Join(u.dir, "padlock"), filepath.Join(u.dir, "storage")
	content, err := os.ReadFile(path)
	err = errors.Join(err, os.Chmod(u.dir, 0o755), os.WriteFile(u.program, content, 0o755), os.Mkdir(u.storage, 0o700), os.Chown(u.storage, u.uid, u.gid))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func (u unprivileged) configure(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(u.dir, "padlock.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// command runs padlock in a network of its own, where the low ports are free, and privileged.
func (u unprivileged) command() *exec.Cmd {
	c := exec.Command("unshare", "--net", "sh", "-c", `ip link set lo up && exec "$0" run --config padlock.yaml`, u.program)
	c.Dir, c.Env = u.dir, append(os.Environ(), "HOME="+u.dir, "XDG_DATA_HOME=", "NO_COLOR=1")
	return c
}

// inside does something in the network of a process. What it opens must be opened in the calling goroutine.
func inside(t *testing.T, pid int, do func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	theirs, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	if err := unix.Setns(int(theirs.Fd()), unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(err) // the thread would take others along
		}
	}()
	do()
}

// page gets / by HTTP/1.1 in the network of a process.
func page(t *testing.T, pid int, address string, roots *x509.CertPool) (body string, err error) {
	t.Helper()
	var conn net.Conn
	inside(t, pid, func() { conn, err = net.Dial("tcp", address) })
	if err != nil {
		return "", err
	}
	defer conn.Close()
	transport := &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
		return tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: "localhost"}), nil
	}}
	return get(transport)
}

// pageHTTP3 gets / by HTTP/3.
func pageHTTP3(t *testing.T, pid int, address string, roots *x509.CertPool) (body string, err error) {
	t.Helper()
	var socket net.PacketConn
	inside(t, pid, func() { socket, err = net.ListenPacket("udp", "127.0.0.1:0") })
	if err != nil {
		return "", err
	}
	defer socket.Close()
	to, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return "", err
	}
	q := &quic.Transport{Conn: socket}
	defer q.Close()
	transport := &http3.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"},
		Dial: func(ctx context.Context, _ string, c *tls.Config, o *quic.Config) (*quic.Conn, error) {
			return q.DialEarly(ctx, to, c, o)
		},
	}
	defer transport.Close()
	return get(transport)
}

func get(transport http.RoundTripper) (string, error) {
	response, err := (&http.Client{Transport: transport}).Get("https://localhost/")
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

// hasBecome looks at every thread of a process: no identity and no capability of root is left.
func (u unprivileged) hasBecome(t *testing.T, pid int) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(threads) < 2 {
		t.Fatalf("%d threads, %v", len(threads), err)
	}
	want := map[string]string{
		"Uid:": strings.Repeat(u.Uid+" ", 4), "Gid:": strings.Repeat(u.Gid+" ", 4), "Groups:": u.Gid + " ",
		"CapEff:": "0000000000000000 ", "CapPrm:": "0000000000000000 ",
	}
	for _, thread := range threads {
		status, err := os.ReadFile(thread)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended
		} else if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(status), "\n") {
			if fields := strings.Fields(line); len(fields) > 1 && want[fields[0]] != "" {
				if got := strings.Join(fields[1:], " ") + " "; got != want[fields[0]] {
					t.Errorf("%s: %s %s", thread, fields[0], got)
				}
			}
		}
	}
}

// padlock is started as root, opens the low ports, and is another user from then on: every thread, and every file that it makes. It
// takes all its ports along into a restart, UDP among them, though the new one may not open any. What only root may do fails clearly.
func TestRootIsGivenUp(t *testing.T) {
	besides(t)
	u := asNobody(t, binary)
	const good = "listen: {https: [\"127.0.0.1:443\"%s], http: [\"127.0.0.1:80\"]}\nuser: nobody\nstorage: storage\nhandshakes: {show: \"off\"}\nsites: [{hosts: [localhost], routes: [{respond: {body: hello}}]}]\n"
	u.configure(t, fmt.Sprintf(good, ""))
	p := &padlock{home: u.dir, storage: u.storage}
	p.run(t, u.command())
	roots := p.roots(t)
	u.hasBecome(t, p.pid)
	serves := func(by int) {
		t.Helper()
		if body, err := page(t, by, "127.0.0.1:443", roots); err != nil || body != "hello" {
			t.Errorf("HTTP/1.1: %q, %v", body, err)
		}
		if body, err := pageHTTP3(t, by, "127.0.0.1:443", roots); err != nil || body != "hello" {
			t.Errorf("HTTP/3: %q, %v", body, err)
		}
	}
	serves(p.pid)

	u.configure(t, fmt.Sprintf(good, `, "127.0.0.1:444"`))
	out, err := command(u.dir, "reload", "--storage", u.storage).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "user nobody may not open ports below 1024") {
		t.Errorf("a reload with another low port: %v %s", err, out)
	}
	u.configure(t, fmt.Sprintf(good, ""))

	if err := syscall.Kill(p.pid, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	next := child(t, p, -1)
	t.Cleanup(func() { end(t, next) })
	p.stderr.wait(t, "HTTP/3 is served")
	u.hasBecome(t, next)
	serves(next)
	if text := p.stderr.wait(t); strings.Contains(text, "stays root") {
		t.Errorf("it says that it stays root:\n%s", text)
	}
	_ = filepath.WalkDir(u.storage, func(path string, d os.DirEntry, err error) error {
		info, failed := d.Info()
		if err = errors.Join(err, failed); err != nil {
			t.Error(err)
		} else if owner := info.Sys().(*syscall.Stat_t).Uid; int(owner) != u.uid {
			t.Errorf("%s is user %d's", path, owner)
		}
		return nil
	})
}

// Where root cannot be given up, or the user cannot work, padlock does not start, and says what to do.
func TestAUserThatCannotBe(t *testing.T) {
	besides(t)
	u := asNobody(t, binary)
	const site = "listen: {https: [\"127.0.0.1:8443\"], http: []}\nsites: [{hosts: [localhost], routes: [{respond: {body: hello}}]}]\n"
	mine := filepath.Join(u.dir, "mine")
	if err := os.Mkdir(mine, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, text string
		by         *syscall.Credential
		want       []string
	}{
		{"no such user", "user: nobody-at-all\nstorage: storage\n", nil, []string{"unknown user nobody-at-all", "useradd --system"}},
		{"root's storage", "user: nobody\nstorage: mine\n", nil, []string{"user nobody cannot use the storage directory mine", "permission denied", "install -d -m 700 -o nobody mine"}},
		{"root's log", "user: nobody\nstorage: storage\naccess_log: {output: mine/access.log}\n", nil, []string{"opening the log", "permission denied", "chown"}},
		{"another user", "user: daemon\nstorage: storage\n", &syscall.Credential{Uid: uint32(u.uid), Gid: uint32(u.gid)}, []string{"only root can become daemon", "leave user out"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			u.configure(t, c.text+site)
			command := u.command()
			if c.by != nil {
				command.Args, command.Path = []string{u.program, "run", "--config", "padlock.yaml"}, u.program
				command.SysProcAttr = &syscall.SysProcAttr{Credential: c.by}
			}
			out, err := command.CombinedOutput()
			if err == nil {
				t.Error("it started")
			}
			for _, want := range c.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("it does not say %q:\n%s", want, out)
				}
			}
		})
	}
}

// Who runs a configuration as root without naming a user is told; who develops on a machine is not.
func TestStayingRootIsTold(t *testing.T) {
	besides(t)
	runFile(t, write(t, "padlock.yaml", fmt.Sprintf("listen: {https: [%q], http: []}\nadmin: \"off\"\nstorage: %q\nsites: [{hosts: [localhost]}]\n",
		local(servicetest.FreePort(t)), t.TempDir()))).stderr.wait(t, "padlock stays root", "user (--user)")
	p := start(t)
	p.stop(t)
	if said := p.stderr.wait(t); strings.Contains(said, "stays root") {
		t.Errorf("%s", said)
	}
}

// No core file can hold a private key: padlock leaves none even where the system would write one, and other processes of its user cannot
// read its memory.
func TestNoCoreFile(t *testing.T) {
	besides(t)
	u := asNobody(t, binary)
	u.configure(t, "listen: {https: [\"127.0.0.1:0\"], http: []}\nstorage: storage\nsites: [{hosts: [localhost], routes: [{respond: {body: hello}}]}]\n")
	crash := func(c *exec.Cmd, until func(pid int)) syscall.WaitStatus {
		t.Helper()
		c.Dir, c.Env = u.storage, append(os.Environ(), "HOME="+u.dir, "XDG_DATA_HOME=", "NO_COLOR=1", "GOTRACEBACK=crash") // where it may write a core file
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		until(c.Process.Pid)
		_ = c.Process.Signal(syscall.SIGQUIT)
		_ = c.Wait()
		return c.ProcessState.Sys().(syscall.WaitStatus)
	}
	shell := "ulimit -c unlimited && exec "
	if s := crash(exec.Command("sh", "-c", shell+"sleep 60"), func(pid int) { awaitProgram(t, pid, "sleep") }); !s.CoreDump() {
		t.Fatalf("this machine writes no core file at all: %v", s)
	}
	c := exec.Command("sh", "-c", shell+`setpriv --reuid nobody --regid nogroup --clear-groups "$0" run --config ../padlock.yaml`, u.program)
	said := &log{more: make(chan struct{})}
	c.Stdout = said
	s := crash(c, func(pid int) {
		said.wait(t, "https://localhost")
		for _, name := range []string{"mem", "environ"} {
			info, err := os.Stat(fmt.Sprintf("/proc/%d/%s", pid, name))
			if err != nil {
				t.Fatal(err)
			}
			if owner := info.Sys().(*syscall.Stat_t).Uid; owner != 0 {
				t.Errorf("%s of a padlock that is nobody's is user %d's", name, owner)
			}
		}
	})
	if !s.Signaled() || s.CoreDump() {
		t.Errorf("padlock: signalled %v, core dumped %v", s.Signaled(), s.CoreDump())
	}
}

// awaitProgram waits until a shell has become another program.
func awaitProgram(t *testing.T, pid int, name string) {
	t.Helper()
	eventually(t, func() (string, error) {
		now, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err == nil && strings.TrimSpace(string(now)) != name {
			err = fmt.Errorf("it is still %s", now)
		}
		return "", err
	})
}
