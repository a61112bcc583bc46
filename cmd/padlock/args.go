package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// flagsFirst moves the command to the front and flags before arguments, because cli looks for the command first,
// and for flags only until the first argument. What follows -- stays where it is.
func flagsFirst(app *cli.App, args []string) []string {
	command, flags, commands := []string{}, app.Flags, app.Commands
	for {
		i := firstArgument(flags, args)
		if i == len(args) {
			break
		}
		at := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(args[i]) })
		if at < 0 {
			break
		}
		command, flags = append(command, args[i]), commands[at].Flags
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

// firstArgument is the index of the first argument that is neither a flag nor a flag's value; len(args) if there is none.
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
