package daemon

import (
	"net"
	"strconv"
	"testing"

	"padlock/internal/servicetest"
)

// Where any address of a port is taken, the next port is tried for all of them: a browser chooses among the addresses of localhost.
func TestAPortIsFreeOnEveryAddressOrNotTaken(t *testing.T) {
	asked, half, free := servicetest.FreePort(t), servicetest.FreePort(t), servicetest.FreePort(t)
	for address, port := range map[string]int{"127.0.0.1": asked, "::1": half} {
		l, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(port)))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	var group []listenerSpec
	for _, host := range []string{"127.0.0.1", "::1"} {
		group = append(group, listenerSpec{address: net.JoinHostPort(host, strconv.Itoa(asked))})
	}

	open, err := (*inherited)(nil).listenOn(group, []int{0, half, free})
	if err != nil {
		t.Fatal(err)
	}
	defer closeListeners(open)
	for _, l := range open {
		if got := l.Addr().(*net.TCPAddr).Port; got != free {
			t.Errorf("%s, and %d is free", l.Addr(), free)
		}
	}
	if len(open) != 2 {
		t.Errorf("%d listeners", len(open))
	}
	if again, err := (*inherited)(nil).listenOn(group, []int{0, half, free}); err == nil || !portUnavailable(err) {
		closeListeners(again)
		t.Errorf("with every port taken: %v", err)
	}
}
