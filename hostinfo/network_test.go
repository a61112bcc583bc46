package hostinfo

import (
	"net/netip"
	"slices"
	"testing"
)

func TestTheAddressThatAPhoneReachesStandsFirst(t *testing.T) {
	at := func(address, on string) Address { return Address{netip.MustParseAddr(address), on} }
	addresses := []Address{
		at("172.17.0.1", "docker0"), at("169.254.7.7", "eth1"), at("fd00::7", "wlan0"), at("10.8.0.2", "tun0"), at("192.168.1.7", "wlan0"),
	}
	likeliest(addresses, netip.MustParseAddr("192.168.1.7"))
	var got []string
	for _, a := range addresses {
		got = append(got, a.String())
	}
	if want := []string{"192.168.1.7", "10.8.0.2", "fd00::7", "169.254.7.7", "172.17.0.1"}; !slices.Equal(got, want) {
		t.Errorf("%v, and not %v", got, want)
	}
}

func TestOnlyAddressesThatTheLocalCAMaySignForAreTold(t *testing.T) {
	for address, want := range map[string]bool{
		"192.168.1.7": true, "10.0.0.1": true, "100.64.0.9": true, "::ffff:10.0.0.1": true, "fd00::7": true,
		"127.0.0.1": false, "::1": false, "8.8.8.8": false, "2001:db8::1": false, "fe80::1": false,
	} {
		if got := nearby(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}

func TestTheNameByMulticastDNSIsTheMachinesOwn(t *testing.T) {
	for host, want := range map[string]string{
		"Desk": "desk.local", "desk.example.com": "desk.local", "desk.local": "desk.local",
		"localhost": "", "localhost.localdomain": "", "a b": "", "": "", "10.0.0.1": "",
	} {
		if got := multicastName(host); got != want {
			t.Errorf("%q: %q", host, got)
		}
	}
	n := Network{Addresses: []Address{{netip.MustParseAddr("10.0.0.1"), "eth0"}}, Name: "desk.local"}
	for host, want := range map[string]bool{"10.0.0.1": true, "desk.local": true, "10.0.0.2": false, "": false, "evil.example": false} {
		if n.Has(host) != want {
			t.Errorf("%q: %v", host, !want)
		}
	}
	if (Network{}).Has("") {
		t.Error("no name is one")
	}
}
