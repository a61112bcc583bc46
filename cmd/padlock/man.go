package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

func (p *program) manCommand() *cli.Command {
	return &cli.Command{
		Name: "man", Usage: "print padlock's manual page", OnUsageError: onUsageError,
		UsageText: "padlock man | man -l -",
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usageError{fmt.Errorf("unexpected argument %q", c.Args().First())}
			}

			date, err := manDate(os.Getenv("SOURCE_DATE_EPOCH"))
			if err != nil {
				return usageError{err}
			}
			_, err = p.stdout.Write(manual(c.App, date))
			return err
		},
	}
}

// manDate is today, or the time that reproducible builds take for it (reproducible-builds.org, SOURCE_DATE_EPOCH).
func manDate(epoch string) (time.Time, error) {
	if epoch == "" {
		return time.Now().UTC(), nil
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %q is not a number of seconds", epoch)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// page is a manual page in the language of man(7).
type page struct{ strings.Builder }

// manual describes every command and flag, as the help does.
func manual(app *cli.App, date time.Time) []byte {
	m := &page{}
	// Without hyphenation (.nh) and with a ragged right edge (.ad l), commands can be copied as they are shown.
	fmt.Fprintf(m, ".TH PADLOCK 1 %s \"padlock %s\" \"User Commands\"\n.nh\n.ad l\n", date.Format(time.DateOnly), roff(app.Version))
	m.section("NAME")
	m.fill("padlock - " + app.Usage)
	m.section("SYNOPSIS")
	m.lines(app.UsageText)
	m.section("DESCRIPTION")
	m.fill(app.Description)

	m.section("OPTIONS")
	m.flags(app.VisibleFlags())
	m.section("COMMANDS")
	m.commands(app.Name, app.Commands)

	m.section("EXIT STATUS")
	m.fill("0 for success, 1 for a failure, 2 for wrong usage.")
	m.section("SIGNALS")
	m.terms([][2]string{
		{"SIGTERM", "Accept no more connections and finish open requests within timeouts.shutdown. A second signal stops padlock at once."},
		{"SIGINT", "Like SIGTERM, but open requests have two seconds at most."},
		{"SIGHUP", "Reload the configuration file and reopen log files and captures."},
		{"SIGUSR1", "Reopen log files and captures after another program has moved them."},
		{"SIGUSR2", "Restart the program without refusing a connection."},
	})

	m.section("EXAMPLES")
	m.lines(strings.TrimPrefix(session, "\nEXAMPLES:\n"))
	m.section("SEE ALSO")
	m.fill("Keys of the configuration file: padlock.reference.yaml and docs/configuration.md in the distribution of padlock.")
	return []byte(m.String())
}

func (m *page) section(name string) { fmt.Fprintf(m, ".SH %s\n", name) }

func (m *page) commands(path string, commands []*cli.Command) {
	for _, c := range commands {
		if c.Hidden || c.Name == "help" {
			continue
		}

		name := path + " " + c.Name
		fmt.Fprintf(m, ".SS %s\n", roff(name))
		m.fill(sentence(c.Usage))
		synopsis, more, _ := strings.Cut(c.UsageText, "\n\n")
		more, examples, _ := strings.Cut("\n\n"+more, "\n\nExamples:\n")

		if synopsis != "" {
			m.WriteString(".PP\n")
			m.lines(synopsis)
		}

		for _, text := range []string{strings.TrimSpace(more), c.Description} {
			if text != "" {
				m.WriteString(".PP\n")
				m.fill(text)
			}
		}

		if examples != "" {
			m.WriteString(".PP\nExamples:\n.PP\n")
			m.lines(examples)
		}

		m.flags(c.VisibleFlags())
		m.commands(name, c.Subcommands)
	}
}

func (m *page) flags(flags []cli.Flag) {
	for _, f := range flags {
		d, ok := f.(cli.DocGenerationFlag)
		if !ok || f == cli.HelpFlag {
			continue
		}

		fmt.Fprintf(m, ".TP\n\\fB\\-\\-%s\\fR", roff(f.Names()[0]))
		if d.TakesValue() {
			fmt.Fprintf(m, " \\fI%s\\fR", roff(placeholder(f, d)))
		}
		text := about(f)
		if value := d.GetDefaultText(); value != "" && value != "false" {
			text += " (default: " + strings.Trim(value, `"`) + ")"
		}

		for _, name := range d.GetEnvVars() {
			text += " [$" + name + "]"
		}

		m.WriteString("\n")
		m.fill(text)
	}
}

// placeholder stands for a flag's value.
func placeholder(f cli.Flag, d cli.DocGenerationFlag) string {
	if _, rest, ok := strings.Cut(d.GetUsage(), "`"); ok {
		name, _, _ := strings.Cut(rest, "`")
		return name
	}
	if choice, ok := f.(choiceFlag); ok {
		return strings.Join(choice.choices, "|")
	}
	return "VALUE"
}

func (m *page) terms(terms [][2]string) {
	for _, t := range terms {
		fmt.Fprintf(m, ".TP\n\\fB%s\\fR\n", roff(t[0]))
		m.fill(t[1])
	}
}

// lines stay as they are.
func (m *page) lines(text string) {
	m.WriteString(".nf\n")
	for line := range strings.Lines(text) {
		m.WriteString(atStart(roff(strings.TrimSpace(line))) + "\n")
	}
	m.WriteString(".fi\n")
}

const roffWidth = 80 // of a line of source

// fill writes text whose lines the formatter breaks anew.
func (m *page) fill(text string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if word = roff(word); line != "" && len(line)+1+len(word) > roffWidth {
			m.WriteString(line + "\n")
			line = ""
		}
		if line == "" {
			line = atStart(word)
		} else {
			line += " " + word
		}
	}
	m.WriteString(line + "\n")
}

// sentence begins with a capital and ends with a full stop.
func sentence(text string) string {
	return strings.ToUpper(text[:1]) + strings.TrimSuffix(text[1:], ".") + "."
}

// atStart keeps a line from being a request.
func atStart(line string) string {
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
		return `\&` + line
	}
	return line
}

// roff writes text so that the formatter leaves its characters as they are.
func roff(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		// groff makes a hyphen of a bare -, which no shell takes for a minus.
		case r == '-':
			b.WriteString(`\-`)
		case r > '~':
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
