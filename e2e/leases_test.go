//go:build e2e

package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"padlock/internal/servicetest"
)

// lockless becomes the program that its arguments name, for which the kernel answers flock(2) with ENOLCK, as it does on NFS without a lock
// service: by a filter of system calls (seccomp(2)).
const lockless = `
import ctypes, os, sys
class Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint)]
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.POINTER(Instruction))]
flock, errno, allow = %d, 0x00050000 | %d, 0x7fff0000
filter = (Instruction * 4)(Instruction(0x20, 0, 0, 0), Instruction(0x15, 0, 1, flock), Instruction(0x06, 0, 0, errno), Instruction(0x06, 0, 0, allow))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(Program(4, filter)), 0, 0):
    sys.exit(os.strerror(ctypes.get_errno()))
os.execv(sys.argv[1], sys.argv[1:])
`

// Two nodes share a directory whose file system has no locks: that is said, with what to do, and leases take their place. There is one order
// for a name that both have, and the lock of a node that was killed in the middle of an order passes on.
func TestAStorageWithoutLocks(t *testing.T) {
	besides(t)
	ca := startCA(t, servicetest.PebbleOptions{})
	b := startBetween(t, ca)
	storage := filepath.Join(t.TempDir(), "storage")
	addresses := []string{ca.address(), local(servicetest.FreePort(t))}
	start := func(address, http string) *padlock {
		p := &padlock{home: t.TempDir(), storage: storage}
		copied, service := *ca.CA, *ca.Service
		service.URL = b.url
		copied.Service, copied.Root = &service, b.root
		file := nodeFile(t, &theCA{&copied}, storage, address, http, "", "both.example.com")
		c := exec.Command(need(t, "python3"), "-c", fmt.Sprintf(lockless, unix.SYS_FLOCK, unix.ENOLCK), binary, "run", "--config", file)
		c.Env = append(os.Environ(), "HOME="+p.home, "XDG_DATA_HOME=", "NO_COLOR=1")
		p.run(t, c)
		return p
	}

	begun := make(chan struct{})
	b.set(func(r *http.Request) {
		if strings.Contains(r.URL.Path, "order") {
			select {
			case <-begun:
			default:
				close(begun)
			}
			_, _ = io.Copy(io.Discard, r.Body) // or the server does not see that its client goes
			<-r.Context().Done()               // the order never arrives
		}
	}, nil)
	first := start(addresses[0], local(ca.HTTP))
	first.stderr.wait(t, "has no locks", "no locks available", "remedy=")
	<-begun
	first.kill()
	b.set(nil, nil)
	orders := ca.orders()

	nodes := []*padlock{start(addresses[0], local(ca.HTTP)), start(addresses[1], local(servicetest.FreePort(t)))}
	trusting := func(c *tls.Config) { c.InsecureSkipVerify, c.RootCAs = false, ca.roots() }
	prints := map[string]bool{}
	for i, address := range addresses {
		eventuallyIn(t, 3*time.Minute, func() error {
			state, err := see(address, "both.example.com", trusting)
			if err != nil {
				return fmt.Errorf("%w:\n%s", err, nodes[i].stderr.wait(t))
			}
			prints[fingerprintOf(state.PeerCertificates[0])] = true
			return nil
		})
	}
	if n := ca.orders() - orders; n != 1 || len(prints) != 1 {
		t.Errorf("%d orders, %d certificates:\n%s\n%s", n, len(prints), nodes[0].stderr.wait(t), nodes[1].stderr.wait(t))
	}
}
