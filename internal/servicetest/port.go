package servicetest

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// The range that ports are taken from is below the one that kernels choose from for whoever asks for any port (Linux:
// from 32768, others: from 49152), so that nobody gets a reserved one by chance.
const firstPort, lastPort = 10_000, 32_000

var (
	reservations sync.Mutex
	reserved     = map[int]net.Listener{}
)

// FreePort reserves a port of 127.0.0.1 that nobody listens on, by TCP or UDP, for as long as the process lives. It
// returns each port once, and other processes that call it do not get it either. It may be called from several
// goroutines.
func FreePort(t testing.TB) int {
	t.Helper()
	reservations.Lock()
	defer reservations.Unlock()

	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if reserved[port] != nil || !unused(port) {
			continue
		}

		// An abstract socket goes with the process that has it, however that ends.
		name, err := net.Listen("unix", "@padlock-test-port-"+strconv.Itoa(port))
		if err != nil {
			continue
		}
		reserved[port] = name
		return port
	}

	t.Fatal("no port of 127.0.0.1 is free")
	return 0
}

// unused reports whether nobody listens on a port.
func unused(port int) bool {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	l, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	defer l.Close()
	p, err := net.ListenPacket("udp", address)
	if err != nil {
		return false
	}
	defer p.Close()
	return true
}
