package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// candidate is a word that may stand where the cursor is.
type candidate struct{ word, about string }

// What a shell adds from the file system.
const (
	noFiles     = ""
	files       = ":files"
	directories = ":directories"
)

// complete finds what the last of the words may become; those before it are whole, and the program's name is not among
// them.
func complete(app *cli.App, words []string) (found []candidate, more string) {
	last := len(words) - 1
	before, typed := words[:last], words[last]
	at := place(app, before)
	if at.ended {
		return nil, at.arguments()
	}
	if at.value != nil {
		return matching(typed, valuesOf(at.value)), filesOf(at.value)
	}

	if name, value, ok := strings.Cut(typed, "="); ok && strings.HasPrefix(name, "-") {
		if f := flagNamed(at.flags, name); f != nil {
			for _, c := range matching(value, valuesOf(f)) {
				found = append(found, candidate{name + "=" + c.word, c.about})
			}
			return found, filesOf(f)
		}
		return nil, noFiles
	}

	if strings.HasPrefix(typed, "-") {
		return matching(typed, flagsOf(at.flags)), noFiles
	}

	if !at.argued {
		for _, c := range at.commands {
			if !c.Hidden {
				found = append(found, candidate{c.Name, c.Usage})
			}
		}
		for _, word := range at.words {
			found = append(found, candidate{word, ""})
		}
	}

	return matching(typed, found), at.arguments()
}

// position is where the next word stands.
type position struct {
	flags    []cli.Flag
	commands []*cli.Command
	usage    string   // of the command
	words    []string // that the command takes as an argument
	value    cli.Flag // whose value comes next; nil: none's
	argued   bool     // there is an argument already
	ended    bool     // no flag comes any more, after --
}

func place(app *cli.App, before []string) position {
	p := position{flags: app.VisibleFlags(), commands: app.Commands}
	for _, word := range before {
		switch {
		case p.value != nil:
			p.value = nil
		case p.ended:
		case word == "--":
			p.ended = true
		case len(word) > 1 && word[0] == '-':
			if takesValue(p.flags, word) {
				p.value = flagNamed(p.flags, word)
			}
		default:
			i := slices.IndexFunc(p.commands, func(c *cli.Command) bool { return c.HasName(word) })
			if p.argued || i < 0 {
				p.argued = true
				continue
			}

			c := p.commands[i]
			p.flags, p.commands, p.usage = append(c.VisibleFlags(), cli.HelpFlag), c.Subcommands, c.UsageText
			p.words = strings.FieldsFunc(c.ArgsUsage, func(r rune) bool { return r == '|' })
		}
	}
	return p
}

// arguments are files where the command's usage names one.
func (p position) arguments() string {
	synopsis, _, _ := strings.Cut(p.usage, "\n\n")
	if strings.Contains(synopsis, " FILE") || strings.Contains(synopsis, " CERTIFICATE") {
		return files
	}
	return noFiles
}

func flagNamed(flags []cli.Flag, word string) cli.Flag {
	name := strings.TrimLeft(word, "-")
	i := slices.IndexFunc(flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
	if i < 0 {
		return nil
	}
	return flags[i]
}

func flagsOf(flags []cli.Flag) (found []candidate) {
	for _, f := range flags {
		found = append(found, candidate{"--" + f.Names()[0], about(f)})
	}
	return found
}

// about is a flag's help in short.
func about(f cli.Flag) string {
	d, ok := f.(cli.DocGenerationFlag)
	if !ok {
		return ""
	}
	return strings.ReplaceAll(d.GetUsage(), "`", "")
}

func valuesOf(f cli.Flag) (found []candidate) {
	switch f := f.(type) {
	case choiceFlag:
		for _, word := range f.choices {
			found = append(found, candidate{word, ""})
		}
	case *cli.BoolFlag:
		found = []candidate{{"true", ""}, {"false", ""}}
	}
	return found
}

// filesOf goes by what the flag's help calls the value.
func filesOf(f cli.Flag) string {
	d, ok := f.(cli.DocGenerationFlag)
	switch {
	case ok && strings.Contains(d.GetUsage(), "`FILE`"):
		return files
	case ok && strings.Contains(d.GetUsage(), "`PLACE`"):
		return directories
	}
	return noFiles
}

func matching(typed string, all []candidate) []candidate {
	return slices.DeleteFunc(all, func(c candidate) bool { return !strings.HasPrefix(c.word, typed) })
}
