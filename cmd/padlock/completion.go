package main

import (
	"embed"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// completions ask padlock itself for candidates, so they know what the program that is installed knows.
//
//go:embed completion
var completions embed.FS

func (p *program) completionCommand() *cli.Command {
	return &cli.Command{
		Name: "completion", Usage: "print a completion script for a shell", OnUsageError: onUsageError,
		ArgsUsage: "bash|zsh|fish",
		UsageText: "source <(padlock completion bash)\nsource <(padlock completion zsh)\npadlock completion fish | source",
		Action: func(c *cli.Context) error {
			script, err := completions.ReadFile("completion/" + c.Args().First())
			if err != nil || c.NArg() != 1 {
				return usageError{fmt.Errorf("completion is for one of: bash, zsh, fish")}
			}
			_, err = p.stdout.Write(script)
			return err
		},
	}
}

// completeCommand is what the scripts call: with the words before the cursor after --, it prints a candidate a line,
// with what it is behind a tab, and last :files or :directories where those come into question too.
func (p *program) completeCommand() *cli.Command {
	return &cli.Command{
		Name: "__complete", Hidden: true, HideHelp: true, OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if c.NArg() == 0 {
				return usageError{fmt.Errorf("__complete is for shells: padlock completion bash|zsh|fish")}
			}

			found, more := complete(c.App, c.Args().Slice())
			var b strings.Builder
			for _, f := range found {
				fmt.Fprintf(&b, "%s\t%s\n", f.word, f.about)
			}

			if more != noFiles {
				b.WriteString(more + "\n")
			}

			_, err := p.stdout.Write([]byte(b.String()))
			return err
		},
	}
}
