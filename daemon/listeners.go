package daemon

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"

	"padlock/config"
	"padlock/internal/hint"
	"padlock/proxy"
	"padlock/proxy/socket"
)

// listenerSpec is a listener that a configuration asks for.
type listenerSpec struct {
	address string
	plain   bool
}

func listenerSpecs(cfg *config.Config) (all []listenerSpec) {
	add := func(plain bool, addresses ...string) {
		for _, address := range addresses {
			// Several sites may share a listener of their own.
			if w := (listenerSpec{address, plain}); !slices.Contains(all, w) {
				all = append(all, w)
			}
		}
	}

	add(false, cfg.Listen.HTTPS...)
	add(true, cfg.Listen.HTTP...)
	for _, site := range cfg.Sites {
		add(false, site.Listen...)
	}
	return all
}

// listen opens every listener or none. Ports that were not asked for by name give way to others.
func (d *daemon) listen() (open []proxy.Listener, err error) {
	// HTTPS first: without it nothing is served, while plain HTTP only redirects.
	for _, plain := range []bool{false, true} {
		group := slices.DeleteFunc(listenerSpecs(d.cfg), func(w listenerSpec) bool { return w.plain != plain })
		ports := []int{0}
		if d.OtherPorts {
			ports = append(ports, fallbackPorts[plain]...)
		}

		listeners, err := d.inherited.listenOn(group, ports)
		// On a developer's machine port 80 is often taken, and the redirect can be done without.
		if err != nil && d.OtherPorts && plain && portUnavailable(err) {
			d.Reporter.NoPlainPort(ports[1:])
			continue
		}

		if err != nil {
			closeListeners(open)
			return nil, listenError(d.cfg, err)
		}

		open = append(open, listeners...)
	}
	return open, nil
}

// fallbackPorts are the ports that 443, and for plain HTTP 80, give way to.
var fallbackPorts = map[bool][]int{false: ports(8443, 10), true: ports(8080, 10)}

func ports(first, n int) (all []int) {
	for i := range n {
		all = append(all, first+i)
	}
	return all
}

// listenOn opens a group of listeners on the first of some ports where all of them can be; 0 is the port that each
// was asked for with.
func (i *inherited) listenOn(group []listenerSpec, ports []int) (open []proxy.Listener, err error) {
	for _, port := range ports {
		open, err = i.listenAll(group, port)
		if err == nil || !portUnavailable(err) {
			return open, err
		}
	}
	return nil, err
}

func (i *inherited) listenAll(group []listenerSpec, port int) (open []proxy.Listener, err error) {
	for _, w := range group {
		address := w.address
		if port != 0 {
			address = withPort(w.address, strconv.Itoa(port))
		}
		l, err := i.listen(address)
		if errors.Is(err, syscall.EADDRNOTAVAIL) && strings.HasPrefix(w.address, "[::1]") && len(open) > 0 {
			// The machine has no IPv6.
			continue
		}

		// All addresses of a group have the same port, so that a URL works for each of them.
		if err != nil {
			closeListeners(open)
			return nil, listenFailed{err, w}
		}

		open = append(open, i.packets(proxy.Listener{Listener: l, Address: w.address, Plain: w.plain}))
	}
	return open, nil
}

// openPackets opens UDP beside the listeners of listen.https, for when that may not be done later. Where it cannot be
// opened, the proxy will try, and report why.
func openPackets(cfg *config.Config, listeners []proxy.Listener) {
	for i, l := range listeners {
		if cfg.Listen.HTTP3 && l.Packets == nil && slices.Contains(cfg.Listen.HTTPS, l.Address) {
			// The bound address is used rather than the configured one, as the port may have been given up for
			// another.
			listeners[i].Packets, _ = net.ListenPacket("udp", l.Addr().String())
		}
	}
}

func closeListeners(listeners []proxy.Listener) {
	for _, l := range listeners {
		l.Close()
		if l.Packets != nil {
			l.Packets.Close()
		}
	}
}

// ofKind are the listeners for HTTPS, or for plain HTTP.
func ofKind(listeners []proxy.Listener, plain bool) (some []net.Listener) {
	for _, l := range listeners {
		if l.Plain == plain {
			some = append(some, l.Listener)
		}
	}
	return some
}

func portUnavailable(err error) bool {
	return errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EACCES)
}

func withPort(address, port string) string {
	host, _, _ := net.SplitHostPort(address)
	return net.JoinHostPort(host, port)
}

func listenError(cfg *config.Config, err error) error {
	var name *net.DNSError
	var failed listenFailed
	if errors.As(err, &failed) {
		return config.At(listenKey(cfg, failed.spec), listenError(cfg, failed.error))
	}
	// The same error has different remedies, depending on who may open ports here.
	switch {
	case errors.Is(err, syscall.EACCES) && cfg.User != "":
		return hint.Add(fmt.Errorf("%w: user %s may not open ports below 1024", err, cfg.User), "start padlock anew, as root")
	case errors.Is(err, syscall.EADDRINUSE):
		return hint.Add(err, "stop what listens there, or choose another address: --listen 127.0.0.1:9443 (listen.https and listen.http in a file)")
	case errors.Is(err, syscall.EACCES):
		return hint.Add(err, "ports below 1024 need a privilege, which --sysctl net.ipv4.ip_unprivileged_port_start=0 gives a container; or choose a higher one: --listen 127.0.0.1:8443")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return hint.Add(err, "this machine does not have that address; --listen 127.0.0.1:8443 always works")
	case errors.As(err, &name):
		return hint.Add(err, "correct the name, or write an address of this machine, such as 127.0.0.1:8443")
	}
	return err
}

// listenFailed is the error of opening a listener.
type listenFailed struct {
	error
	spec listenerSpec
}

// Unwrap is the error alone.
func (l listenFailed) Unwrap() error { return l.error }

// listenKey is the key that a listener comes from.
func listenKey(cfg *config.Config, of listenerSpec) string {
	key, addresses := "listen.https", cfg.Listen.HTTPS
	if of.plain {
		key, addresses = "listen.http", cfg.Listen.HTTP
	}
	if i := slices.Index(addresses, of.address); i >= 0 {
		return fmt.Sprintf("%s[%d]", key, i)
	}
	for i, site := range cfg.Sites {
		if j := slices.Index(site.Listen, of.address); j >= 0 {
			return fmt.Sprintf("sites[%d].listen[%d]", i, j)
		}
	}
	return key
}

// inherited are listeners that were open before this process was: systemd's (sd_listen_fds(3)), or those of the
// padlock that this one takes the place of.
type inherited struct {
	takeover bool                    // from a padlock that goes on until this one serves
	named    map[string]net.Listener // by the address that the configuration had, from a padlock
	udp      map[string]net.PacketConn
	released chan struct{} // is closed when the padlock before reads UDP no more
	reloads  *os.File      // notifies the padlock before of reloads; nil: there is none, or it does not listen
	systemd  []net.Listener
	packet   []net.PacketConn // systemd's
}

// inheritVariable lists the addresses of the descriptors from the third on, which a restart passes.
const inheritVariable = "PADLOCK_INHERIT"

const firstInherited = 3

// packetsPrefix stands before the address of UDP.
const packetsPrefix = "udp:"

func inherit() (*inherited, error) {
	if list, ok := os.LookupEnv(inheritVariable); ok {
		os.Unsetenv(inheritVariable)
		return fromPadlock(strings.Fields(list))
	}
	return fromSystemd(activation.Files(true))
}

func fromPadlock(names []string) (*inherited, error) {
	i := &inherited{
		takeover: true, named: map[string]net.Listener{}, udp: map[string]net.PacketConn{}, released: make(chan struct{}), reloads: passedOn(reloadsVariable),
	}
	for at, name := range names {
		f := os.NewFile(uintptr(firstInherited+at), name)
		address, udp := strings.CutPrefix(name, packetsPrefix)
		var err error
		if udp {
			i.udp[address], err = net.FilePacketConn(f)
		} else {
			i.named[address], err = net.FileListener(f)
		}

		f.Close()
		if err != nil {
			return nil, fmt.Errorf("taking over the listener %s: %w", name, err)
		}
	}

	fd, err := strconv.Atoi(os.Getenv(releasedVariable))
	os.Unsetenv(releasedVariable)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", releasedVariable, err)
	}

	go func() {
		f := os.NewFile(uintptr(fd), "released")
		// The other process closes its end when it has finished; no byte is expected.
		_, _ = f.Read(make([]byte, 1))
		f.Close()
		close(i.released)
	}()

	return i, nil
}

func fromSystemd(files []*os.File) (*inherited, error) {
	i := &inherited{}
	for _, f := range files {
		if l, err := net.FileListener(f); err == nil {
			i.systemd = append(i.systemd, l)
		} else if p, err := net.FilePacketConn(f); err == nil {
			i.packet = append(i.packet, p)
		} else {
			return nil, fmt.Errorf("taking over %s of systemd, which is no listener: %w", f.Name(), err)
		}
		f.Close()
	}
	return i, nil
}

// packets adds the UDP to a listener that came with it.
func (i *inherited) packets(l proxy.Listener) proxy.Listener {
	if i == nil || l.Plain {
		return l
	}

	if p, ok := i.udp[l.Address]; ok {
		delete(i.udp, l.Address)
		l.Packets, l.Free = p, i.released
		return l
	}

	for at, p := range i.packet {
		if matches(l.Address, p.LocalAddr()) {
			i.packet = slices.Delete(i.packet, at, at+1)
			l.Packets = p
			return l
		}
	}

	return l
}

// listen finds a listener that is open already, or opens one.
func (i *inherited) listen(address string) (net.Listener, error) {
	if i == nil {
		return socket.Listen(address)
	}

	if l, ok := i.named[address]; ok {
		delete(i.named, address)
		return l, nil
	}

	for at, l := range i.systemd {
		if matches(address, l.Addr()) {
			i.systemd = slices.Delete(i.systemd, at, at+1)
			return l, nil
		}
	}

	return socket.Listen(address)
}

// matches reports whether an address of the configuration is that of an open listener.
func matches(address string, open net.Addr) bool {
	actual, err := netip.ParseAddrPort(open.String())
	host, port, split := net.SplitHostPort(address)
	if err != nil || split != nil || port != strconv.Itoa(int(actual.Port())) {
		return false
	}
	if host == "" {
		return actual.Addr().IsUnspecified()
	}
	want, err := netip.ParseAddr(host)
	return err == nil && want.Unmap() == actual.Addr().Unmap() || host == "localhost" && actual.Addr().IsLoopback()
}

// closeRest closes what nobody has asked for, and names it.
func (i *inherited) closeRest() (names []string) {
	for name, l := range i.named {
		names = append(names, name)
		l.Close()
	}

	for _, l := range i.systemd {
		names = append(names, l.Addr().String())
		l.Close()
	}

	for address, p := range i.udp {
		names = append(names, packetsPrefix+address)
		p.Close()
	}

	for _, p := range i.packet {
		names = append(names, packetsPrefix+p.LocalAddr().String())
		p.Close()
	}

	return names
}
