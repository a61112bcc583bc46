//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// lan joins the machine that padlock runs on and a device beside it, each in a network namespace.
type lan struct {
	machine, device network
	address         string // of the machine
}

func newLAN(t *testing.T) *lan {
	t.Helper()
	l := &lan{machine: newNetwork(t), device: newNetwork(t), address: "192.168.77.1"}
	for _, args := range []string{
		"-n " + l.machine.name + " link add eth0 type veth peer name wlan0 netns " + l.device.name,
		"-n " + l.machine.name + " address add " + l.address + "/24 dev eth0",
		"-n " + l.machine.name + " link set eth0 up",
		"-n " + l.device.name + " address add 192.168.77.2/24 dev wlan0",
		"-n " + l.device.name + " link set wlan0 up",
	} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", args, err, out)
		}
	}
	return l
}

// move has a command run in the namespace that it would not be in by itself.
func (n network) move(t *testing.T, c *exec.Cmd) *exec.Cmd {
	t.Helper()
	c.Args = append([]string{"ip", "netns", "exec", n.name, c.Path}, c.Args[1:]...)
	c.Path = need(t, "ip")
	return c
}

// app serves a page on port 3000 of the machine.
func (l *lan) app(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte("<!doctype html><title>the app</title><h1>The app</h1>"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := l.machine.command(dir, "python3", "-m", "http.server", "3000", "--bind", "127.0.0.1")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
}

// start runs padlock on the machine, which has ports of its own.
func (l *lan) start(t *testing.T, args ...string) *padlock {
	t.Helper()
	p := &padlock{home: t.TempDir()}
	p.storage = filepath.Join(p.home, ".local", "share", "padlock")
	p.run(t, l.machine.move(t, command(p.home, args...)))
	return p
}

// get asks from the device, by plain HTTP.
func (l *lan) get(t *testing.T, path string) []byte {
	t.Helper()
	out, err := l.device.move(t, exec.Command(need(t, "curl"), "-sS", "--fail", "http://"+l.address+path)).Output()
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return out
}

// terminal opens both ends of a pseudoterminal (pts(4)).
func terminal(t *testing.T) (outside, inside *os.File) {
	t.Helper()
	outside, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { outside.Close() })
	if err := unix.IoctlSetPointerInt(int(outside.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(outside.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	inside, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return outside, inside
}
