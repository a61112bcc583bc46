//go:build e2e

package e2e

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asksByName is run on a device with Avahi as its resolver. It opens the shop, and asks for it again after the
// machine has got another address.
const asksByName = `
mount -t tmpfs none /run && mkdir /run/avahi-daemon
printf '[server]\nhost-name=taken\nenable-dbus=no\nuse-ipv6=no\n' > avahi.conf
avahi-daemon --no-drop-root --no-chroot --no-rlimits -f avahi.conf > avahi.log 2>&1 &
trap "kill $!" EXIT
until getent ahosts taken.local > found; do sleep 0.1; done
echo phone is ready
until [ -e root ]; do sleep 0.1; done
until curl -sS --max-time 5 --cacert "$(cat root)" https://shop.local/ 2> curl.log; do sleep 0.1; done
until getent ahosts shop.local | grep -m1 192.168.77.9; do sleep 0.1; done
`

// Devices nearby ask for an app's name by multicast DNS, and trust its certificate once they trust the local CA.
// They follow the machine to another address. A name that another device has is left to it, and the other apps of
// this machine stay there.
func TestDevicesNearbyAskForAnApp(t *testing.T) {
	besides(t)
	need(t, "avahi-daemon")
	need(t, "php")
	l, d := newLAN(t), newDeveloper(t)

	asks := l.device.move(t, exec.Command("bash", "-c", asksByName))
	asks.Dir = t.TempDir()
	shown := &log{more: make(chan struct{})}
	asks.Stdout, asks.Stderr, asks.WaitDelay = shown, shown, time.Second
	asks.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := asks.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = asks.Wait(); close(ended) }()
	t.Cleanup(func() { _ = syscall.Kill(-asks.Process.Pid, syscall.SIGTERM); <-ended })
	shown.wait(t, "phone is ready")

	dir := writeFiles(t, t.TempDir(), map[string]string{
		"index.php":        `<?php echo "the ", $_SERVER["HTTP_HOST"];`,
		"padlock.dev.yaml": "apps:\n  shop: {command: php -S 127.0.0.1:$PORT}\n  taken: {command: php -S 127.0.0.1:$PORT}\n",
	})
	c := l.machine.move(t, d.command(dir, "--lan"))
	out := &log{more: make(chan struct{})}
	c.Stdout, c.Stderr, c.WaitDelay = io.MultiWriter(out, said), io.MultiWriter(out, said), time.Second
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Signal(syscall.SIGTERM); _ = c.Wait() })
	out.wait(t, "taken.local is the name of 192.168.77.2 on this network", "https://shop.local", "open first: http://192.168.77.1", "shop listens on")
	if err := os.WriteFile(filepath.Join(asks.Dir, "root"), []byte(d.root(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	shown.wait(t, "the shop.local")
	other := l.device.move(t, exec.Command(need(t, "curl"), "-sk", "-o", "/dev/null", "-w", "%{http_code}", "https://192.168.77.1/", "-H", "Host: shop.localhost"))
	if text, _ := other.Output(); strings.TrimSpace(string(text)) == "200" {
		t.Error("a device reaches what is for this machine alone")
	}

	for _, args := range []string{"address del 192.168.77.1/24 dev eth0", "address add 192.168.77.9/24 dev eth0"} {
		if text, err := exec.Command("ip", append([]string{"-n", l.machine.name}, strings.Fields(args)...)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", args, err, text)
		}
	}
	shown.wait(t, "192.168.77.9")
}
