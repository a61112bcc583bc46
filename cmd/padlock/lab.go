package main

import (
	"cmp"
	"context"
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

	"padlock/handshake"
	"padlock/internal/hint"
	"padlock/internal/terminal"
	"padlock/lab"
)

const labUsage = `padlock lab [flags]
padlock lab --check [flags] -- COMMAND [ARGUMENT...]

Examples:
  padlock lab                          # open https://lab.localhost:8444
  padlock lab --check -- curl -sS --cacert {root} {url}
  padlock lab --check --junit lab.xml -- python3 client.py {url} {root}
  padlock lab --check --only 'wrong-*,expired*' -- ./client {host} {port}`

func labDescription() string {
	var b strings.Builder
	b.WriteString("The lab serves endpoints that are right, or wrong in one respect each: certificates, protocol, misbehaviour. With --check it starts a client\nat each of them, sees from the server's side what it does, and tells whether that is what a correct client does. In COMMAND stand for:\n\n")
	for _, p := range lab.Placeholders {
		fmt.Fprintf(&b, "  {%s}%s%s\n", p.Name, strings.Repeat(" ", 10-len(p.Name)), p.Meaning)
	}
	b.WriteString("\nThe client must trust {root}, send a request, and end. Its root is made anew at each start, unless --storage keeps it. It belongs into no trust\nstore: its key and that of some endpoints are for tests alone.\n\n" +
		"Exit codes of --check: 0 nothing is unsafe (with --strict: every verdict is ok), 1 something is unsafe, 2 the call cannot be understood,\n3 nothing is concluded, as the client fails at the good endpoints, the lab cannot start, or the check was interrupted.")
	return b.String()
}

// labListen is where the lab is unless --listen says something else.
const labListen = "localhost:8444"

func (p *program) labCommand() *cli.Command {
	return &cli.Command{
		Name: "lab", Usage: "find out whether a TLS client refuses what it must refuse", UsageText: labUsage, Description: labDescription(), OnUsageError: onUsageError,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "check", Usage: "run the command behind -- against every endpoint"},
			&cli.StringFlag{Name: "only", Usage: "with --check or --list: only endpoints or groups that match `PATTERNS`, such as 'wrong-*,protocol' or '!silence*' for all others"},
			&cli.IntFlag{Name: "jobs", Usage: "run `N` clients at once; one that sends no server name is run alone", Value: lab.DefaultJobs()},
			&cli.DurationFlag{Name: "timeout", Usage: "end a client after this `TIME`", Value: 15 * time.Second},
			&cli.BoolFlag{Name: "strict", Usage: "exit with 1 unless every verdict is ok"},
			&cli.BoolFlag{Name: "json", Usage: "print the report as JSON"},
			&cli.StringFlag{Name: "junit", Usage: "write the report to `FILE` as JUnit XML"},
			&cli.StringFlag{Name: "markdown", Usage: "write the report to `FILE` as a table in Markdown"},
			&cli.BoolFlag{Name: "list", Usage: "print all endpoints (with --json as JSON), and end"},
			&cli.BoolFlag{Name: "names", Usage: "print the host names of all endpoints, as for padlock hosts add, and end"},
			&cli.StringFlag{Name: "listen", Usage: "`ADDR` to listen on (default: " + labListen + "; with --check a free port of localhost)"},
			&cli.StringFlag{Name: "storage", Usage: "keep the lab's root in `DIR` (default: a new root at each start)"},
		},
		Action: p.lab,
	}
}

func (p *program) lab(c *cli.Context) error {
	switch {
	case c.Bool("names"):
		return p.labNames()
	case c.Bool("list"):
		return p.labList(c)
	case c.Bool("check"):
		return p.labCheck(c)
	case c.NArg() > 0:
		return hint.Add(usageError{fmt.Errorf("unexpected argument %q", c.Args().First())}, "to run a command against the endpoints: padlock lab --check -- COMMAND")
	}

	for _, name := range []string{"only", "jobs", "timeout", "strict", "json", "junit", "markdown"} {
		if c.IsSet(name) {
			return usageError{fmt.Errorf("--%s is for padlock lab --check", name)}
		}
	}
	return p.labServe(c)
}

func (p *program) labNames() error {
	for _, e := range lab.Endpoints() {
		if net.ParseIP(e.Hostname()) == nil {
			fmt.Fprintln(p.stdout, e.Hostname())
		}
	}
	_, err := fmt.Fprintln(p.stdout, lab.Domain)
	return err
}

// openLab listens.
func (p *program) openLab(c *cli.Context, listen string, sinks ...handshake.Sink) (*lab.Lab, error) {
	addresses, err := labAddresses(cmp.Or(c.String("listen"), listen))
	if err != nil {
		return nil, err
	}
	l, err := lab.Open(lab.Options{
		Listen: addresses, Storage: c.String("storage"), Sinks: sinks, Log: slog.New(warnings{terminal.NewSentences(p.stderr)}),
		Story: func(e *handshake.Event) string {
			var b strings.Builder
			handshake.NewStory(&b, handshake.StoryOptions{}).Handshake(e)
			return b.String()
		},
	})
	if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EACCES) {
		err = hint.Add(err, "choose another address: padlock lab --listen localhost:9444")
	}
	if err == nil && l.Public() {
		terminal.Say(p.stderr, "warning: other machines can reach the lab; its faults are for clients on this one, so listen on localhost unless the clients are elsewhere")
	}
	return l, err
}

// labAddresses are what --listen means: localhost is both of its addresses, where there are two.
func labAddresses(listen string) ([]string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, usageError{fmt.Errorf("--listen: %w", err)}
	}
	if host != "localhost" {
		return []string{listen}, nil
	}
	addresses := []string{net.JoinHostPort("127.0.0.1", port)}
	if probe, err := net.Listen("tcp", "[::1]:0"); err == nil {
		probe.Close()
		addresses = append(addresses, net.JoinHostPort("::1", port))
	}
	return addresses, nil
}

// labServe serves the endpoints and their page until it is stopped.
func (p *program) labServe(c *cli.Context) error {
	l, err := p.openLab(c, labListen, handshake.NewLine(p.stdout))
	if err != nil {
		return err
	}
	root, clean, err := labRoot(l)
	if err != nil {
		return err
	}
	defer clean()

	terminal.Say(p.stderr, "%d endpoints, which the page lists: %s", len(l.Endpoints()), l.PageURL())
	terminal.Say(p.stderr, "the lab's root, for the clients that you test and for no trust store: %s", root)
	resolve := ""
	if l.Elsewhere() {
		// Programs that know names below localhost by themselves would stay on their own machine.
		resolve = fmt.Sprintf("--resolve '*:%s:%s' ", l.Port(), l.Address())
		terminal.Say(p.stderr, "the names of the endpoints must lead to %s on the machine of the client, as by its hosts file", l.Address())
	} else {
		p.labResolves(c.Context)
	}
	terminal.Say(p.stderr, "for example: %s", terminal.Unbroken(fmt.Sprintf("curl %s--cacert %s %s", resolve, root, l.URL(l.Endpoints()[0]))))
	return l.Serve(c.Context)
}

// labResolves tells what to do where programs cannot resolve the names.
func (p *program) labResolves(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := net.DefaultResolver.LookupHost(ctx, "good."+lab.Domain); err != nil {
		terminal.Say(p.stderr, "browsers and curl find names below localhost by themselves; this system's resolver does not. For other programs: %s", terminal.Unbroken("padlock hosts add $(padlock lab --names)"))
	}
}

// labRoot is the root in a file, for as long as the lab runs.
func labRoot(l *lab.Lab) (name string, clean func(), err error) {
	dir, err := os.MkdirTemp("", "padlock-lab-")
	if err != nil {
		return "", nil, err
	}
	name = filepath.Join(dir, "root.pem")
	return name, func() { _ = os.RemoveAll(dir) }, os.WriteFile(name, l.Root(), 0o644)
}

func (p *program) labCheck(c *cli.Context) error {
	switch {
	case c.NArg() == 0:
		return hint.Add(usageError{errors.New("--check needs the command of a client")}, "padlock lab --check -- curl -sS --cacert {root} {url}")
	case !lab.Directs(c.Args().Slice()):
		return hint.Add(usageError{errors.New("the command does not say where the client is to go")}, "write {url} into it, or {host} and {port}: padlock lab --check -- curl -sS --cacert {root} {url}")
	case c.Int("jobs") < 1:
		return usageError{errors.New("--jobs must be at least 1")}
	case c.Duration("timeout") <= 0:
		return usageError{errors.New("--timeout must be positive")}
	}
	if _, err := lab.Choose(c.String("only")); err != nil {
		return hint.Add(usageError{err}, "padlock lab --list prints all endpoints")
	}
	for _, name := range []string{"junit", "markdown"} {
		if err := canWrite(c.String(name)); err != nil {
			return labFailed{err}
		}
	}
	l, err := p.openLab(c, "localhost:0")
	if err != nil {
		return labFailed{err}
	}
	ctx, cancel := context.WithCancel(c.Context)
	served := make(chan error, 1)
	go func() { served <- l.Serve(ctx) }()
	defer func() {
		cancel()
		<-served
	}()

	progress := newLabProgress(p.stderr)
	report, err := l.Check(ctx, lab.Check{
		Command: c.Args().Slice(), Only: c.String("only"), Jobs: c.Int("jobs"), Timeout: c.Duration("timeout"), Progress: progress.show,
	})
	progress.end()
	if err != nil {
		return labFailed{err}
	}
	report.Strict = c.Bool("strict")
	return p.labReport(c, report)
}

// labFailed is an error for which nothing is concluded of a client: not the exit code of one that is unsafe.
type labFailed struct{ error }

func (l labFailed) Unwrap() error { return l.error }

// labInconclusive is the exit code of a check from which nothing is concluded.
const labInconclusive = 3

// canWrite reports why a report could not be written when all is done; "": there is none.
func canWrite(name string) error {
	if name == "" {
		return nil
	}
	file, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	return file.Close()
}

func (p *program) labReport(c *cli.Context, report *lab.Report) error {
	var err error
	if c.Bool("json") {
		err = report.JSON(p.stdout)
	} else if report.Failed == "" {
		err = report.Table(p.stdout, terminal.Width(p.stdout), painter(terminal.Colour(p.stdout)))
	}
	for name, write := range map[string]func(io.Writer) error{"junit": report.JUnit, "markdown": report.Markdown} {
		if file := c.String(name); file != "" && err == nil {
			err = writeReport(file, write)
		}
	}

	switch {
	case err != nil:
		return labFailed{err}
	case report.Failed != "":
		terminal.Say(p.stderr, "error: %s", report.Summary())
		fmt.Fprintln(p.stderr, "padlock: hint:", report.Remedy)
		return exitCode(labInconclusive)
	case report.Count(lab.Unsafe) > 0, report.Strict && report.Count(lab.OK) < len(report.Results):
		return exitCode(1)
	case report.Stopped > 0:
		return exitCode(labInconclusive)
	}
	return nil
}

func writeReport(name string, write func(io.Writer) error) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(file), file.Close())
}

// painter colours verdicts for a terminal.
func painter(colour bool) func(lab.Verdict, string) string {
	codes := map[lab.Verdict]string{lab.Unsafe: "31;1", lab.Weak: "33", lab.TooStrict: "33", lab.Unclear: "2", lab.OK: "32"}
	return func(v lab.Verdict, text string) string {
		if !colour {
			return text
		}
		return "\x1b[" + codes[v] + "m" + text + "\x1b[0m"
	}
}

// labProgress shows how far a check is: a line that changes on a terminal, else a line now and then.
type labProgress struct {
	w      io.Writer
	live   bool
	next   time.Time
	unsafe int
}

func newLabProgress(w io.Writer) *labProgress {
	return &labProgress{w: w, live: terminal.Is(w), next: time.Now().Add(quietProgress)}
}

// quietProgress is between lines of progress in a file.
const quietProgress = 10 * time.Second

func (l *labProgress) show(done, of int, r *lab.Result) {
	if r.Verdict == lab.Unsafe && r.Endpoint.Group != lab.Controls {
		l.unsafe++
	}
	text := fmt.Sprintf("%d of %d endpoints, %d unsafe: %s", done, of, l.unsafe, r.Endpoint.Name)
	switch {
	case l.live:
		fmt.Fprintf(l.w, "\r\x1b[K%s", text)
	case time.Now().After(l.next):
		l.next = time.Now().Add(quietProgress)
		fmt.Fprintln(l.w, "padlock:", text)
	}
}

func (l *labProgress) end() {
	if l.live {
		fmt.Fprint(l.w, "\r\x1b[K")
	}
}

func (p *program) labList(c *cli.Context) error {
	endpoints := lab.Endpoints()
	if c.IsSet("only") {
		chosen, err := lab.Choose(c.String("only"))
		if err != nil {
			return hint.Add(usageError{err}, "padlock lab --list without --only prints all endpoints")
		}
		endpoints = chosen
	}
	if c.Bool("json") {
		return lab.ListJSON(p.stdout, endpoints)
	}

	group := lab.Group("")
	for _, e := range endpoints {
		if e.Group != group {
			group = e.Group
			fmt.Fprintf(p.stdout, "\n%s\n", strings.ToUpper(string(group)))
		}
		if _, err := fmt.Fprintf(p.stdout, "  %-29s %-13s %s\n", e.Name, e.Expect, e.Wrong); err != nil {
			return err
		}
	}
	return nil
}
