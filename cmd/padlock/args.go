package main

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// flagsFirst moves flags in front of arguments, because cli stops looking for flags at the first argument.
// What follows -- stays where it is.
func flagsFirst(app *cli.App, args []string) []string {
	command, flags := []string{}, app.Flags
	if len(args) > 0 {
		for _, c := range app.Commands {
			if c.HasName(args[0]) {
				command, flags, args = args[:1:1], c.Flags, args[1:]
				break
			}
		}
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
