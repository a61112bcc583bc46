package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"padlock/config"
	"padlock/daemon"
	"padlock/dev"
	"padlock/discovery"
)

// devRest is how long the proxy stays after the last app, for one that is started again.
const devRest = 10 * time.Second

// devServeCommand is the proxy itself. padlock dev starts it.
func (p *program) devServeCommand() *cli.Command {
	return &cli.Command{
		Name: "serve", Usage: "run the proxy of all apps in the foreground (padlock dev starts it by itself)", OnUsageError: onUsageError,
		UsageText: "padlock dev serve [flags]\n\nExamples:\n  padlock dev serve --stay",
		Flags: append([]cli.Flag{
			&cli.StringSliceFlag{Name: "listen", Usage: "`ADDR` that accepts HTTPS (default: port 443 of this machine, or 8443 if that is in use or not permitted)", EnvVars: []string{"PADLOCK_LISTEN"}},
			&cli.BoolFlag{Name: "no-hosts", Usage: "leave the hosts file alone, where padlock may write it and this system does not resolve names below localhost", EnvVars: []string{"PADLOCK_DEV_NO_HOSTS"}},
			&cli.BoolFlag{Name: "stay", Usage: "do not end after the last app", EnvVars: []string{"PADLOCK_DEV_STAY"}},
		}, devStorage()...),
		Action: p.devServe,
	}
}

func (p *program) devServe(c *cli.Context) error {
	if c.NArg() > 0 {
		return usageError{fmt.Errorf("unexpected argument %q", c.Args().First())}
	}

	cfg, dir := devPlace(c)
	log := slog.New(slog.NewTextHandler(p.stderr, nil))
	hub, err := dev.Open(c.Context, dir, log)
	if err != nil {
		return err
	}
	defer hub.Close()

	cfg.Listen = config.Listen{HTTPS: c.StringSlice("listen"), HTTP3: true, AltSvc: cfg.Listen.AltSvc}
	if len(cfg.Listen.HTTPS) == 0 {
		cfg.Listen.HTTPS, cfg.Listen.HTTP = loopback("443"), loopback("80")
	}
	if err := os.MkdirAll(dev.StateDirectory(cfg.StateDirectory()), 0o700); err != nil {
		return err
	}

	cfg.ErrorDetails = true
	cfg.Admin.Address = "unix:" + dev.AdminSocket(dir)
	// An app may be at a breakpoint.
	cfg.Timeouts.ResponseHeader, cfg.Timeouts.Shutdown = config.Endless, 2*time.Second
	cfg.Handshakes.Format, cfg.Handshakes.Output = "line", filepath.Join(dev.StateDirectory(cfg.StateDirectory()), "handshakes.log")
	cfg.AccessLog.Format = "off"
	cfg.Sites = []config.Site{hub.List()}
	if err := cfg.Validate(); err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(c.Context)
	defer cancel()
	pages := make(chan error, 1)
	go func() { pages <- hub.ServePages(ctx) }()
	if !c.Bool("stay") {
		go func() { hub.Idle(ctx, devRest); cancel() }()
	}

	var hosts sync.WaitGroup
	defer hosts.Wait()
	if !c.Bool("no-hosts") {
		names := &devHosts{hostsFile(), log}
		hosts.Go(func() { names.follow(ctx, hub) })
	}

	o := p.options(!c.IsSet("listen"), nil)
	o.Sources, o.Reporter = []discovery.Source{hub}, &devProxyReport{program: p, hub: hub, storage: cfg.StateDirectory(), stop: cancel}
	err = daemon.Run(ctx, cfg, o)
	cancel()
	if failed := <-pages; err == nil {
		err = failed
	}

	return err
}

// devProxyReport opens the hub when the proxy serves.
type devProxyReport struct {
	*program
	hub     *dev.Hub
	storage string
	stop    func()
}

// Started implements daemon.Reporter.
func (r *devProxyReport) Started(s daemon.Started) {
	ports := dev.Ports{PID: os.Getpid(), Version: version, Storage: r.storage}
	for _, l := range s.Listeners {
		_, text, _ := net.SplitHostPort(l.Addr().String())
		port, _ := net.LookupPort("tcp", text) // of an address that is listened on
		switch {
		case l.Plain:
			ports.HTTP = port
		case ports.HTTPS == 0:
			ports.HTTPS = port
		}
	}

	if err := r.hub.Listen(ports); err != nil {
		fmt.Fprintln(r.stderr, "padlock: error: registering apps:", err)
		r.stop()
		return
	}

	fmt.Fprintf(r.stdout, "padlock: apps are listed at %s\n", ports.URL("localhost"))
}

// devProxyLog is what the proxy in the background prints.
func devProxyLog(dir string) string { return filepath.Join(dir, "proxy.log") }

// setting is a flag of a command that its proxy gets, too. It is passed on in the environment, as every user of the
// machine can read the arguments of a process, and a storage's URL may have a password.
type setting struct{ flag, value string }

func (s setting) variable() string { return variable(s.flag) + "=" + s.value }

func proxySettings(c *cli.Context) (all []setting) {
	if c.IsSet("storage") {
		all = append(all, setting{"storage", absoluteStorage(c.String("storage"))})
	}
	if c.IsSet("organization") {
		all = append(all, setting{"organization", c.String("organization")})
	}
	return all
}

// startDevProxy starts this program as the proxy, in the background. The channel is closed when it has ended.
func startDevProxy(c *cli.Context, dir string) (<-chan struct{}, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}

	log, err := os.OpenFile(devProxyLog(dir), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(program, "dev", "serve")
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, "/"
	cmd.Env = slices.Clone(os.Environ())
	for _, s := range proxySettings(c) {
		cmd.Env = append(cmd.Env, s.variable())
	}
	inBackground(cmd)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the proxy: %w", err)
	}

	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()

	return ended, nil
}
