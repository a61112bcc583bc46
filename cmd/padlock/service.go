package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"padlock/dev"
	"padlock/internal/hint"
)

func (p *program) serviceCommand() *cli.Command {
	command := func(name, usage string, action func(*service, *cli.Context) error) *cli.Command {
		return &cli.Command{
			Name: name, Usage: usage, UsageText: "padlock service " + name, OnUsageError: onUsageError, Flags: devStorage(),
			Action: func(c *cli.Context) error {
				if c.NArg() > 0 {
					return usageError{fmt.Errorf("unexpected argument %q", c.Args().First())}
				}
				s, err := newService(p, c)
				if err != nil {
					return err
				}
				return action(s, c)
			},
		}
	}

	return &cli.Command{
		Name: "service", Usage: "start the proxy of padlock dev when you log in", OnUsageError: onUsageError, HideHelpCommand: true,
		Description: "Without the service, the first padlock dev starts the proxy, and it ends after the last app. The service keeps it running: by a systemd user " +
			"unit, by launchd on macOS, or by a scheduled task on Windows.",
		Subcommands: []*cli.Command{
			command("install", "install the service, and start it now", (*service).install),
			command("status", "show whether the service is installed, and whether the proxy runs", (*service).status),
			command("uninstall", "remove the service", (*service).uninstall),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usageError{fmt.Errorf("service has no command %q", c.Args().First())}
			}
			return cli.ShowSubcommandHelp(c)
		},
	}
}

// service is the proxy of padlock dev as something that the system starts at login.
type service struct {
	*program
	file    string // what the system reads; "" on Windows, which keeps it elsewhere
	text    string
	enable  [][]string
	disable [][]string
}

const serviceName = "padlock-dev"

// newService describes the service for this system.
func newService(p *program, c *cli.Context) (*service, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// The absolute path: the system starts services with another PATH.
	words, settings := []string{program, "dev", "serve", "--stay"}, proxySettings(c)

	home, err := os.UserHomeDir()
	if err != nil {
		return nil, err
	}

	switch runtime.GOOS {
	case "windows":
		// A task has no environment of its own.
		for _, s := range settings {
			words = append(words, "--"+s.flag, s.value)
		}
		return &service{
			program: p,
			enable:  [][]string{{"schtasks", "/Create", "/F", "/SC", "ONLOGON", "/TN", serviceName, "/TR", windowsLine(words)}, {"schtasks", "/Run", "/TN", serviceName}},
			disable: [][]string{{"schtasks", "/End", "/TN", serviceName}, {"schtasks", "/Delete", "/F", "/TN", serviceName}},
		}, nil
	case "darwin":
		file := filepath.Join(home, "Library", "LaunchAgents", serviceName+".plist")
		domain := "gui/" + strconv.Itoa(os.Getuid())
		return &service{
			program: p, file: file, text: launchdPlist(words, settings),
			enable:  [][]string{{"launchctl", "bootstrap", domain, file}},
			disable: [][]string{{"launchctl", "bootout", domain + "/" + serviceName}},
		}, nil
	}

	// The specification ignores relative values.
	base := os.Getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(base) {
		base = filepath.Join(home, ".config")
	}

	systemctl := func(args ...string) []string { return append([]string{"systemctl", "--user"}, args...) }
	return &service{
		program: p, file: filepath.Join(base, "systemd", "user", serviceName+".service"), text: systemdUnit(words, settings),
		enable:  [][]string{systemctl("daemon-reload"), systemctl("enable", "--now", serviceName)},
		disable: [][]string{systemctl("disable", "--now", serviceName)},
	}, nil
}

// systemdUnit quotes words as systemd.service(5) reads them, and settings as systemd.exec(5) does.
func systemdUnit(words []string, settings []setting) string {
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`)
	var environment, command strings.Builder
	for _, s := range settings {
		environment.WriteString(`Environment="` + quote.Replace(s.variable()) + "\"\n")
	}
	for _, word := range words {
		// systemd expands $ within words, and not within the environment.
		command.WriteString(` "` + strings.ReplaceAll(quote.Replace(word), "$", "$$") + `"`)
	}
	return "[Unit]\nDescription=padlock: HTTPS for the apps that are developed on this machine\n\n" +
		"[Service]\n" + environment.String() + "ExecStart=" + strings.TrimSpace(command.String()) + "\nRestart=on-failure\nRestartSec=5\n\n[Install]\nWantedBy=default.target\n"
}

func launchdPlist(words []string, settings []setting) string {
	var b strings.Builder
	element := func(name, text string) {
		b.WriteString("<" + name + ">")
		_ = xml.EscapeText(&b, []byte(text)) // a Builder takes everything
		b.WriteString("</" + name + ">\n")
	}

	b.WriteString(xml.Header + `<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">` + "\n" +
		"<plist version=\"1.0\"><dict>\n<key>Label</key><string>" + serviceName + "</string>\n<key>ProgramArguments</key><array>\n")
	for _, word := range words {
		element("string", word)
	}
	b.WriteString("</array>\n<key>EnvironmentVariables</key><dict>\n")
	for _, s := range settings {
		element("key", variable(s.flag))
		element("string", s.value)
	}
	b.WriteString("</dict>\n<key>RunAtLoad</key><true/>\n<key>KeepAlive</key><dict><key>SuccessfulExit</key><false/></dict>\n</dict></plist>\n")
	return b.String()
}

// windowsLine quotes words for a task: paths may have spaces, and nothing else needs quotes.
func windowsLine(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = word
		if strings.Contains(word, " ") {
			quoted[i] = `"` + word + `"`
		}
	}
	return strings.Join(quoted, " ")
}

func (s *service) install(*cli.Context) error {
	if s.file != "" {
		if err := os.MkdirAll(filepath.Dir(s.file), 0o755); err != nil {
			return err
		}
		// A file that is there keeps its mode, and this one may have a password in it.
		if err := os.Remove(s.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.WriteFile(s.file, []byte(s.text), 0o600); err != nil {
			return err
		}
		fmt.Fprintf(s.stdout, "padlock: wrote %s\n", s.file)
	}

	if err := runAll(s.enable); err != nil {
		// Half an installation would start one day, perhaps at the next boot.
		if s.file != "" && os.Remove(s.file) == nil {
			fmt.Fprintf(s.stdout, "padlock: removed %s again\n", s.file)
		}
		return hint.Add(err, "in a session without systemd, start the proxy yourself: padlock dev serve --stay")
	}

	fmt.Fprintln(s.stdout, "padlock: the service is installed, and runs")
	return nil
}

func (s *service) uninstall(*cli.Context) error {
	if s.file != "" {
		if _, err := os.Stat(s.file); errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintln(s.stdout, "padlock: the service is not installed")
			return nil
		}
	}
	// The file is removed even if the service does not stop, so that it does not start again.
	failed := runAll(s.disable)

	if s.file != "" {
		if err := os.Remove(s.file); err != nil {
			return err
		}
		fmt.Fprintf(s.stdout, "padlock: removed %s\n", s.file)
	}

	return failed
}

// status exits with 1 where the proxy does not run.
func (s *service) status(c *cli.Context) error {
	installed := "not installed"
	if s.file == "" {
		// Windows keeps tasks in no file that could be looked for.
		if exec.Command("schtasks", "/Query", "/TN", serviceName).Run() == nil {
			installed = "installed"
		}
	} else if _, err := os.Stat(s.file); err == nil {
		installed = "installed: " + s.file
	}

	fmt.Fprintf(s.stdout, "service: %s\n", installed)
	_, dir := devPlace(c)
	client, err := dev.Connect(c.Context, dir)
	if errors.Is(err, dev.ErrNoProxy) {
		fmt.Fprintln(s.stdout, "proxy: does not run")
		return exitCode(1)
	}

	if err != nil {
		return toEnd(err)
	}
	defer client.Close()
	apps, err := client.List(c.Context)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "proxy: process %d at %s, %s\n", client.Ports.PID, client.Ports.URL("localhost"), plural(len(apps), "app"))
	return nil
}

// runAll runs commands one after the other, until one fails.
func runAll(commands [][]string) error {
	for _, words := range commands {
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(words, " "), err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}
