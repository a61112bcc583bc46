package discovery

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"padlock/internal/lazy"
)

// place is where padlock runs, from which it has to reach containers.
type place struct {
	name     string            // of its own container; "": it runs beside the engine, or in the machine's network
	networks map[string]string // of its own container: name by identifier
	local    []netip.Prefix    // networks that this machine is in, where padlock runs beside the engine
	own      []netip.Addr      // of this machine there
}

// place finds padlock's own container, if the engine has it, and that container's networks as they are now.
func (e *engine) place(ctx context.Context) (*place, error) {
	for _, id := range OwnContainer() {
		own, err := e.inspect(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("looking for padlock's own container: %w", err)
		}
		if own == nil || !own.State.Running || own.HostConfig.NetworkMode == "host" {
			continue
		}

		p := &place{name: own.name(), networks: map[string]string{}}
		for name, at := range own.NetworkSettings.Networks {
			if at != nil {
				p.networks[at.NetworkID] = name
			}
		}

		return p, nil
	}

	p := &place{}
	// Without the addresses of this machine, no container looks reachable, which the problem then says.
	addresses, _ := net.InterfaceAddrs()
	for _, a := range addresses {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			p.local = append(p.local, prefix.Masked())
			p.own = append(p.own, prefix.Addr())
		}
	}

	return p, nil
}

// mounted finds the container's identifier in the files that engines put into every container: /etc/hostname comes from
// /var/lib/docker/containers/ID/hostname, with Podman from …/overlay-containers/ID/userdata/hostname.
var mounted = lazy.Regexp(`/([0-9a-f]{64})/\S*(?:hostname|resolv\.conf|hosts) /etc/(?:hostname|resolv\.conf|hosts) `)

// OwnContainer are identifiers that may be those of the container in which this process runs.
func OwnContainer() (ids []string) {
	// Only Linux has this file, and only there does padlock run in containers.
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for _, m := range mounted().FindAllSubmatch(mounts, -1) {
		ids = append(ids, string(m[1]))
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// name is the one that people use.
func (c *inspected) name() string {
	if name := strings.TrimPrefix(c.Name, "/"); name != "" {
		return name
	}
	return c.ID[:min(len(c.ID), 12)]
}

// address is where padlock reaches a port of the container. network is the one that a label or the configuration
// names, or "".
func (p *place) address(c *inspected, network, port string) (string, error) {
	if c.HostConfig.NetworkMode == "host" {
		if p.name != "" {
			return "", trouble("network", "runs in the machine's own network, which padlock in its container "+p.name+" does not reach",
				"take the container out of it, or run padlock with --network host, too")
		}
		return net.JoinHostPort("127.0.0.1", port), nil
	}

	joined := p.elsewhere(c.joined())
	switch {
	case network != "":
		for _, n := range joined {
			if n.name == network {
				return net.JoinHostPort(n.address, port), nil
			}
		}
		return "", trouble("network", fmt.Sprintf("is not in the network %s, but in: %s", network, list(joined)), fmt.Sprintf("docker network connect %s %s", network, c.name()))
	case p.name != "":
		for _, n := range joined {
			if _, shared := p.networks[n.id]; shared {
				return net.JoinHostPort(n.address, port), nil
			}
		}
		return "", trouble("network", fmt.Sprintf("shares no network with padlock: it is in %s, padlock in %s", list(joined), names(p.networks)),
			fmt.Sprintf("docker network connect NETWORK %s, or list one network for both services in the compose file", p.name))
	}

	return p.fromOutside(c, joined, port)
}

// elsewhere are networks without those in which a container has an address of this machine.
func (p *place) elsewhere(joined []network) []network {
	return slices.DeleteFunc(joined, func(n network) bool { return slices.Contains(p.own, netip.MustParseAddr(n.address)) })
}

// fromOutside prefers an address that lies in a network of this machine, as bridges do, then a published port, and
// then any address.
func (p *place) fromOutside(c *inspected, joined []network, port string) (string, error) {
	for _, n := range joined {
		address := netip.MustParseAddr(n.address)
		if slices.ContainsFunc(p.local, func(l netip.Prefix) bool { return l.Contains(address) }) {
			return net.JoinHostPort(n.address, port), nil
		}
	}

	for _, b := range c.NetworkSettings.Ports[port+"/tcp"] {
		host, err := netip.ParseAddr(b.HostIP)
		if err != nil || host.IsUnspecified() {
			host = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		if validPort(b.HostPort) {
			return net.JoinHostPort(host.String(), b.HostPort), nil
		}
	}

	if len(joined) > 0 {
		return net.JoinHostPort(joined[0].address, port), nil
	}
	return "", trouble("network", "has no address", fmt.Sprintf("put it into a network, or publish its port to this machine: -p 127.0.0.1::%s", port))
}

// cloudMetadata is the address of Amazon's service for machines over IPv6. Over IPv4 it is one of link-local addresses.
var cloudMetadata = netip.MustParseAddr("fd00:ec2::254")

// network is one that a container is in, with its address there.
type network struct{ name, id, address string }

// joined are a container's networks in the order of their names. Whoever makes a network without a bridge (macvlan) chooses
// the container's address in it, which may stand for something else where padlock is: an address of the machine itself, or
// that at which clouds give their machines' credentials away, is none.
func (c *inspected) joined() (all []network) {
	for _, name := range slices.Sorted(maps.Keys(c.NetworkSettings.Networks)) {
		at := c.NetworkSettings.Networks[name]
		if at == nil {
			continue
		}

		for _, text := range []string{at.IPAddress, at.GlobalIPv6Address} {
			address, err := netip.ParseAddr(text)
			if address = address.Unmap(); err == nil && address.Zone() == "" && address.IsGlobalUnicast() && address != cloudMetadata {
				all = append(all, network{name, at.NetworkID, address.String()})
				break
			}
		}
	}
	return all
}

func list(networks []network) string {
	if len(networks) == 0 {
		return "none"
	}
	var all []string
	for _, n := range networks {
		all = append(all, n.name)
	}
	return strings.Join(all, ", ")
}

func names(networks map[string]string) string {
	if len(networks) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(maps.Values(networks)), ", ")
}
