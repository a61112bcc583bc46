package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"padlock/certs"
	"padlock/certs/acme"
	"padlock/certs/localca"
	"padlock/certs/trust"
	"padlock/config"
	"padlock/handshake"
	"padlock/handshake/probe"
	"padlock/hostinfo"
	"padlock/internal/access"
	"padlock/internal/hint"
	"padlock/internal/mask"
	"padlock/proxy"
)

func (p *program) doctorCommand() *cli.Command {
	return &cli.Command{
		Name: "doctor", Usage: "check ports, names, clock, trust stores, storage and a handshake with itself",
		UsageText: "padlock doctor [--config FILE] [NAME...]\n\nExamples:\n  padlock doctor\n  padlock doctor app.example.com", OnUsageError: onUsageError,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Usage: "configuration `FILE` that names the storage and the sites, as for padlock run", EnvVars: []string{"PADLOCK_CONFIG"}},
			storageFlag(), organizationFlag(),
			&cli.BoolFlag{Name: "lan", Usage: "also make a handshake on each address that other devices on this network can reach", EnvVars: []string{"PADLOCK_LAN"}},
		},
		Action: func(c *cli.Context) error {
			d := &doctor{w: p.stdout}
			cfg, err := p.doctorConfig(c)
			if err != nil {
				return err
			}

			names := c.Args().Slice()
			if len(names) == 0 && c.String("config") != "" {
				names = publicHosts(cfg)
			}

			d.clock()
			d.port("443", "8443")
			d.port("80", "8080")
			network := d.network()
			for _, name := range names {
				d.name(c.Context, name)
			}

			if ca := d.storage(cfg); ca != nil {
				d.stores(ca)
				d.handshake(c.Context, ca, "with itself", "127.0.0.1", "localhost")
				if c.Bool("lan") {
					for _, a := range network.Addresses {
						d.handshake(c.Context, ca, "on "+a.String(), a.String(), a.String())
					}
				}
			}

			if d.bad > 0 {
				return hint.Add(fmt.Errorf("%d thing(s) need attention", d.bad), "the lines marked ✗ say what")
			}

			return nil
		},
	}
}

// doctor prints what it finds; bad counts what keeps padlock from working.
type doctor struct {
	w   io.Writer
	bad int
}

func (d *doctor) say(grade probe.Grade, name, format string, args ...any) {
	if grade == probe.Bad {
		d.bad++
	}
	fmt.Fprintf(d.w, "%s %-10s %s\n", mark(grade), name, fmt.Sprintf(format, args...))
}

func (d *doctor) clock() {
	switch clock := hostinfo.ReadClock(); {
	case clock.Past():
		d.say(probe.Bad, "clock", "%s is in the past: certificates would not be valid yet", clock.Now.Format(time.DateTime))
	case clock.Known && !clock.Synchronised:
		d.say(probe.Note, "clock", "%s; the system does not say that it is synchronised (NTP)", clock.Now.Format(time.DateTime))
	default:
		d.say(probe.Good, "clock", "%s", clock.Now.Format(time.DateTime))
	}
}

func (d *doctor) port(number, instead string) {
	switch p := hostinfo.ReadPort(number, instead); {
	case p.Denied:
		d.say(probe.Note, "port "+number, "needs a privilege; padlock takes %s instead. To let this program have it: %s", instead, bindCommand())
		d.say(probe.Note, "port "+number, "or let systemd open it: sudo systemctl enable --now padlock.socket (as the package installs it)")
	case p.Taken:
		d.say(probe.Note, "port "+number, "is taken; padlock takes %s instead", instead)
	case p.Err != nil:
		d.say(probe.Note, "port "+number, "%v", p.Err)
	default:
		d.say(probe.Good, "port "+number, "free, and may be bound")
	}
}

// bindCommand lets this program open ports below 1024 without being root.
func bindCommand() string {
	if runtime.GOOS != "linux" {
		return "sudo " + ownName("padlock")
	}
	return "sudo setcap cap_net_bind_service=+ep " + ownName("padlock")
}

// network shows where devices nearby find this machine, with --lan.
func (d *doctor) network() hostinfo.Network {
	n, err := hostinfo.ReadNetwork()
	if err != nil {
		d.say(probe.Note, "network", "%v", err)
	}
	if err == nil && len(n.Addresses) == 0 {
		d.say(probe.Note, "network", "no private address: padlock --lan has none to be reached by")
	}

	for _, a := range n.Addresses {
		d.say(probe.Good, "network", "%s on %s", a, a.Interface)
	}

	switch {
	case n.Answers:
		d.say(probe.Good, "network", "%s, by multicast DNS", n.Name)
	case n.Name != "":
		d.say(probe.Note, "network", "%s is not announced by multicast DNS: devices use an address", n.Name)
	}

	return n
}

// name is advisory: behind a load balancer or NAT the addresses are rightly others.
func (d *doctor) name(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()

	// No public CA issues for local names, so its conditions do not matter for them.
	if canonical, ok := config.WrittenHost(name); ok && !config.IsLocal(canonical) {
		certificates := config.Default().Certificates
		certificates.Issuers = []config.Issuer{{Name: "letsencrypt"}}
		for _, advice := range acme.NewPreflight(certificates, ":80", ":443").Check(ctx, canonical) {
			d.say(probe.Note, "CA", "%s: %s", name, advice)
		}
	}

	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		remedy := ""
		if canonical, ok := config.CanonicalHost(name); ok && config.IsLocal(canonical) {
			remedy = "; to have it lead here: padlock hosts add " + canonical
		}
		d.say(probe.Note, "name", "%s does not resolve: %v%s", name, err, remedy)
		return
	}

	own := map[string]bool{}
	if interfaces, err := net.InterfaceAddrs(); err == nil {
		for _, a := range interfaces {
			// An interface's address comes with the length of its network's prefix.
			ip, _, _ := strings.Cut(a.String(), "/")
			own[ip] = true
		}
	}

	for _, a := range addresses {
		where := "another machine, a load balancer or NAT"
		if a = a.Unmap(); own[a.String()] || a.IsLoopback() {
			where = "this machine"
		}
		d.say(probe.Good, "name", "%s is %s: %s", name, a, where)
	}
}

// doctorConfig is the file's configuration, or the one that flags make.
func (p *program) doctorConfig(c *cli.Context) (*config.Config, error) {
	file := c.String("config")
	if file == "" {
		cfg := config.Default()
		applyStorage(c, cfg)
		return cfg, nil
	}
	for _, flag := range []string{"storage", "organization"} {
		if slices.Contains(c.LocalFlagNames(), flag) {
			return nil, usageError{fmt.Errorf("--%s stands in the file that --config names", flag)}
		}
	}
	return p.loadFile(file)
}

// publicHosts are the first names of a configuration that DNS should know.
func publicHosts(cfg *config.Config) (names []string) {
	const most = 10
	for _, site := range cfg.Sites {
		for _, host := range site.Hosts {
			// Names are asked one after the other, and a resolver that is down takes seconds for each.
			if len(names) < most && !strings.HasPrefix(host, "*") && !config.IsLocal(host) && net.ParseIP(host) == nil {
				names = append(names, host)
			}
		}
	}
	return names
}

func (d *doctor) storage(cfg *config.Config) *localca.CA {
	ca, err := localca.Open(cfg.StateDirectory(), localca.Options{Organization: cfg.Organization})
	if err != nil {
		d.say(probe.Bad, "storage", "%v", err)
		return nil
	}

	// Whoever reads the CA's key can make certificates that this machine's browsers trust.
	if info, err := os.Stat(filepath.Join(cfg.StateDirectory(), "localca")); err == nil && access.Others(info) != 0 && !access.Modeless(cfg.StateDirectory()) {
		d.say(probe.Bad, "storage", "%s can be read by others (mode %#o): chmod 700 it", mask.URL(cfg.Storage), info.Mode().Perm())
		return ca
	}

	root := hostinfo.NewRoot(ca.Root())
	d.say(probe.Good, "storage", "%s, local CA %s, valid until %s", mask.URL(cfg.Storage), root.Name, root.Until.Format(time.DateOnly))
	d.say(probe.Good, "local CA", "signs for %s and what is below, and for %s; nothing else", strings.Join(root.Domains, ", "), strings.Join(root.Networks, ", "))
	d.say(probe.Good, "local CA", "fingerprint (SHA-256) %s", root.Fingerprint)
	if ca.Outdated() {
		d.say(probe.Note, "local CA", "%s", outdatedRoot)
	}

	return ca
}

func (d *doctor) stores(ca *localca.CA) {
	for _, store := range trust.Stores(ca.Root()) {
		switch trusted, err := store.Trusted(); {
		case trusted:
			d.say(probe.Good, "trust", "%s: trusts the local CA", store.Name())
		case err != nil:
			d.say(probe.Note, "trust", "%s: %v", store.Name(), err)
		default:
			d.say(probe.Note, "trust", "%s: does not trust the local CA; run: padlock trust", store.Name())
		}
	}
}

// handshake serves on a port of the kernel's choice and connects to it.
func (d *doctor) handshake(ctx context.Context, ca *localca.CA, where, address, name string) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cfg := config.Default()
	cfg.Sites = []config.Site{{Hosts: []string{name}}}
	e, err := handshakeWith(ctx, cfg, ca, address)
	if err != nil {
		d.say(probe.Bad, "handshake", "%s: %v", where, err)
		return
	}
	d.say(probe.Good, "handshake", "%s: %s, %s, %.1f ms", where, e.Group, e.CipherSuite, float64(e.Duration.Microseconds())/1000)
}

func handshakeWith(ctx context.Context, cfg *config.Config, ca *localca.CA, address string) (*handshake.Event, error) {
	server, err := proxy.New(cfg, proxy.Dependencies{Certificates: certs.New(certs.Options{Local: ca}), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}

	// A port of the kernel's choice: the usual ones may be taken, by the padlock that runs.
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		return nil, err
	}

	ctx, cancel := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, proxy.Listener{Listener: l}) }()
	// The root is given, and the system's stores are not asked: whether they trust it is another check.
	roots := x509.NewCertPool()
	roots.AddCert(ca.Root())
	report, err := probe.Run(ctx, l.Addr().String(), probe.Options{ServerName: cfg.Sites[0].Hosts[0], Roots: roots})
	cancel()
	if err = errors.Join(err, <-served); err != nil {
		return nil, err
	}

	for _, c := range report.Checks {
		if c.Grade == probe.Bad {
			return nil, errors.New(c.Detail)
		}
	}

	return report.Handshake, nil
}
