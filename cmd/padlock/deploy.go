package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"padlock/daemon"
	"padlock/internal/hint"
	"padlock/internal/terminal"
)

func (p *program) deployCommand() *cli.Command {
	return &cli.Command{
		Name: "deploy", Usage: "move the requests of a site to new targets without a gap, when these are healthy", OnUsageError: onUsageError,
		UsageText: "padlock deploy SITE --to TARGET [flags]\npadlock deploy rollback SITE [flags]\npadlock deploy status\n\nExamples:\n  padlock deploy www.example.com --to app-v2:3000 --health /up\n  padlock deploy www.example.com/api --to api-v2:4000 --drain 2m\n  padlock deploy www.example.com --from canary-v1:3000 --to canary-v2:3000\n  padlock deploy rollback www.example.com",
		Description: "SITE is a host of the site, or a host with the path of a route; --from names routes by a target that they have. The running padlock waits until the new targets are healthy, switches for all new requests at once, " +
			"lets the old targets finish, and watches the new ones for a while: if they fail, the old ones get the requests again. Stop the old targets when the command has ended. " +
			"What was deployed holds over reloads and restarts, until the targets in the configuration change. " +
			"The exit code is 0 after the switch, 1 if nothing has changed, 2 if the call cannot be understood, 3 if the old targets have the requests again, 4 if another deploy of the site is under way, and 5 if padlock or the command ended before the deploy had.",
		Flags: append(p.deployFlags(), &cli.StringSliceFlag{Name: "to", Usage: "new `TARGET`, such as app-v2:3000; repeat it for several"}),
		Subcommands: []*cli.Command{
			{
				Name: "rollback", Usage: "go back to the targets before the last deploy, in the same steps", UsageText: "padlock deploy rollback SITE [flags]\n\nExamples:\n  padlock deploy rollback www.example.com", OnUsageError: onUsageError,
				Flags:  p.deployFlags(),
				Action: func(c *cli.Context) error { return p.deploy(c, &daemon.DeployRequest{Rollback: true}) },
			},
			{
				Name: "status", Usage: "show where deploys have sent requests", UsageText: "padlock deploy status [flags]\n\nExamples:\n  padlock deploy status", OnUsageError: onUsageError, Flags: append(p.commandFlags(), jsonFlag()),
				Action: func(c *cli.Context) error { return p.overrides(c, "deploys", "no deploy has changed any targets") },
			},
		},
		Action: func(c *cli.Context) error {
			q := &daemon.DeployRequest{To: c.StringSlice("to")}
			if len(q.To) == 0 {
				return usageError{errors.New("deploy needs --to TARGET, such as --to app-v2:3000")}
			}
			for _, target := range q.To {
				if path, ok := strings.CutPrefix(target, "unix:"); ok && !filepath.IsAbs(path) {
					return usageError{fmt.Errorf("--to: %s: padlock runs in another directory, so the path must begin with a slash", target)}
				}
			}
			return p.deploy(c, q)
		},
	}
}

func (p *program) deployFlags() []cli.Flag {
	return append(p.commandFlags(),
		&cli.StringFlag{Name: "from", Usage: "only the routes that have this `TARGET`, now or in the configuration, where routes with the same path have different ones, such as a canary"},
		&cli.StringFlag{Name: "health", Usage: "`PATH` that a healthy target answers with 200 to 399, or the status of the route's health (default: that of the route's health, else /up)"},
		&cli.DurationFlag{Name: "timeout", Value: 30 * time.Second, Usage: "how `LONG` the new targets may take to become healthy"},
		&cli.DurationFlag{Name: "drain", Value: 30 * time.Second, Usage: "how `LONG` the old targets may take to finish; WebSockets that are left are closed"},
		&cli.DurationFlag{Name: "observe", Value: 5 * time.Second, Usage: "how `LONG` after the switch unhealthy new targets bring the old ones back"},
		&cli.BoolFlag{Name: "pause", Usage: "hold new requests until the old targets have finished, for up to 30s, so that both versions never run at the same time"},
	)
}

func (p *program) deploy(c *cli.Context, q *daemon.DeployRequest) error {
	site, err := onlySite(c)
	if err != nil {
		return err
	}
	q.Host = site
	if at := strings.IndexByte(site, '/'); at >= 0 {
		q.Host, q.Path = site[:at], site[at:]
	}

	q.From, q.Health, q.Pause = c.String("from"), c.String("health"), c.Bool("pause")
	q.Timeout, q.Drain, q.Observe = c.Duration("timeout"), c.Duration("drain"), c.Duration("observe")
	if q.Timeout <= 0 || q.Drain < 0 || q.Observe < 0 {
		return usageError{errors.New("--timeout, --drain and --observe cannot be negative, and --timeout cannot be 0")}
	}

	response, err := p.adminPost(c.Context, adminOf(c), "/deploy", q)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		var step daemon.DeployStep
		if err := json.Unmarshal(lines.Bytes(), &step); err != nil {
			return fmt.Errorf("what answers is no padlock, or one of another version: %w", err)
		}
		if step.Over {
			return p.deployed(&step)
		}
		terminal.Say(p.stdout, "%s", step.Text)
	}
	lost := "padlock ended before the deploy had"
	if c.Context.Err() != nil {
		lost = "the command was interrupted before the deploy had ended"
	}
	return p.deployed(&daemon.DeployStep{Text: lost, Result: daemon.DeployLost})
}

// deployed is the end of a deploy. Scripts tell by the exit code which.
func (p *program) deployed(last *daemon.DeployStep) error {
	const remedy = "padlock deploy status shows which targets the site has"
	switch last.Result {
	case daemon.DeployDone:
		terminal.Say(p.stdout, "%s", last.Text)
		return nil
	case daemon.DeployFailed:
		return hint.Add(errors.New(last.Text), remedy)
	}
	terminal.Say(p.stderr, "error: %s", last.Text)
	terminal.Say(p.stderr, "hint: %s", remedy)
	return exitCode(last.Result)
}
