package discovery

import (
	"net/netip"
	"strings"
	"testing"
)

func TestAContainerIsReachedWherePadlockCan(t *testing.T) {
	beside := &place{local: []netip.Prefix{netip.MustParsePrefix("172.18.0.0/16"), netip.MustParsePrefix("fd12::/64")}}
	inside := &place{name: "padlock", networks: map[string]string{"id-edge": "edge"}}
	bridge := map[string]*attachment{"app": {"id-app", "172.17.0.2", ""}, "edge": {"id-edge", "172.18.0.2", "fd12::2"}, "none": nil}
	published := map[string][]binding{"80/tcp": {{"0.0.0.0", "32768"}}, "81/tcp": {{"192.0.2.7", "99"}}, "82/tcp": {{"127.0.0.1", "1:2"}}}
	for _, c := range []struct {
		name          string
		at            *place
		mode, network string
		networks      map[string]*attachment
		ports         map[string][]binding
		port          string
		want          string // an address, or what the error says
	}{
		{"beside the engine, by the bridge", beside, "", "", bridge, published, "80", "172.18.0.2:80"},
		{"beside the engine, not by a bridge of this machine", beside, "", "", map[string]*attachment{"app": {"id-app", "172.17.0.2", ""}}, published, "80", "127.0.0.1:32768"},
		{"published on an address", beside, "", "", nil, published, "81", "192.0.2.7:99"},
		{"published nowhere", beside, "", "", map[string]*attachment{"app": {"id-app", "172.17.0.2", ""}}, nil, "80", "172.17.0.2:80"},
		{"published on nonsense", beside, "", "", nil, published, "82", "has no address"},
		{"only IPv6", beside, "", "", map[string]*attachment{"edge": {"id-edge", "", "fd12::2"}}, nil, "80", "[fd12::2]:80"},
		{"the machine's network", beside, "host", "", nil, nil, "80", "127.0.0.1:80"},
		{"in a container, shared", inside, "", "", bridge, published, "80", "172.18.0.2:80"},
		{"in a container, not shared", inside, "", "", map[string]*attachment{"app": {"id-app", "172.17.0.2", ""}}, published, "80", "shares no network with padlock: it is in app, padlock in edge"},
		{"in a container, none at all", inside, "", "", nil, published, "80", "it is in none"},
		{"in a container, the machine's network", inside, "host", "", nil, nil, "80", "runs in the machine's own network"},
		{"named", inside, "", "app", bridge, nil, "80", "172.17.0.2:80"},
		{"named, but not there", beside, "", "other", bridge, nil, "80", "is not in the network other, but in: app, edge"},
		{"an address that is none", beside, "", "", map[string]*attachment{"edge": {"id-edge", "172.18.0.2%eth0", "$(id)"}}, nil, "80", "has no address"},
	} {
		about := &inspected{Name: "/app"}
		about.HostConfig.NetworkMode, about.NetworkSettings.Networks, about.NetworkSettings.Ports = c.mode, c.networks, c.ports
		got, err := c.at.address(about, c.network, c.port)
		if err != nil {
			got = err.Error()
		}
		if got != c.want && (err == nil || !strings.Contains(got, c.want)) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestTheOwnContainerIsFoundAmongTheMounts(t *testing.T) {
	id := strings.Repeat("0a", 32)
	for line, want := range map[string]string{
		"585 560 254:1 /var/lib/docker/containers/" + id + "/hostname /etc/hostname rw,relatime - ext4 /dev/vda rw":                      id,
		"585 560 0:25 /containers/overlay-containers/" + id + "/userdata/hostname /etc/hostname rw,nosuid - tmpfs tmpfs rw":              id,
		"585 560 254:1 /var/lib/docker/containers/" + id + "/mounts/shm /var/lib/docker/containers/" + id + "/mounts/shm rw - tmpfs shm": "",
		"585 560 254:1 / / rw,relatime - ext4 /dev/vda rw":                                                                               "",
	} {
		got := ""
		if m := mounted().FindStringSubmatch(line); m != nil {
			got = m[1]
		}
		if got != want {
			t.Errorf("%s: %q", line, got)
		}
	}
}

// A container's address is never one that stands for this machine, or for the service that gives a machine of a cloud its credentials.
func TestNoContainerHasAnAddressOfThisMachine(t *testing.T) {
	at := &place{local: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("127.0.0.0/8")}, own: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
	for address, want := range map[string]string{
		"127.0.0.1": "", "127.8.8.8": "", "::1": "", "::ffff:127.0.0.1": "", "0.0.0.0": "", "::": "", "169.254.169.254": "", "fe80::1": "", "224.0.0.1": "", "ff02::1": "", "255.255.255.255": "",
		"fd00:ec2::254": "", "192.0.2.1": "", "::ffff:192.0.2.1": "", "192.0.2.2": "192.0.2.2:80", "10.0.0.1": "10.0.0.1:80", "fd00::2": "[fd00::2]:80",
	} {
		for _, text := range []attachment{{"n", address, ""}, {"n", "", address}} {
			c := &inspected{}
			c.NetworkSettings.Networks = map[string]*attachment{"n": &text}
			got, err := at.address(c, "", "80")
			if got != want || (err == nil) != (want != "") {
				t.Errorf("%+v: %q, %v", text, got, err)
			}
			if got, err := at.address(c, "n", "80"); got != want || (err == nil) != (want != "") {
				t.Errorf("%+v in its network: %q, %v", text, got, err)
			}
		}
	}
}
