package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"padlock/config"
	"padlock/daemon"
	"padlock/internal/hint"
	"padlock/internal/regular"
)

func (p *program) maintenanceCommand() *cli.Command {
	return &cli.Command{
		Name: "maintenance", Usage: "answer the requests of a site with 503 until maintenance is over", OnUsageError: onUsageError,
		UsageText: "padlock maintenance on SITE [flags]\npadlock maintenance off SITE\npadlock maintenance status\n\nExamples:\n  padlock maintenance on www.example.com --until 30m --allow 203.0.113.7\n  padlock maintenance off www.example.com",
		Description: "SITE is a host of the site. The running padlock answers with 503, Retry-After and a page until you switch maintenance off; a reload and a restart change nothing about that. " +
			"Maintenance holds for this machine: with several nodes, run the command on each.",
		Subcommands: []*cli.Command{
			{
				Name: "on", Usage: "begin, or change what visitors get", UsageText: "padlock maintenance on SITE [flags]\n\nExamples:\n  padlock maintenance on www.example.com --message 'Back at six'\n  padlock maintenance on www.example.com --page maintenance.html --health /up", OnUsageError: onUsageError,
				Flags: append(p.commandFlags(),
					&cli.StringFlag{Name: "message", Usage: "`TEXT` of padlock's page"},
					&cli.StringFlag{Name: "page", Usage: "HTML `FILE` instead of padlock's page; its content is kept"},
					&cli.StringFlag{Name: "until", Usage: "`TIME` at which maintenance ends, such as 2026-12-01T06:00:00Z, or how long it takes, such as 30m"},
					&cli.StringSliceFlag{Name: "allow", Usage: "address or network `CIDR` of clients that are served all the same, besides maintenance.allow; repeat it for several"},
					&cli.StringSliceFlag{Name: "health", Usage: "`PATH` that is served all the same, besides maintenance.paths, for example for health checks"},
				),
				Action: p.maintenanceOn,
			},
			{
				Name: "off", Usage: "end maintenance", UsageText: "padlock maintenance off SITE [flags]\n\nExamples:\n  padlock maintenance off www.example.com", OnUsageError: onUsageError, Flags: p.commandFlags(),
				Action: func(c *cli.Context) error {
					return p.maintain(c, &daemon.MaintenanceRequest{}, "is served again")
				},
			},
			{
				Name: "status", Usage: "show which sites are in maintenance", UsageText: "padlock maintenance status [flags]\n\nExamples:\n  padlock maintenance status", OnUsageError: onUsageError, Flags: append(p.commandFlags(), jsonFlag()),
				Action: func(c *cli.Context) error {
					return p.overrides(c, "maintenance", "no site is in maintenance by command")
				},
			},
		},
		Action: func(c *cli.Context) error {
			return usageError{errors.New("maintenance needs on, off or status")}
		},
	}
}

// commandFlags are those of commands that change something in the running padlock.
func (p *program) commandFlags() []cli.Flag {
	return []cli.Flag{storageFlag(), adminFlag("`ADDR` of the running padlock's admin endpoint (default: the socket in the storage directory)")}
}

// adminOf is where the running padlock answers.
func adminOf(c *cli.Context) *config.Config {
	cfg := config.Default()
	applyStorage(c, cfg)
	cfg.Admin.Address = c.String("admin")
	return cfg
}

// onlySite is the one argument of a command.
func onlySite(c *cli.Context) (string, error) {
	if c.NArg() != 1 {
		return "", usageError{fmt.Errorf("%s needs one SITE, such as www.example.com", c.Command.HelpName)}
	}
	site := c.Args().First()
	if scheme, rest, ok := strings.Cut(site, "://"); ok {
		return "", usageError{fmt.Errorf("SITE is a host, not a URL: write %s without %s://", rest, scheme)}
	}
	return site, nil
}

func (p *program) maintenanceOn(c *cli.Context) error {
	q := &daemon.MaintenanceRequest{On: true}
	q.Message, q.Paths = c.String("message"), c.StringSlice("health")
	if q.Message != "" && c.String("page") != "" {
		return usageError{errors.New("--message goes without --page, which says all that there is to say")}
	}

	for _, path := range q.Paths {
		if !strings.HasPrefix(path, "/") {
			return usageError{fmt.Errorf("--health: %q must begin with a slash, as /up does", path)}
		}
	}

	var err error
	if q.Until, err = untilOf(c.String("until"), time.Now()); err != nil {
		return err
	}
	for _, text := range c.StringSlice("allow") {
		var n config.Network
		if err := n.UnmarshalText([]byte(text)); err != nil {
			return usageError{fmt.Errorf("--allow: %w", err)}
		}
		q.Allow = append(q.Allow, n)
	}

	if name := c.String("page"); name != "" {
		// The file is read here: padlock may run as a user that cannot.
		content, err := regular.Named(name, config.MaxErrorPage)
		switch {
		case err != nil:
			return fmt.Errorf("--page: %w", err)
		case len(content) == 0:
			return fmt.Errorf("--page: %s is empty", name)
		}
		q.HTML = string(content)
	}

	return p.maintain(c, q, "is in maintenance"+strings.TrimSuffix(" until "+q.Until, " until "))
}

// untilOf reads a time, or how long it is until then.
func untilOf(text string, now time.Time) (string, error) {
	if text == "" {
		return "", nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if after, failed := time.ParseDuration(text); failed == nil && after > 0 {
		at, err = now.Add(after).UTC(), nil
	}
	switch {
	case err != nil:
		return "", usageError{fmt.Errorf("--until: %q is neither a time such as 2026-12-01T06:00:00Z nor a duration such as 30m", text)}
	case !at.After(now):
		return "", usageError{fmt.Errorf("--until: %s has passed", text)}
	}
	return at.Format(time.RFC3339), nil
}

func (p *program) maintain(c *cli.Context, q *daemon.MaintenanceRequest, done string) (err error) {
	if q.Host, err = onlySite(c); err != nil {
		return err
	}
	response, err := p.adminPost(c.Context, adminOf(c), "/maintenance", q)
	if err != nil {
		return err
	}
	response.Body.Close()
	_, err = fmt.Fprintln(p.stdout, q.Host, done)
	return err
}

// adminPost has the running padlock do something. Its error says why nothing was done.
func (p *program) adminPost(ctx context.Context, cfg *config.Config, path string, what any) (*http.Response, error) {
	body, err := json.Marshal(what)
	if err != nil {
		return nil, err
	}
	response, err := p.adminChange(ctx, cfg, path, body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}

	defer response.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if response.StatusCode == http.StatusNotFound {
		text = []byte("the running padlock is an older one, which knows no such command")
	}
	return nil, hint.Add(errors.New(cmp.Or(strings.TrimSpace(string(text)), response.Status)), "padlock status shows what the running padlock serves; nothing has been changed")
}

// overrides shows what commands have changed of one kind.
func (p *program) overrides(c *cli.Context, kind, none string) error {
	if c.NArg() > 0 {
		return usageError{fmt.Errorf("unexpected argument %q", c.Args().First())}
	}
	response, err := adminGet(c.Context, adminOf(c), "/overrides")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 16<<20))
	if err != nil || response.StatusCode != http.StatusOK {
		return errors.Join(fmt.Errorf("padlock answers with %s: %s", response.Status, strings.TrimSpace(string(body))), err)
	}
	if c.Bool("json") {
		_, err = p.stdout.Write(body)
		return err
	}

	var all struct {
		Maintenance []string `json:"maintenance_words"`
		Deploys     []string `json:"deploy_words"`
	}
	if err := json.Unmarshal(body, &all); err != nil {
		return fmt.Errorf("what answers is no padlock, or one of another version: %w", err)
	}
	lines := map[string][]string{"maintenance": all.Maintenance, "deploys": all.Deploys}[kind]
	if len(lines) == 0 {
		lines = []string{none}
	}
	_, err = fmt.Fprintln(p.stdout, strings.Join(lines, "\n"))
	return err
}
