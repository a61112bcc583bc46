//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// lan is a network of the test's own, with the machine that padlock runs on and a device beside it, each in a network namespace.
type lan struct {
	machine, device string // names of the namespaces
	address         string // of the machine
}

func newLAN(t *testing.T) *lan {
	t.Helper()
	l := &lan{machine: fmt.Sprintf("padlock-%d-a", os.Getpid()), device: fmt.Sprintf("padlock-%d-b", os.Getpid()), address: "192.168.77.1"}
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(need(t, "ip"), args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	for _, name := range []string{l.machine, l.device} {
		ip("netns", "add", name)
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "delete", name).Run() })
		ip("-n", name, "link", "set", "lo", "up")
	}
	ip("-n", l.machine, "link", "add", "eth0", "type", "veth", "peer", "name", "wlan0", "netns", l.device)
	for name, link := range map[string][2]string{l.machine: {"eth0", l.address + "/24"}, l.device: {"wlan0", "192.168.77.2/24"}} {
		ip("-n", name, "address", "add", link[1], "dev", link[0])
		ip("-n", name, "link", "set", link[0], "up")
	}
	return l
}

// in has a command run in a namespace.
func in(namespace string, c *exec.Cmd) *exec.Cmd {
	c.Args = append([]string{"ip", "netns", "exec", namespace, c.Path}, c.Args[1:]...)
	c.Path, _ = exec.LookPath("ip")
	return c
}

// start runs padlock on the machine, which has ports of its own.
func (l *lan) start(t *testing.T, args ...string) *padlock {
	t.Helper()
	p := &padlock{home: t.TempDir()}
	p.storage = filepath.Join(p.home, ".local", "share", "padlock")
	p.run(t, in(l.machine, command(p.home, args...)))
	return p
}
