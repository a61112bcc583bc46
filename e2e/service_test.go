//go:build e2e

package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"padlock/internal/servicetest"
)

// A service manager that has the sockets passes them on, and is told when padlock serves and when it ends (sd_listen_fds(3), sd_notify(3)).
func TestSocketsAndReadinessOfSystemd(t *testing.T) {
	besides(t)
	home := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	dir, err := os.MkdirTemp("", "padlock") // t.TempDir may be longer than a socket's path
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	said := make(chan string, 8)
	go func() {
		b := make([]byte, 1024)
		for {
			n, err := notify.Read(b)
			if err != nil {
				return
			}
			said <- string(b[:n])
		}
	}()
	file := write(t, "padlock.yaml", fmt.Sprintf("listen: {https: [%q], http: []}\nsites: [{hosts: [localhost], routes: [{respond: {body: hello}}]}]\n", l.Addr()))
	p := &padlock{home: home, storage: filepath.Join(home, ".local", "share", "padlock")}
	// The shell puts its own number where systemd puts padlock's: exec keeps it.
	c := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" run --config "$1"`, binary, file)
	c.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME=", "NO_COLOR=1", "LISTEN_FDS=1", "NOTIFY_SOCKET="+filepath.Join(dir, "notify"))
	c.ExtraFiles = []*os.File{socket}
	p.run(t, c)
	await := func(want string) {
		t.Helper()
		select {
		case got := <-said:
			if got != want {
				t.Errorf("padlock said %q, not %q", got, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("padlock never said %q", want)
		}
	}
	await("READY=1")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.roots(t), ServerName: "localhost"}}}
	response, err := client.Get("https://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(response.Body)
	response.Body.Close()
	if response.StatusCode != 421 && string(body) != "hello" {
		t.Errorf("%s %s", response.Status, body)
	}
	p.stop(t)
	await("STOPPING=1")
}

// As process 1 of a container padlock ends when it is told to, and does not start another in its place.
func TestAsProcessOne(t *testing.T) {
	besides(t)
	if os.Getuid() != 0 {
		t.Fatal("a process namespace needs root")
	}
	home := t.TempDir()
	p := &padlock{home: home, storage: filepath.Join(home, ".local", "share", "padlock")}
	file := write(t, "padlock.yaml", "listen: {https: [\"127.0.0.1:0\"], http: []}\nadmin: \"off\"\nsites: [{hosts: [localhost], routes: [{respond: {body: hello}}]}]\n")
	c := exec.Command(need(t, "unshare"), "--pid", "--fork", "--mount-proc", "--kill-child", binary, "run", "--config", file)
	c.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME=", "NO_COLOR=1")
	p.run(t, c)
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", p.pid, p.pid))
	if err != nil {
		t.Fatal(err)
	}
	var inner int
	if _, err := fmt.Sscan(string(children), &inner); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(inner, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	p.stderr.wait(t, "this is process 1")
	began := time.Now()
	if err := syscall.Kill(inner, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.stderr.wait(t, "finishing open requests")
	for running(inner) {
		if time.Since(began) > 20*time.Second {
			t.Fatal("it does not end")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// A reload opens the addresses that came and closes those that went; one that cannot be opened changes nothing.
func TestAReloadChangesTheListeners(t *testing.T) {
	besides(t)
	dir := t.TempDir()
	one, two, own := servicetest.FreePort(t), servicetest.FreePort(t), servicetest.FreePort(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	plain := fmt.Sprintf("127.0.0.1:%d", servicetest.FreePort(t))
	const site = "sites: [{hosts: [localhost], routes: [{respond: {body: hello}}]}"
	configure := func(listen, more string) {
		if err := os.WriteFile(filepath.Join(dir, "padlock.yaml"), []byte("listen: {https: ["+listen+"], http: [\""+plain+"\"]}\n"+site+more+"]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at := func(port int) string { return fmt.Sprintf("\"127.0.0.1:%d\"", port) }
	configure(at(one), "")
	p := startFile(t, dir)
	roots := p.roots(t)
	dial := func(port int) (*tls.Conn, error) {
		return tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: []string{"http/1.1"}})
	}
	ask := func(c *tls.Conn) string {
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err.Error()
		}
		body, _ := io.ReadAll(response.Body)
		return string(body)
	}
	kept, err := dial(one)
	if err != nil || ask(kept) != "hello" {
		t.Fatal(err)
	}
	configure(at(one)+", \""+taken.Addr().String()+"\"", "")
	if out, err := command(p.home, "reload").CombinedOutput(); err == nil || !strings.Contains(string(out), "address already in use") {
		t.Errorf("an address that is taken: %v %s", err, out)
	}
	configure(at(two), fmt.Sprintf(", {hosts: [localhost], listen: [%s], routes: [{respond: {body: own}}]}", at(own)))
	if out, err := command(p.home, "reload").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	for port, want := range map[int]string{two: "hello", own: "own"} {
		c, err := dial(port)
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(c); got != want {
			t.Errorf("on the new listener: %q, not %q", got, want)
		}
		c.Close()
	}
	request, _ := http.NewRequest("GET", "http://"+plain+"/x", nil)
	request.Host = "localhost"
	redirected, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	redirected.Body.Close()
	if want := fmt.Sprintf("https://localhost:%d/x", two); redirected.Header.Get("Location") != want {
		t.Errorf("plain HTTP leads to %q, not %q", redirected.Header.Get("Location"), want)
	}
	if _, err := dial(one); err == nil {
		t.Error("the listener that went still answers")
	}
	if got := ask(kept); got != "hello" {
		t.Errorf("a connection of the listener that went: %q", got)
	}
	kept.Close()
}
