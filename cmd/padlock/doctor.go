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
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"padlock/certs"
	"padlock/certs/acme"
	"padlock/certs/localca"
	"padlock/certs/trust"
	"padlock/config"
	"padlock/handshake/probe"
	"padlock/proxy"
)

func (p *program) doctorCommand() *cli.Command {
	return &cli.Command{
		Name: "doctor", Usage: "look at ports, names, clock, trust stores, storage and a handshake with itself",
		UsageText: "padlock doctor [NAME...]", OnUsageError: onUsageError,
		Flags: []cli.Flag{storageFlag(), organizationFlag()},
		Action: func(c *cli.Context) error {
			d := &doctor{w: p.stdout}
			d.clock()
			d.port("443", "8443")
			d.port("80", "8080")
			for _, name := range c.Args().Slice() {
				d.name(c.Context, name)
			}
			if ca := d.storage(c); ca != nil {
				d.stores(ca)
				d.handshake(c.Context, ca)
			}
			if d.bad > 0 {
				return hinted{fmt.Errorf("%d thing(s) need attention", d.bad), "the lines marked ✗ say what"}
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

// built is before any day on which this program runs.
var built = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func (d *doctor) clock() {
	now := time.Now().UTC()
	switch synchronised, known := clockSynchronised(); {
	case now.Before(built):
		d.say(probe.Bad, "clock", "%s is in the past: certificates would not be valid yet", now.Format(time.DateTime))
	case known && !synchronised:
		d.say(probe.Note, "clock", "%s; the system does not say that it is synchronised (NTP)", now.Format(time.DateTime))
	default:
		d.say(probe.Good, "clock", "%s", now.Format(time.DateTime))
	}
}

func (d *doctor) port(port, instead string) {
	l, err := net.Listen("tcp", ":"+port)
	switch {
	case err == nil:
		l.Close()
		d.say(probe.Good, "port "+port, "free, and may be bound")
	case errors.Is(err, syscall.EACCES):
		d.say(probe.Note, "port "+port, "needs a privilege (CAP_NET_BIND_SERVICE); padlock takes %s instead", instead)
	case errors.Is(err, syscall.EADDRINUSE):
		d.say(probe.Note, "port "+port, "is taken; padlock takes %s instead", instead)
	default:
		d.say(probe.Note, "port "+port, "%v", err)
	}
}

// name is advisory: behind a load balancer or NAT the addresses are rightly others.
func (d *doctor) name(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if canonical, ok := config.CanonicalHost(name); ok && !config.IsLocal(canonical) {
		certificates := config.Default().Certificates
		certificates.Issuers = []config.Issuer{{Name: "letsencrypt"}}
		for _, advice := range acme.NewAdviser(certificates, ":80", ":443").Advise(ctx, canonical) {
			d.say(probe.Note, "CA", "%s: %s", name, advice)
		}
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		d.say(probe.Note, "name", "%s does not resolve: %v", name, err)
		return
	}
	own := map[string]bool{}
	if interfaces, err := net.InterfaceAddrs(); err == nil {
		for _, a := range interfaces {
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

func (d *doctor) storage(c *cli.Context) *localca.CA {
	cfg := config.Default()
	applyStorage(c, cfg)
	ca, err := localca.Open(cfg.StateDirectory(), localca.Options{Organization: cfg.Organization})
	if err != nil {
		d.say(probe.Bad, "storage", "%v", err)
		return nil
	}
	if info, err := os.Stat(filepath.Join(cfg.StateDirectory(), "localca")); err == nil && info.Mode().Perm()&0o077 != 0 {
		d.say(probe.Bad, "storage", "%s can be read by others (mode %#o): chmod 700 it", cfg.Storage, info.Mode().Perm())
		return ca
	}
	d.say(probe.Good, "storage", "%s, local CA %s, valid until %s", cfg.Storage, ca.Root().Subject.CommonName, ca.Root().NotAfter.UTC().Format(time.DateOnly))
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
func (d *doctor) handshake(ctx context.Context, ca *localca.CA) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cfg := config.Default()
	cfg.Sites = []config.Site{{Hosts: []string{"localhost"}}}
	if err := d.handshakeWith(ctx, cfg, certs.New(certs.Options{Local: ca}), ca); err != nil {
		d.say(probe.Bad, "handshake", "%v", err)
	}
}

func (d *doctor) handshakeWith(ctx context.Context, cfg *config.Config, source *certs.Source, ca *localca.CA) error {
	server, err := proxy.New(cfg, proxy.Dependencies{Certificates: source, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, proxy.Listener{Listener: l}) }()
	roots := x509.NewCertPool()
	roots.AddCert(ca.Root())
	report, err := probe.Run(ctx, l.Addr().String(), probe.Options{ServerName: "localhost", Roots: roots})
	cancel()
	if err = errors.Join(err, <-served); err != nil {
		return err
	}
	for _, c := range report.Checks {
		if c.Grade == probe.Bad {
			return errors.New(c.Detail)
		}
	}
	e := report.Handshake
	d.say(probe.Good, "handshake", "with itself: %s, %s, %.1f ms", e.Group, e.CipherSuite, float64(e.Duration.Microseconds())/1000)
	return nil
}
