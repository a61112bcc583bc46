//go:build !linux

package launch

import (
	"bufio"
	"bytes"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// socketsOf are where a process of the group that pid leads listens, by lsof where there is one.
func socketsOf(pid int) (all []socket) {
	if runtime.GOOS == "windows" {
		return nil
	}

	out, err := exec.Command("lsof", "-a", "-nP", "-iTCP", "-sTCP:LISTEN", "-Fn", "-g", strconv.Itoa(pid)).Output()
	if err != nil {
		return nil
	}
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		name, ok := strings.CutPrefix(lines.Text(), "n")
		if !ok {
			continue
		}
		name = strings.Replace(name, "*:", "127.0.0.1:", 1)
		if address, err := netip.ParseAddrPort(name); err == nil {
			all = append(all, socket{address: address})
		}
	}

	return all
}

// commandOf describes the command that a process runs; "": it is not known here.
func commandOf(int) string { return "" }

// onPort is where a port of this machine accepts connections.
func onPort(port int) (all []netip.AddrPort) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		address := net.JoinHostPort(host, strconv.Itoa(port))
		if conn, err := net.DialTimeout("tcp", address, time.Second); err == nil {
			conn.Close()
			all = append(all, netip.MustParseAddrPort(address))
		}
	}
	return all
}

// TakenBy is a user of this machine who listens on a port, and to whom OnPort and Listening do not lead; here nobody is
// known.
func TakenBy(int) (name string, ok bool) { return "", false }
