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
			return located(c.String("config"), p.serve(c.Context, s))
		},
	}
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
		return nil, hinted{fmt.Errorf("the configuration has %s\n%w", plural(len(wrong), "error"), err), "docs/configuration.md describes every key"}
	case errors.Is(err, fs.ErrNotExist):
		return nil, hinted{err, "name the file with --config FILE, or start without one: padlock TARGET"}
	}
	return cfg, err
}

// located adds the lines of a file to what was found wrong after it was read. Without a file (""), the paths of keys say nothing.
func located(file string, err error) error {
	var wrong config.Errors
	switch {
	case !errors.As(err, &wrong) || file == "-":
	case file != "":
		config.Locate(file, wrong)
	default:
		for i := range wrong {
			wrong[i].Path = ""
		}
	}
	return err
}
