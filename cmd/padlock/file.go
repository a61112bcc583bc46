package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/urfave/cli/v2"

	"padlock/config"
)

func configFlag() cli.Flag {
	return &cli.StringFlag{Name: "config", Value: "padlock.yaml", Usage: "`FILE` to read, - for standard input", EnvVars: []string{"PADLOCK_CONFIG"}}
}

func (p *program) runCommand() *cli.Command {
	return &cli.Command{
		Name: "run", Usage: "everything that a configuration file asks for", OnUsageError: onUsageError,
		Description: "SIGHUP and padlock reload have the file read again, without a request lost. SIGUSR2 starts the program anew and hands it\n" +
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
			if _, err := p.load(c); err != nil {
				return err
			}
			_, err := fmt.Fprintf(p.stdout, "%s is valid\n", c.String("config"))
			return err
		},
	}
}

func (p *program) load(c *cli.Context) (*config.Config, error) {
	if c.NArg() > 0 {
		return nil, usageError{fmt.Errorf("unexpected argument %q: the file goes to --config", c.Args().First())}
	}
	return p.loadFile(c.String("config"))
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
