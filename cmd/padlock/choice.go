package main

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// choiceFlag takes one of a few words, which shells complete.
type choiceFlag struct {
	*cli.StringFlag
	choices []string
}

// choice is a flag whose help ends with its words. The first part of the help may name the value, as in other flags.
func choice(name, value, usage string, choices ...string) cli.Flag {
	last := len(choices) - 1
	return choiceFlag{&cli.StringFlag{
		Name: name, Value: value, Usage: usage + ": " + strings.Join(choices[:last], ", ") + " or " + choices[last], EnvVars: []string{variable(name)},
	}, choices}
}

// variable stands for a flag in the environment.
func variable(flag string) string {
	return "PADLOCK_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}
