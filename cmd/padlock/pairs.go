package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"padlock/config"
	"padlock/internal/hint"
)

// served is what arguments ask for: names, and the targets behind them; without targets, the built-in page.
type served struct {
	argument string // that asked for it, as it was given
	hosts    []string
	to       []config.Backend
	files    *config.Files // nil: to, or the built-in page
}

func sitesFlag() cli.Flag {
	return &cli.StringFlag{Name: "sites", Usage: "`ARGUMENTS` to use if there are none, separated by spaces: \"app.example.com=app:3000 api.example.com=api:9000\"", EnvVars: []string{"PADLOCK_SITES"}}
}

// quickSites reads the arguments of padlock: none, TARGET, or NAME=TARGET...
func quickSites(c *cli.Context) ([]served, error) {
	arguments := c.Args().Slice()
	if len(arguments) == 0 {
		arguments = strings.Fields(c.String("sites"))
	}

	local := []string{"localhost", "*.localhost", "127.0.0.1", "::1"}
	switch pairs := slices.ContainsFunc(arguments, isPair); {
	case pairs:
		return pairsOf(c, arguments)
	case len(arguments) > 1:
		return nil, usageError{fmt.Errorf("one target, not %d: %s; under names of their own: NAME=TARGET NAME=TARGET", len(arguments), strings.Join(arguments, " "))}
	case len(arguments) == 1:
		if folder := folderOf(c, arguments[0]); folder != nil {
			return []served{{argument: arguments[0], hosts: local, files: folder}}, nil
		}
		to, err := backend(c, arguments[0])
		return []served{{argument: arguments[0], hosts: local, to: to}}, err
	}

	// With Docker, names below localhost belong to containers.
	if c.Bool("docker") {
		local = []string{"localhost", "127.0.0.1", "::1"}
	}

	return []served{{hosts: local}}, nil
}

// isPair tells NAME=TARGET from a TARGET that happens to hold an equals sign.
func isPair(argument string) bool {
	name, _, found := strings.Cut(argument, "=")
	return found && !strings.HasPrefix(name, "unix:") && !strings.Contains(name, "://")
}

// pairsOf makes a site of each NAME. One that is given again, as it was, gets another target.
func pairsOf(c *cli.Context, arguments []string) (sites []served, err error) {
	for _, argument := range arguments {
		if !isPair(argument) {
			return nil, usageError{fmt.Errorf("%q has no name: beside NAME=TARGET, every argument is one", argument)}
		}

		name, target, _ := strings.Cut(argument, "=")
		if strings.Contains(name, "/") {
			return nil, hint.Add(usageError{fmt.Errorf("%s: %q has a path, and NAME takes none", argument, name)}, "targets by path go into a file: padlock run --config padlock.yaml")
		}
		folder := folderOf(c, target)
		var to []config.Backend
		var err error
		if folder == nil {
			to, err = backend(c, target)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", argument, err)
		}

		hosts := canonicalHosts(name)
		if at := slices.IndexFunc(sites, func(s served) bool { return slices.Equal(s.hosts, hosts) }); at >= 0 {
			if folder != nil || sites[at].files != nil {
				return nil, usageError{fmt.Errorf("%s: %s already stands in %s, and a folder has no second target", argument, name, sites[at].argument)}
			}
			sites[at].to = append(sites[at].to, to...)
			continue
		}

		for _, host := range hosts {
			if at := slices.IndexFunc(sites, func(s served) bool { return slices.Contains(s.hosts, host) }); at >= 0 {
				return nil, usageError{fmt.Errorf("%s: %s already stands in %s", argument, host, sites[at].argument)}
			}
		}

		sites = append(sites, served{argument: argument, hosts: hosts, to: to, files: folder})
	}
	return sites, nil
}

// canonicalHosts takes names between commas apart. What is no name stays as it is, for the validation to name.
func canonicalHosts(names string) []string {
	hosts := strings.Split(names, ",")
	for i, host := range hosts {
		if canonical, ok := config.WrittenHost(host); ok {
			hosts[i] = canonical
		}
	}
	return hosts
}

// folderOf is a target that is a path, as ./public is; nil: it is none. That there is such a directory is checked with
// the rest.
func folderOf(c *cli.Context, target string) *config.Files {
	if target != "." && target != ".." && !strings.HasPrefix(target, "/") && !strings.HasPrefix(target, "./") && !strings.HasPrefix(target, "../") {
		return nil
	}
	return &config.Files{Root: target, SPA: c.Bool("spa"), Listing: true}
}

// backend parses a target.
func backend(c *cli.Context, target string) ([]config.Backend, error) {
	parsed, err := config.ParseTarget(target)
	if err != nil {
		return nil, usageError{fmt.Errorf("TARGET %w", err)}
	}
	return []config.Backend{{Target: parsed}}, nil
}

// namingArguments puts the argument where a validation error names a site.
func namingArguments(err error, sites []served) error {
	var wrong config.Errors
	if !errors.As(err, &wrong) {
		return err
	}
	named := slices.Clone(wrong)
	for i, e := range named {
		var at int
		if n, _ := fmt.Sscanf(e.Path, "sites[%d]", &at); n == 1 && sites[at].argument != "" {
			named[i].Path = sites[at].argument
		}
	}
	return named
}
