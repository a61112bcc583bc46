package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"padlock/config"
	"padlock/console"
	"padlock/daemon"
	"padlock/internal/hint"
	"padlock/internal/terminal"
)

func configFlag() cli.Flag {
	return &cli.StringFlag{Name: "config", Value: "padlock.yaml", Usage: "configuration `FILE`, or - for standard input", EnvVars: []string{"PADLOCK_CONFIG"}}
}

func (p *program) runCommand() *cli.Command {
	return &cli.Command{
		Name: "run", Usage: "serve the sites of a configuration file", UsageText: "padlock run [flags]\n\nExamples:\n  padlock run --config padlock.yaml\n  padlock run --config padlock.yaml --watch", OnUsageError: onUsageError,
		Description: "SIGHUP and padlock reload apply a change of the file without dropping a request, and reopen log files. SIGUSR2 restarts the program without " +
			"refusing a connection. SIGTERM stops it after open requests have finished. All keys: docs/padlock.reference.yaml",
		Flags: []cli.Flag{
			configFlag(),
			&cli.BoolFlag{Name: "watch", Usage: "reload the file when it changes, in addition to SIGHUP and padlock reload", EnvVars: []string{"PADLOCK_WATCH"}},
		},
		Action: func(c *cli.Context) error {
			cfg, err := p.load(c)
			if err != nil {
				return err
			}

			var file *daemon.File
			if name := c.String("config"); name != "-" {
				file = &daemon.File{Name: name, Load: p.readFile, Watch: c.Bool("watch")}
			}
			return config.Located(c.String("config"), daemon.Run(c.Context, cfg, p.options(false, file)))
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
	// With room for one, so that the reader ends even if a signal came first.
	loaded := make(chan result, 1)
	go func() {
		cfg, err := p.loadFile("-")
		loaded <- result{cfg, err}
	}()

	select {
	case r := <-loaded:
		return r.cfg, r.err
	case <-c.Context.Done():
		// A signal ends the command even while nobody writes to standard input.
		return nil, c.Context.Err()
	}
}

func (p *program) loadFile(file string) (*config.Config, error) { return p.readFile(file, p.warn) }

func (p *program) warn(e config.Error) { terminal.Say(p.stderr, "warning: %v", e) }

func (p *program) readFile(file string, warn func(config.Error)) (*config.Config, error) {
	cfg, err := config.Load(file, p.stdin, warn)
	var wrong config.Errors
	switch {
	case errors.As(err, &wrong):
		// All errors at once: whoever mends a file should not find the next one at the next start.
		if further := daemon.FurtherErrors(cfg, wrong); len(further) > 0 {
			_ = config.Located(file, further)
			wrong = append(wrong, further...)
			slices.SortStableFunc(wrong, func(a, b config.Error) int { return cmp.Compare(a.Line, b.Line) })
			err = wrong
		}
		return nil, hint.Add(fmt.Errorf("the configuration has %s\n%w", plural(len(wrong), "error"), err), "docs/keys.md lists every key")
	case errors.Is(err, fs.ErrNotExist):
		return nil, hint.Add(err, "name the file with --config FILE, or start without one: padlock TARGET")
	}

	return cfg, err
}

func (p *program) checkCommand() *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "check a configuration file and report every error", UsageText: "padlock check [flags]\n\nExamples:\n  padlock check --config padlock.yaml\n  padlock check --config padlock.yaml --file-only", OnUsageError: onUsageError,
		Description: "This command finds every reason for which padlock run would not start, as this user on this machine, and changes nothing. A port that the running " +
			"padlock uses is not an error. With --file-only it checks the file and the files that it names, for example in CI.",
		Flags: []cli.Flag{
			configFlag(),
			&cli.BoolFlag{Name: "file-only", Usage: "do not check ports, the storage and log files of this machine"},
		},
		Action: func(c *cli.Context) error {
			cfg, err := p.load(c)
			if err != nil {
				return err
			}

			name := c.String("config")
			o := daemon.PreflightOptions{FileOnly: c.Bool("file-only"), Log: slog.New(warnings{terminal.NewSentences(p.stderr)})}
			// Ports that the running padlock holds will be passed on to the next one.
			o.Runs = !o.FileOnly && answers(c.Context, cfg)
			unused, err := daemon.Preflight(c.Context, cfg, o)
			if err != nil {
				return config.Located(name, err)
			}
			_ = config.Located(name, unused)
			for _, e := range unused {
				p.warn(e)
			}

			p.spell(cfg)
			_, err = fmt.Fprintf(p.stdout, "%s is valid\n", name)
			return err
		},
	}
}

// spell says what names in other letters than ASCII are called in certificates, DNS and logs.
func (p *program) spell(cfg *config.Config) {
	for i, site := range cfg.Sites {
		for _, host := range site.Hosts {
			if spelled := config.SpelledHost(host); spelled != host {
				terminal.Say(p.stdout, "sites[%d].hosts: %s: the first spelling (punycode) is the one in DNS, certificates and logs", i, spelled)
			}
		}
	}
}

// answers reports whether a padlock with the same admin endpoint runs.
func answers(ctx context.Context, cfg *config.Config) bool {
	if cfg.Admin.Off() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	response, err := adminGet(ctx, cfg, "/status")
	if err != nil {
		return false
	}
	defer response.Body.Close()
	var s console.Status
	// Any server may answer on that address, so what it says decides.
	return json.NewDecoder(io.LimitReader(response.Body, 64<<20)).Decode(&s) == nil && s.Version != ""
}

// warnings keeps all below a warning from a handler.
type warnings struct{ slog.Handler }

// Enabled implements slog.Handler.
func (w warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && w.Handler.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (w warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{w.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (w warnings) WithGroup(name string) slog.Handler { return warnings{w.Handler.WithGroup(name)} }

func (p *program) reloadCommand() *cli.Command {
	return &cli.Command{
		Name: "reload", Usage: "reload the configuration file of the running padlock", UsageText: "padlock reload [flags]\n\nExamples:\n  padlock reload\n  padlock reload --admin unix:/run/padlock/admin.sock", OnUsageError: onUsageError,
		Flags: []cli.Flag{storageFlag(), adminFlag("`ADDR` of the running padlock's admin endpoint (default: the socket in the storage directory)")},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usageError{fmt.Errorf("unexpected argument %q", c.Args().First())}
			}

			cfg := config.Default()
			applyStorage(c, cfg)
			cfg.Admin.Address = c.String("admin")
			response, err := p.adminChange(c.Context, cfg, "/reload", nil)
			if err != nil {
				return err
			}
			defer response.Body.Close()

			if response.StatusCode != http.StatusOK {
				text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<20))
				return hint.Add(errors.New(strings.TrimSpace(string(text))), "padlock goes on with the configuration before; padlock check finds what is wrong with a file")
			}

			_, err = fmt.Fprintln(p.stdout, "padlock has read its configuration again")
			return err
		},
	}
}
