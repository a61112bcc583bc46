// Command padlock puts HTTPS in front of an application, and shows every TLS handshake.
//
//	padlock 3000
package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"padlock/config"
	"padlock/daemon"
	"padlock/internal/hint"
	"padlock/internal/mask"
	"padlock/internal/terminal"
)

// version is set by the release build.
var version = "dev"

func main() {
	daemon.CatchEarly()
	keepMemory()
	collectLater()
	os.Exit(run(untilSignalled(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// usageError is a call that cannot be understood: exit code 2.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

// reportGrace is how long after a signal the program waits for whoever reads the error that ends it.
const reportGrace = 150 * time.Millisecond

// run is the program: 0 after success, 1 after a failure, 2 after a call that cannot be understood.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	app := newApp(stdin, stdout, stderr)
	args = familiar(app, args)
	err := app.RunContext(ctx, append([]string{app.Name}, flagsFirst(app, args)...))
	if err == nil {
		return 0
	}
	// Whatever the exit code means has been printed already.
	if code := exitCode(0); errors.As(err, &code) {
		return int(code)
	}

	said := make(chan struct{})
	go func() {
		defer close(said)
		first, more, _ := strings.Cut(strings.TrimSpace(mask.Text(err.Error())), "\n")
		terminal.Say(stderr, "error: %s", first)
		if more != "" {
			fmt.Fprintln(stderr, more)
		}

		remedy := cmp.Or(hint.Of(err), "padlock --help shows every command and flag")
		if meant := meant(app, args); meant != "" && errors.As(err, new(usageError)) {
			remedy = "did you mean " + meant + "?"
		}

		// The hint stays on one line, as it may end with a command to paste.
		fmt.Fprintln(stderr, "padlock: hint:", remedy)
	}()

	select {
	case <-said:
	case <-ctx.Done():
		// After a signal, output to a slow reader does not delay the end.
		select {
		case <-said:
		case <-time.After(reportGrace):
		}
	}

	if usage := (usageError{}); errors.As(err, &usage) {
		return 2
	}
	if failed := (labFailed{}); errors.As(err, &failed) {
		return labInconclusive
	}

	return 1
}

// familiar takes what other programs call the version and the help. As the first word, help is not a target.
func familiar(app *cli.App, args []string) []string {
	if len(args) == 0 {
		return args
	}
	switch rest := args[1:]; {
	case len(rest) == 0 && (args[0] == "--version" || args[0] == "-v" || args[0] == "-V"):
		return []string{"version"}
	case args[0] == "help":
		return append(slices.Clip(rest), "--help")
	}
	return args
}

// init has cli fit its help into the terminal, for which it has a variable of the package.
func init() {
	cli.HelpPrinter = func(w io.Writer, template string, data any) {
		var b bytes.Buffer
		cli.HelpPrinterCustom(&b, template, data, nil)
		width := terminal.Width(w)
		// The output most likely goes to a pager.
		if width == 0 {
			width = terminal.Width(os.Stderr)
		}
		_, _ = io.WriteString(w, fitted(b.String(), cmp.Or(width, usualWidth)))
	}
}

// usualWidth is that of a terminal of which nothing is known.
const usualWidth = 80

func newApp(stdin io.Reader, stdout, stderr io.Writer) *cli.App {
	p := &program{stdin: stdin, stdout: stdout, stderr: stderr}
	app := &cli.App{
		Name:                  "padlock",
		Usage:                 "HTTPS in front of your app, with every TLS handshake shown stage by stage",
		UsageText:             "padlock [flags] [TARGET]\npadlock [flags] NAME=TARGET...\npadlock COMMAND [flags]",
		Description:           description,
		Version:               version,
		HideVersion:           true,
		HideHelpCommand:       true,
		Flags:                 append(quickFlags(), sitesFlag()),
		Action:                p.quick,
		Commands:              []*cli.Command{p.proxyCommand(), p.devCommand(), p.serviceCommand(), p.runCommand(), p.checkCommand(), p.routeCommand(), p.reloadCommand(), p.deployCommand(), p.maintenanceCommand(), p.statusCommand(), p.consoleCommand(), p.trustCommand(), p.untrustCommand(), p.probeCommand(), p.explainCommand(), p.watchCommand(), p.doctorCommand(), p.labCommand(), p.hostsCommand(), p.certsCommand(), p.completionCommand(), p.manCommand(), p.versionCommand(), p.completeCommand()},
		CustomAppHelpTemplate: cli.AppHelpTemplate + session,

		Reader:         stdin,
		Writer:         stdout,
		ErrWriter:      stderr,
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   func(_ *cli.Context, err error, _ bool) error { return usageError{err} },
	}
	needStorage(app.Commands)
	return app
}

// needStorage has commands that work with the storage end where there is no place for it, as without a home directory:
// else they would look for it, and make the key of a CA, in whatever directory they run.
func needStorage(commands []*cli.Command) {
	for _, command := range commands {
		needStorage(command.Subcommands)
		// The lab keeps nothing, unless it is told where.
		if command.Name == "lab" {
			continue
		}
		takes := slices.ContainsFunc(command.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), "storage") })
		if !takes {
			continue
		}

		command.Before = func(c *cli.Context) error {
			// A file may name the storage, and says so itself if it does not.
			if c.IsSet("storage") || c.IsSet("config") || config.Default().Storage != "" {
				return nil
			}
			return usageError{hint.Add(errors.New("there is no home directory (HOME), so there is no place for certificates and the local CA"), "name a place: --storage DIRECTORY")}
		}
	}
}

const description = `TARGET is the address of your app: a port (3000), host:port, http://host[:port], https://host[:port],
h2c://host[:port] (HTTP/2 without TLS, for gRPC), unix:PATH, or a folder of files (./public). Without a target, padlock serves a page that shows your own handshake.
NAME is the host name that clients use, or several separated by commas. Repeat a name to give it several targets.
Flags can come before or after TARGET. Each can also be set with the environment variable shown after it.`

// session ends the help, so that it is what a reader sees last.
const session = `
EXAMPLES:
   $ padlock trust                 # once: browsers trust the local CA
   $ python3 -m http.server 3000 &
   $ padlock 3000                  # open the URL that it prints
   $ padlock proxy --from shop.localhost --to 3000
`

// program holds what commands write to and read from.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
}

func (p *program) versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "print the version",
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			_, err := fmt.Fprintln(p.stdout, "padlock", version)
			return err
		},
	}
}

func onUsageError(_ *cli.Context, err error, _ bool) error { return usageError{err} }
