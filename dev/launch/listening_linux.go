package launch

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"padlock/internal/invoker"
)

// socketOf is a TCP socket that listens.
type socketOf struct {
	inode   string
	uid     int // of whoever opened it
	address netip.AddrPort
}

// listeningSockets reads the kernel's tables of TCP sockets.
func listeningSockets() (all []socketOf) {
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		// A kernel without IPv6 has no tcp6.
		text, err := os.ReadFile(table)
		if err != nil {
			continue
		}

		lines := bufio.NewScanner(bytes.NewReader(text))
		for lines.Scan() {
			fields := strings.Fields(lines.Text())
			// 0A is TCP_LISTEN.
			if len(fields) < 10 || fields[3] != "0A" {
				continue
			}
			address, ok := hexAddress(fields[1])
			uid, err := strconv.Atoi(fields[7])
			if ok && err == nil {
				all = append(all, socketOf{fields[9], uid, address})
			}
		}
	}
	return all
}

// hexAddress reads 0100007F:0BB8, whose words of 32 bits are in the machine's order.
func hexAddress(text string) (netip.AddrPort, bool) {
	host, port, ok := strings.Cut(text, ":")
	raw, err := hex.DecodeString(host)
	number, failed := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || failed != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, false
	}
	// The kernel prints each word as a number of the machine, so little-endian ones come reversed.
	for i := 0; i < len(raw); i += 4 {
		binary.BigEndian.PutUint32(raw[i:], binary.NativeEndian.Uint32(raw[i:]))
	}
	address, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(address.Unmap(), uint16(number)), ok
}

// descendants are a process and all that it has started, and those of the session that it leads: what a shell leaves
// behind is the app too.
func descendants(pid int) []int {
	children, sessions := map[int][]int{}, []int{}
	for _, p := range processes() {
		children[p.parent] = append(children[p.parent], p.pid)
		// A process whose parent has ended belongs to init, and is recognized by its group or session.
		if p.group == pid || p.session == pid {
			sessions = append(sessions, p.pid)
		}
	}

	found := []int{pid}
	for i := 0; i < len(found); i++ {
		for _, child := range children[found[i]] {
			if !slices.Contains(found, child) {
				found = append(found, child)
			}
		}
	}

	for _, p := range sessions {
		if !slices.Contains(found, p) {
			found = append(found, p)
		}
	}

	return found
}

// socketsOf are where a process and its descendants listen.
func socketsOf(pid int) []socket {
	listening := map[string]netip.AddrPort{}
	for _, s := range listeningSockets() {
		listening[s.inode] = s.address
	}

	var all []socket
	for _, p := range descendants(pid) {
		dir := filepath.Join("/proc", strconv.Itoa(p), "fd")
		entries, _ := os.ReadDir(dir) // it may have ended
		for _, e := range entries {
			file := filepath.Join(dir, e.Name())
			to, err := os.Readlink(file)
			if err != nil {
				continue
			}
			inode, ok := strings.CutPrefix(to, "socket:[")
			if address, known := listening[strings.TrimSuffix(inode, "]")]; ok && known {
				all = append(all, socket{address: address, file: file, link: to, pid: p})
			}
		}
	}

	return all
}

// onPort is where this user or root listens on a port of this machine.
func onPort(port int) []netip.AddrPort {
	own := owners()
	var all []netip.AddrPort
	for _, s := range listeningSockets() {
		if int(s.address.Port()) == port && slices.Contains(own, s.uid) {
			all = append(all, s.address)
		}
	}
	return all
}

// owners are the users whose sockets may be an app's: this one, root, as whom container engines publish ports, and with
// sudo the user who ran it. Any other could wait for a port to be free, and get an app's requests with their cookies.
func owners() []int {
	all := []int{0, os.Getuid()}
	if by := invoker.Find(); by != nil {
		all = append(all, by.UID)
	}
	return all
}

// TakenBy is a user of this machine who listens on a port, and to whom OnPort and Listening do not lead.
func TakenBy(port int) (name string, ok bool) {
	own := owners()
	for _, s := range listeningSockets() {
		if int(s.address.Port()) != port || slices.Contains(own, s.uid) {
			continue
		}
		id := strconv.Itoa(s.uid)
		if found, err := user.LookupId(id); err == nil {
			return found.Username, true
		}
		return id, true
	}
	return "", false
}
