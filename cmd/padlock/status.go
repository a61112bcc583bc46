package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"padlock/config"
	"padlock/console"
	"padlock/internal/hint"
)

func (p *program) statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "show the state of the running padlock: sites, targets, warnings", UsageText: "padlock status [flags]\n\nExamples:\n  padlock status\n  padlock status --quiet", OnUsageError: onUsageError,
		Description: "The exit code is 0 if padlock accepts connections, 1 if not or if none runs. For health checks use --quiet.",
		Flags: []cli.Flag{
			storageFlag(), adminFlag("`ADDR` of the running padlock's admin endpoint (default: the socket in the storage directory, else that of padlock dev)"),
			&cli.BoolFlag{Name: "quiet", Usage: "print nothing; only set the exit code", EnvVars: []string{"PADLOCK_QUIET"}},
			jsonFlag(),
		},
		Action: p.status,
	}
}

// statusTimeout is shorter than those of health checks, so that they see why.
const statusTimeout = 3 * time.Second

func (p *program) status(c *cli.Context) error {
	if c.NArg() > 0 {
		return usageError{fmt.Errorf("unexpected argument %q", c.Args().First())}
	}

	cfg := config.Default()
	applyStorage(c, cfg)
	other := runningPadlock(c, cfg)
	if other == "" || c.Bool("quiet") || c.Bool("json") {
		return p.statusOf(c, cfg)
	}

	err := p.statusOf(c, cfg)
	cfg.Admin.Address = other
	fmt.Fprintln(p.stdout, "\nthe proxy of padlock dev:")
	return errors.Join(err, p.statusOf(c, cfg))
}

// statusOf shows the state of one padlock.
func (p *program) statusOf(c *cli.Context, cfg *config.Config) error {
	ctx, cancel := context.WithTimeout(c.Context, statusTimeout)
	defer cancel()
	response, err := adminGet(ctx, cfg, "/status")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<20))
	if err != nil || response.StatusCode != http.StatusOK {
		return errors.Join(fmt.Errorf("padlock answers with %s", response.Status), err)
	}

	var s console.Status
	if err := json.Unmarshal(body, &s); err != nil {
		return fmt.Errorf("what answers is no padlock, or one of another version: %w", err)
	}

	switch {
	case c.Bool("json"):
		_, err = p.stdout.Write(body)
	case !c.Bool("quiet"):
		err = printStatus(p.stdout, &s)
	}

	if err == nil && !s.Ready {
		err = hint.Add(errors.New("padlock is leaving: it takes no new connections"), "start it again, or wait for the one that takes its place")
	}

	return err
}

// latency is "–" where nothing has been measured.
func latency(ms float64) string {
	if ms == 0 {
		return "–"
	}
	return fmt.Sprintf("%g ms", ms)
}

func printStatus(out io.Writer, s *console.Status) error {
	state := "serves"
	if !s.Ready {
		state = "is leaving"
	}

	up := (time.Duration(s.Uptime) * time.Second).String()
	// The version comes last: that of a build of the source is "dev", and padlock dev is a command.
	fmt.Fprintf(out, "padlock %s, since %s; %d open connections; version %s\n", state, up, s.Connections, s.Version)

	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if len(s.Sites) > 0 {
		fmt.Fprintln(w, "\nSITE\tREQUESTS\t5XX\tMEDIAN\t99 %")
	}

	for _, x := range s.Sites {
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\n", x.Name, x.Requests, x.Failed, latency(x.Median), latency(x.P99))
	}

	_ = w.Flush()

	if len(s.Targets) > 0 {
		fmt.Fprintln(w, "\nTARGET\tSTATE\tOPEN\tREQUESTS\tUNANSWERED\tMEDIAN\t99 %")
	}

	for _, x := range s.Targets {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%s\t%s\n", x.Name, x.State, x.Open, x.Requests, x.Failed, latency(x.Median), latency(x.P99))
	}

	if err := w.Flush(); err != nil {
		return err
	}

	for _, x := range s.Targets {
		// Unhealthy targets have a warning of their own.
		if x.State == "ejected" && x.Reason != "" {
			fmt.Fprintf(out, "requests to %s fail: %s\n", x.Name, x.Reason)
		}
	}

	for _, r := range s.Rejected {
		fmt.Fprintf(out, "clients rejected for %s: %d\n", r.Reason, r.Count)
	}

	for _, d := range s.Dropped {
		if d.Count > 0 {
			fmt.Fprintf(out, "dropped by the queue of %s: %d\n", d.Queue, d.Count)
		}
	}

	for _, line := range s.Overrides {
		fmt.Fprintln(out, line)
	}

	for _, warning := range s.Warnings {
		fmt.Fprintln(out, "warning:", warning)
	}

	return nil
}
