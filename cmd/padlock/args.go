package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"padlock/config"
)

// flagsFirst moves the command to the front and flags before arguments, because cli looks for the command first,
// and for flags only until the first argument. What follows --, or the command of padlock dev, stays where it is.
func flagsFirst(app *cli.App, args []string) []string {
	command, flags, commands, foreign := []string{}, app.Flags, app.Commands, false
	for {
		i := firstArgument(flags, args)
		if i == len(args) {
			break
		}
		at := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(args[i]) })
		// What follows belongs to another program's command line.
		if at < 0 && foreign {
			return slices.Concat(command, args)
		}
		if at < 0 {
			break
		}

		command, flags = append(command, args[i]), commands[at].Flags
		foreign = args[i] == "dev"
		args, commands = append(args[:i:i], args[i+1:]...), commands[at].Subcommands
	}

	var front, rest []string
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "--":
			return append(append(append(command, front...), rest...), args[i:]...)
		case len(arg) > 1 && arg[0] == '-':
			front = append(front, arg)
			if takesValue(flags, arg) && i+1 < len(args) {
				i++
				front = append(front, args[i])
			}
		default:
			rest = append(rest, arg)
		}
	}

	return append(append(command, front...), rest...)
}

// firstArgument is the index of the first argument that is neither a flag nor a flag's value; len(args) if there is
// none.
func firstArgument(flags []cli.Flag, args []string) int {
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "--":
			return len(args)
		case len(arg) < 2 || arg[0] != '-':
			return i
		case takesValue(flags, arg):
			i++
		}
	}
	return len(args)
}

// takesValue reports whether the argument after this flag is its value.
func takesValue(flags []cli.Flag, arg string) bool {
	if strings.Contains(arg, "=") {
		return false
	}
	name := strings.TrimLeft(arg, "-")
	for _, f := range flags {
		for _, n := range f.Names() {
			if _, boolean := f.(*cli.BoolFlag); n == name {
				return !boolean
			}
		}
	}
	return false
}

// meant is the command or the flag that a call which cannot be understood is closest to; "" if none is close.
func meant(app *cli.App, args []string) string {
	path, flags, commands := "padlock", app.Flags, app.Commands
	for {
		i := firstArgument(flags, args)
		if i == len(args) {
			break
		}
		at := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(args[i]) })
		if at < 0 {
			for _, c := range commands {
				if config.Near(args[i], c.Name) && len(args[i]) > 2 {
					return path + " " + c.Name
				}
			}

			if config.Near(args[i], "help") && len(args[i]) > 2 {
				return path + " --help"
			}
			break
		}

		path, flags, commands = path+" "+args[i], commands[at].Flags, commands[at].Subcommands
		args = append(args[:i:i], args[i+1:]...)
	}

	var names []string
	for _, f := range flags {
		names = append(names, f.Names()...)
	}

	return meantFlag(names, args)
}

// meantFlag is a flag that one of the arguments nearly is; "": none.
func meantFlag(names, args []string) string {
	for _, arg := range args {
		name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if arg == "--" {
			break
		}
		if len(arg) < 4 || arg[0] != '-' || slices.Contains(names, name) || name == "help" {
			continue
		}

		for _, n := range names {
			if config.Near(name, n) {
				return "--" + n
			}
		}
	}

	return ""
}
