package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"padlock/certs/localca"
	"padlock/dev"
	"padlock/dev/launch"
	"padlock/internal/hint"
)

func (p *program) devListCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "list the apps that run", OnUsageError: onUsageError,
		UsageText: "padlock dev list [--json]\n\nExamples:\n  padlock dev list", Flags: append([]cli.Flag{jsonFlag()}, devStorage()...),
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usageError{fmt.Errorf("unexpected argument %q", c.Args().First())}
			}

			apps, err := devApps(c)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return json.NewEncoder(p.stdout).Encode(apps)
			}

			if len(apps) == 0 {
				_, err := fmt.Fprintln(p.stdout, "no app runs; start one with padlock dev COMMAND")
				return err
			}

			w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tURL\tTARGET\tPID\tDIRECTORY\tCOMMAND")
			for _, a := range apps {
				target := a.Target
				if target == "" {
					target = "not listening"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", a.Name, a.URL, target, a.PID, a.Dir, a.Command)
			}

			return w.Flush()
		},
	}
}

// devApps are those that run; none where there is no proxy.
func devApps(c *cli.Context) ([]dev.App, error) {
	_, dir := devPlace(c)
	client, err := dev.Connect(c.Context, dir)
	if errors.Is(err, dev.ErrNoProxy) {
		return []dev.App{}, nil
	}
	if err != nil {
		return nil, toEnd(err)
	}
	defer client.Close()
	apps, err := client.List(c.Context)
	// In JSON, nil would be null and not an empty list.
	if apps == nil {
		apps = []dev.App{}
	}

	return apps, toEnd(err)
}

// theApp is the one that an argument names; without an argument the one of this directory.
func theApp(c *cli.Context) (name string, err error) {
	switch c.NArg() {
	case 0:
		apps, err := devApps(c)
		if err != nil {
			return "", err
		}
		return appHere(apps)
	case 1:
		return c.Args().First(), nil
	}
	return "", usageError{fmt.Errorf("unexpected argument %q", c.Args().Get(1))}
}

// appHere is the app that runs in this directory, whatever its name; else the one that would have its name from here.
func appHere(apps []dev.App) (name string, err error) {
	name = launch.Name(".")
	var here []string
	for _, a := range apps {
		if sameDirectory(a.Dir, ".") {
			here = append(here, a.Name)
		}
	}

	switch {
	case len(here) == 1:
		return here[0], nil
	case len(here) > 1 && !slices.Contains(here, name):
		return "", hint.Add(usageError{fmt.Errorf("several apps run in this directory: %s", strings.Join(here, ", "))}, "name one of them, such as "+here[0])
	}

	for _, a := range apps {
		// Of two checkouts of a project, each means its own app.
		if a.Name == name && !contains(a.Dir, ".") && !contains(".", a.Dir) {
			return "", hint.Add(fmt.Errorf("no app of this directory runs: %s is that of %s", name, a.Dir), "to mean that one, give its name: "+name)
		}
	}
	return name, nil
}

func sameDirectory(a, b string) bool {
	first, err := os.Stat(a)
	second, failed := os.Stat(b)
	return err == nil && failed == nil && os.SameFile(first, second)
}

// contains reports whether a directory is below another, or that one itself.
func contains(outer, inner string) bool {
	inner, err := filepath.Abs(inner)
	// The parent of the root is the root.
	for ; err == nil; inner = filepath.Dir(inner) {
		if sameDirectory(outer, inner) {
			return true
		}
		if inner == filepath.Dir(inner) {
			return false
		}
	}
	return false
}

func noApp(name string) error {
	return hint.Add(fmt.Errorf("no app is called %s", name), "padlock dev list shows the apps that run")
}

func (p *program) devStopCommand() *cli.Command {
	return &cli.Command{
		Name: "stop", Usage: "end an app and its command (default: the one of this directory)", OnUsageError: onUsageError,
		UsageText: "padlock dev stop [NAME]\n\nExamples:\n  padlock dev stop shop", Flags: devStorage(),
		Action: func(c *cli.Context) error {
			name, err := theApp(c)
			if err != nil {
				return err
			}

			_, dir := devPlace(c)
			client, err := dev.Connect(c.Context, dir)
			if errors.Is(err, dev.ErrNoProxy) {
				return noApp(name)
			}
			if err != nil {
				return toEnd(err)
			}
			defer client.Close()
			app, err := client.StopApp(c.Context, name)
			if errors.Is(err, dev.ErrNoApp) {
				return noApp(name)
			}
			if err != nil {
				return toEnd(err)
			}

			return awaitGone(c.Context, client, app.Name)
		},
	}
}

// stopWait is how long an app may take to end: launch.Process.Stop kills it before that.
const stopWait = 20 * time.Second

func awaitGone(ctx context.Context, client *dev.Client, name string) error {
	ctx, cancel := context.WithTimeout(ctx, stopWait)
	defer cancel()

	for {
		apps, err := client.List(ctx)
		if err != nil {
			// The proxy has ended with its last app.
			return nil
		}

		gone := true
		for _, a := range apps {
			gone = gone && a.Name != name
		}

		if gone {
			return nil
		}

		select {
		case <-ctx.Done():
			return fmt.Errorf("%s has not ended", name)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (p *program) devLogsCommand() *cli.Command {
	return &cli.Command{
		Name: "logs", Usage: "print what an app has printed, the last 10 MiB at most (default: the one of this directory)", OnUsageError: onUsageError,
		UsageText: "padlock dev logs [NAME] [--follow]\n\nExamples:\n  padlock dev logs shop --follow",
		Flags:     append([]cli.Flag{&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on with what comes"}}, devStorage()...),
		Action: func(c *cli.Context) error {
			name, err := theApp(c)
			if err != nil {
				return err
			}

			cfg, _ := devPlace(c)
			// The name becomes a part of a path.
			if !launch.ValidName(name) {
				return noApp(name)
			}
			file := filepath.Join(dev.StateDirectory(cfg.StateDirectory()), name+".log")
			text, err := launch.ReadLog(file, launch.MaxLog)
			if errors.Is(err, os.ErrNotExist) {
				return hint.Add(fmt.Errorf("%s has no log: no command was started under this name", name), "padlock dev list shows the apps that run")
			}
			if err == nil {
				_, err = p.stdout.Write(text)
			}
			if err == nil && c.Bool("follow") {
				err = launch.FollowLog(c.Context, file, p.stdout)
			}

			return err
		},
	}
}

func (p *program) devURLCommand() *cli.Command {
	return &cli.Command{
		Name: "url", Usage: "print an app's URL (default: the one of this directory)", OnUsageError: onUsageError,
		UsageText: "padlock dev url [NAME] [--wait 30s]\n\nWith --wait, the command waits until the app answers. The exit code is 1 if it does not.\n\nExamples:\n  curl \"$(padlock dev url shop --wait 30s)\"",
		Flags:     append([]cli.Flag{&cli.DurationFlag{Name: "wait", Usage: "`DURATION` to wait for the app", EnvVars: []string{"PADLOCK_DEV_WAIT"}}}, devStorage()...),
		Action: func(c *cli.Context) error {
			url, err := p.devURL(c)
			if err == nil {
				_, err = fmt.Fprintln(p.stdout, url)
			}
			return err
		},
	}
}

// devURL finds an app, and waits for it where that is asked for.
func (p *program) devURL(c *cli.Context) (string, error) {
	limit := time.Now().Add(c.Duration("wait"))
	for {
		// Anew each time: an app of this directory may have any name.
		name, err := theApp(c)
		if err != nil {
			return "", err
		}
		apps, err := devApps(c)
		if err != nil {
			return "", err
		}

		var found *dev.App
		for i := range apps {
			if apps[i].Name == name {
				found = &apps[i]
			}
		}

		switch {
		case found != nil && (c.Duration("wait") == 0 || found.Target != "" && appAnswers(c, found.URL)):
			return found.URL, nil
		case time.Now().After(limit) && found != nil:
			return "", fmt.Errorf("%s does not answer", found.URL)
		case time.Now().After(limit):
			return "", noApp(name)
		}

		select {
		case <-c.Context.Done():
			return "", c.Context.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// appAnswers reports whether an app answers anything but the page that waits for it.
func appAnswers(c *cli.Context, url string) bool {
	cfg, _ := devPlace(c)
	ca, err := localca.Open(cfg.StateDirectory(), localca.Options{Organization: cfg.Organization})
	if err != nil {
		return false
	}

	roots := x509.NewCertPool()
	roots.AddCert(ca.Root())
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			_, port, _ := net.SplitHostPort(address)
			// Not every system knows names below it.
			return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort("localhost", port))
		},
	}
	defer transport.CloseIdleConnections()
	// A redirect is an answer, wherever it leads.
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Get(url)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.Header.Get(dev.WaitingField) == "" && response.StatusCode != http.StatusBadGateway
}

func (p *program) devOpenCommand() *cli.Command {
	return &cli.Command{
		Name: "open", Usage: "open an app in the browser (default: the one of this directory)", OnUsageError: onUsageError,
		UsageText: "padlock dev open [NAME]\n\nExamples:\n  padlock dev open shop", Flags: devStorage(),
		Action: func(c *cli.Context) error {
			url, err := p.devURL(c)
			if err != nil {
				return err
			}

			opener := map[string][]string{"darwin": {"open"}, "windows": {"rundll32", "url.dll,FileProtocolHandler"}}[runtime.GOOS]
			if opener == nil {
				opener = []string{"xdg-open"}
			}
			// Started and not waited for: some openers run for as long as the browser does.
			if err := exec.Command(opener[0], append(opener[1:], url)...).Start(); err != nil {
				return hint.Add(fmt.Errorf("opening %s: %w", url, err), "open it in a browser: "+strconv.Quote(url))
			}

			_, err = fmt.Fprintln(p.stdout, url)
			return err
		},
	}
}
