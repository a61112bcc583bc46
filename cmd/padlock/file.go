package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/urfave/cli/v2"

	"padlock/certs/acme/dns"
	"padlock/certs/localca"
	"padlock/certs/storage"
	"padlock/config"
)

func configFlag() cli.Flag {
	return &cli.StringFlag{Name: "config", Value: "padlock.yaml", Usage: "`FILE` to read, - for standard input", EnvVars: []string{"PADLOCK_CONFIG"}}
}

func (p *program) runCommand() *cli.Command {
	return &cli.Command{
		Name: "run", Usage: "everything that a configuration file asks for", OnUsageError: onUsageError,
		Description: "SIGHUP and padlock reload have the file read again, without a request lost, and log files reopened. SIGUSR2 starts the program anew and hands it\n" +
			"the listeners, without a connection refused. SIGTERM ends it when open requests have. Every key: docs/padlock.reference.yaml",
		Flags: []cli.Flag{
			configFlag(),
			&cli.BoolFlag{Name: "watch", Usage: "read the file again when it changes; without it, SIGHUP and padlock reload do", EnvVars: []string{"PADLOCK_WATCH"}},
		},
		Action: func(c *cli.Context) error {
			cfg, err := p.load(c)
			if err != nil {
				return err
			}
			s := service{cfg: cfg}
			if name := c.String("config"); name != "-" {
				s.file = &reloader{name: name, load: p.loadFile, watch: c.Bool("watch")}
			}
			return p.serve(c.Context, s)
		},
	}
}

func (p *program) checkCommand() *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "validate a configuration file and say all that is wrong", OnUsageError: onUsageError,
		Flags: []cli.Flag{configFlag()},
		Action: func(c *cli.Context) error {
			cfg, err := p.load(c)
			if err != nil {
				return err
			}
			if err := preflight(c.Context, cfg); err != nil {
				return err
			}
			_, err = fmt.Fprintf(p.stdout, "%s is valid\n", c.String("config"))
			return err
		},
	}
}

// preflight finds what padlock run would refuse beyond the file itself: certificates, the local CA, the settings of a DNS provider, a
// storage in a directory. It changes nothing and reaches no service.
func preflight(ctx context.Context, cfg *config.Config) error {
	quiet := slog.New(slog.DiscardHandler)
	local, err := localca.Peek(cfg.StateDirectory(), localca.Options{Organization: cfg.Organization})
	if errors.Is(err, fs.ErrPermission) {
		local, err = localca.Peek("", localca.Options{}) // another user's, who runs it
	}
	if err != nil {
		return err
	}
	k, err := newKeeperWith(cfg, local, quiet)
	if err != nil {
		return err
	}
	if err := unusableFiles(k); err != nil {
		return err
	}
	if cfg.Docker == nil { // containers may bring more
		if err := covered(cfg, k); err != nil {
			return err
		}
	}

	if d := cfg.Certificates.DNS; d.Provider != "" && k.manages() {
		if _, err := dns.New(dns.Options{Provider: d.Provider, Resolvers: d.Resolvers, Timeout: d.Timeout, Log: quiet}); err != nil {
			return dnsHint(err)
		}
	}
	return preflightStorage(ctx, cfg, k)
}

// unusableFiles is an error where a directory has files that cannot be used, though padlock run serves the others.
func unusableFiles(k *keeper) error {
	var errs []error
	for _, u := range k.files.Unusable() {
		errs = append(errs, u.Reason)
	}
	if len(errs) == 0 {
		return nil
	}
	return hinted{fmt.Errorf("loading certificates: %w", errors.Join(errs...)), "correct these files, or remove them: padlock run serves the rest of their directory, and warns"}
}

func preflightStorage(ctx context.Context, cfg *config.Config, k *keeper) error {
	if _, err := os.ReadDir(cfg.Storage); storage.IsRemote(cfg.Storage) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err := k.openStore(ctx); err != nil {
		return err
	}
	return errors.Join(k.checkStore(ctx), k.store.Close())
}

func (p *program) load(c *cli.Context) (*config.Config, error) {
	if c.NArg() > 0 {
		return nil, usageError{fmt.Errorf("unexpected argument %q: the file goes to --config", c.Args().First())}
	}
	if file := c.String("config"); file != "-" {
		return p.loadFile(file)
	}

	type result struct {
		cfg *config.Config
		err error
	}
	loaded := make(chan result, 1)
	go func() {
		cfg, err := p.loadFile("-")
		loaded <- result{cfg, err}
	}()
	select {
	case r := <-loaded:
		return r.cfg, r.err
	case <-c.Context.Done(): // a signal, while nobody writes to standard input
		return nil, c.Context.Err()
	}
}

func (p *program) loadFile(file string) (*config.Config, error) {
	cfg, err := config.Load(file, p.stdin)
	var wrong config.Errors
	switch {
	case errors.As(err, &wrong):
		return nil, hinted{fmt.Errorf("the configuration has %d error(s)\n%w", len(wrong), err), "docs/configuration.md describes every key"}
	case errors.Is(err, fs.ErrNotExist):
		return nil, hinted{err, "name the file with --config FILE, or start without one: padlock TARGET"}
	}
	return cfg, err
}
