package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"padlock/config"
	"padlock/internal/hint"
	"padlock/internal/terminal"
)

func (p *program) hostsCommand() *cli.Command {
	file := func() *cli.StringFlag {
		return &cli.StringFlag{Name: "file", Value: hostsFile(), Usage: "hosts `FILE` of this machine", EnvVars: []string{"PADLOCK_HOSTS_FILE"}}
	}
	return &cli.Command{
		Name: "hosts", Usage: "point names such as shop.test at this machine", OnUsageError: onUsageError, HideHelpCommand: true,
		Description: "Names below localhost need no entry. For other names, add writes lines to the hosts file, and remove removes the lines that add has written.\n" +
			"Only root can write the file: padlock runs sudo, which asks for your password.",
		Subcommands: []*cli.Command{
			{
				Name: "add", Usage: "add a line for each name", UsageText: "padlock hosts add NAME...\n\nExamples:\n  padlock hosts add shop.test", OnUsageError: onUsageError, Flags: []cli.Flag{file()},
				Action: func(c *cli.Context) error {
					names, err := hostNames(c.Args().Slice())
					if err != nil {
						return err
					}
					return p.editHosts(c, names, func(text []byte) []byte { return addHostLines(text, names) })
				},
			},
			{
				Name: "remove", Usage: "remove the lines that add has written, for the given names or for all", UsageText: "padlock hosts remove [NAME...]\n\nExamples:\n  padlock hosts remove shop.test\n  padlock hosts remove", OnUsageError: onUsageError, Flags: []cli.Flag{file()},
				Action: func(c *cli.Context) error {
					var names []string
					if c.NArg() > 0 {
						var err error
						if names, err = hostNames(c.Args().Slice()); err != nil {
							return err
						}
					}
					return p.editHosts(c, names, func(text []byte) []byte { return removeHostLines(text, names) })
				},
			},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usageError{fmt.Errorf("hosts has no command %q", c.Args().First())}
			}
			return cli.ShowSubcommandHelp(c)
		},
	}
}

// hostsFile is where this system looks names up before it asks DNS.
func hostsFile() string {
	if runtime.GOOS == "windows" {
		return filepath.Join(os.Getenv("SystemRoot"), "System32", "drivers", "etc", "hosts")
	}
	return "/etc/hosts"
}

func hostNames(args []string) (names []string, err error) {
	if len(args) == 0 {
		return nil, usageError{errors.New("no name is given, such as shop.test")}
	}

	for _, arg := range args {
		name, ok := config.CanonicalHost(arg)
		switch {
		case !ok || net.ParseIP(name) != nil:
			return nil, usageError{fmt.Errorf("%q is not a host name", arg)}
		case strings.Contains(name, "*"):
			return nil, hint.Add(usageError{fmt.Errorf("%s: the hosts file has no wildcards", arg)}, "give each name, or use names below localhost, which need no line")
		}
		names = append(names, name)
	}
	return names, nil
}

// hostsMark ends each line that padlock has written.
const hostsMark = " # padlock"

// addHostLines adds lines for names that have none yet, and leaves all others as they are.
func addHostLines(text []byte, names []string) []byte { return appendHostLines(text, names, hostsMark) }

// appendHostLines is addHostLines with lines that end in a mark.
func appendHostLines(text []byte, names []string, mark string) []byte {
	out := bytes.Clone(text)
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}

	for _, name := range names {
		// Both families, as clients choose between them by rules of their own.
		for _, address := range []string{"127.0.0.1", "::1"} {
			if !hasHostLine(out, address, name) {
				out = append(out, address+" "+name+mark+"\n"...)
			}
		}
	}

	// Nothing would be added but the end of the last line.
	if len(out) == len(text)+1 {
		return text
	}
	return out
}

// hasHostLine reports whether a name leads to an address already.
func hasHostLine(text []byte, address, name string) bool {
	for line := range bytes.Lines(text) {
		entry, _, _ := strings.Cut(string(line), "#")
		fields := strings.Fields(entry)
		if len(fields) > 1 && fields[0] == address && slices.ContainsFunc(fields[1:], func(f string) bool { return strings.EqualFold(f, name) }) {
			return true
		}
	}
	return false
}

// removeHostLines removes padlock's own lines: those of the names, or all.
func removeHostLines(text []byte, names []string) []byte {
	var out []byte
	for line := range bytes.Lines(text) {
		entry, own := strings.CutSuffix(strings.TrimRight(string(line), "\r\n"), hostsMark)
		// A line that somebody has edited has become theirs.
		if fields := strings.Fields(entry); own && len(fields) == 2 && (names == nil || slices.Contains(names, fields[1])) {
			continue
		}
		out = append(out, line...)
	}
	return out
}

// editHosts writes what edit makes of the hosts file, as root where that is needed.
func (p *program) editHosts(c *cli.Context, names []string, edit func([]byte) []byte) error {
	file := c.String("file")
	// Tried without privileges first: in containers, and for another file, none are needed.
	changed, err := changeHosts(file, edit)
	if errors.Is(err, os.ErrPermission) {
		return p.asRoot(c, file, append([]string{"hosts", c.Command.Name, "--file", file}, names...))
	}
	if err != nil {
		return err
	}

	if len(changed) == 0 {
		fmt.Fprintf(p.stdout, "%s needs no change\n", file)
	}
	for _, line := range changed {
		fmt.Fprintf(p.stdout, "%s: %s\n", file, line)
	}
	return nil
}

// changeHosts writes what edit makes of the hosts file, which nobody else changes meanwhile, and returns the lines that
// have changed.
func changeHosts(file string, edit func([]byte) []byte) (changed []string, err error) {
	release, err := lockHosts(file)
	if err != nil {
		return nil, fmt.Errorf("reading the hosts file: %w", err)
	}
	defer release()

	before, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the hosts file: %w", err)
	}
	after := edit(before)
	if bytes.Equal(before, after) {
		return nil, nil
	}
	if err := replaceHosts(file, after); err != nil {
		return nil, fmt.Errorf("writing the hosts file: %w", err)
	}
	return changedLines(before, after), nil
}

// changedLines are those that came, behind a +, and those that went, behind a -.
func changedLines(before, after []byte) (changed []string) {
	old, now := strings.Split(string(before), "\n"), strings.Split(string(after), "\n")
	for _, line := range old {
		if !slices.Contains(now, line) {
			changed = append(changed, "- "+line)
		}
	}
	for _, line := range now {
		if !slices.Contains(old, line) {
			changed = append(changed, "+ "+line)
		}
	}
	return changed
}

// replaceHosts writes a file whose old content stays whole until the new one is. A file that is mounted by itself, as
// in a container, cannot be replaced, and is written in place.
func replaceHosts(file string, content []byte) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	// A directory in which we may rename does not mean that we may write this file.
	if err := writable(file); err != nil {
		return err
	}

	// In the same directory, as a rename across file systems fails.
	temporary, err := os.CreateTemp(filepath.Dir(file), ".hosts-")
	if err != nil {
		return os.WriteFile(file, content, info.Mode())
	}
	defer os.Remove(temporary.Name())
	_, err = temporary.Write(content)
	err = errors.Join(err, temporary.Chmod(info.Mode().Perm()), temporary.Sync(), temporary.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(temporary.Name(), file); err != nil {
		return os.WriteFile(file, content, info.Mode())
	}

	return nil
}

func writable(file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// asRoot runs padlock once more, by sudo, where somebody can type a password; else the error has the command.
func (p *program) asRoot(c *cli.Context, file string, args []string) error {
	self, err := os.Executable()
	if err != nil {
		self = "padlock"
	}
	command := append([]string{self}, args...)
	refused := hint.Add(fmt.Errorf("writing %s needs root", file), "run sudo "+strings.Join(command, " "))
	sudo, err := exec.LookPath("sudo")
	// Without a terminal nobody can type the password that sudo asks for.
	if err != nil || os.Geteuid() == 0 || !terminal.Is(p.stdin) {
		return refused
	}

	terminal.Say(p.stdout, "writing %s needs root: %s", file, terminal.Unbroken("sudo "+strings.Join(command, " ")))
	run := exec.CommandContext(c.Context, sudo, command...)
	run.Stdin, run.Stdout, run.Stderr = p.stdin, p.stdout, p.stderr
	if run.Run() != nil {
		return refused
	}

	return nil
}

// resolveWithin is how long the start waits for names to be looked up, in the background.
