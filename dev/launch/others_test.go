//go:build linux

package launch

import (
	"net"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"padlock/internal/servicetest"
)

// stranger is a user of this machine who is nobody here.
const stranger = 54321

// listenAs listens on a free port as another user: the kernel takes a socket's owner from the thread that opens it.
func listenAs(t *testing.T, uid int) net.Listener {
	t.Helper()
	servicetest.Root(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if _, err := unix.SetfsuidRetUid(uid); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if _, back := unix.SetfsuidRetUid(0); err != nil || back != nil {
		t.Fatal(err, back)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// Another user who listens on the port of an app gets none of its requests, and is named; with sudo, the user who ran it is no other.
func TestAPortOfAnotherUserIsNoApps(t *testing.T) {
	l := listenAs(t, stranger)
	port := l.Addr().(*net.TCPAddr).Port
	if at, ok := OnPort(port); ok {
		t.Errorf("an app is served at %s, where another user listens", at)
	}
	p := start(t, Command{Args: []string{"sleep", "60"}, Port: port})
	if at, ok := p.Listening(); ok {
		t.Errorf("a command's app is served at %s, where another user listens", at)
	}
	if by, ok := TakenBy(port); !ok || by != "54321" {
		t.Errorf("the port is used by %q, %v", by, ok)
	}

	own, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	t.Setenv("SUDO_USER", "nobody")
	for whose, l := range map[string]net.Listener{"this user's own": own, "of the user who ran sudo": listenAs(t, 65534)} {
		port := l.Addr().(*net.TCPAddr).Port
		at, ok := OnPort(port)
		if by, taken := TakenBy(port); !ok || int(at.Port()) != port || taken {
			t.Errorf("the port %s: %s, %v, used by %q", whose, at, ok, by)
		}
	}
}
