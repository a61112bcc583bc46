package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"padlock/certs/localca"
	"padlock/certs/trust"
	"padlock/config"
)

func (p *program) trustCommand() *cli.Command {
	return &cli.Command{
		Name: "trust", Usage: "make the system and the browsers trust the local CA, and verify that they do", OnUsageError: onUsageError,
		Flags: []cli.Flag{
			storageFlag(), organizationFlag(),
			&cli.BoolFlag{Name: "print", Usage: "write the root in PEM to standard output instead", EnvVars: []string{"PADLOCK_PRINT"}},
			&cli.StringSliceFlag{Name: "allow", Usage: "make a root that may also sign for `NAME` and names below it", EnvVars: []string{"PADLOCK_ALLOW"}},
		},
		Action: func(c *cli.Context) error {
			ca, err := openCA(c)
			if err != nil {
				return err
			}
			if c.Bool("print") {
				_, err := p.stdout.Write(ca.RootPEM())
				return err
			}
			fmt.Fprintf(p.stdout, "local CA %s\nfingerprint (SHA-256) %s\n", ca.Root().Subject.CommonName, ca.Fingerprint())
			return p.eachStore(ca, true)
		},
	}
}

func (p *program) untrustCommand() *cli.Command {
	return &cli.Command{
		Name: "untrust", Usage: "take the local CA out of the trust stores again", OnUsageError: onUsageError,
		Flags: []cli.Flag{storageFlag(), organizationFlag()},
		Action: func(c *cli.Context) error {
			ca, err := openCA(c)
			if err != nil {
				return err
			}
			return p.eachStore(ca, false)
		},
	}
}

func openCA(c *cli.Context) (*localca.CA, error) {
	if c.NArg() > 0 {
		return nil, usageError{fmt.Errorf("unexpected argument %q", c.Args().First())}
	}
	cfg := config.Default()
	applyStorage(c, cfg)
	var allow []string
	for _, name := range c.StringSlice("allow") {
		canonical, ok := config.CanonicalHost(name)
		if !ok {
			return nil, usageError{fmt.Errorf("--allow %q is not a host name", name)}
		}
		allow = append(allow, canonical)
	}
	return localca.Open(cfg.StateDirectory(), localca.Options{Organization: cfg.Organization, Allow: allow})
}

// eachStore installs or removes, then reads every store back: what counts is what it holds afterwards.
func (p *program) eachStore(ca *localca.CA, install bool) error {
	wrong := 0
	for _, store := range trust.Stores(ca.Root()) {
		act := store.Remove
		if install {
			act = store.Install
		}
		failed := act()
		trusted, err := store.Trusted()
		if failed == nil {
			failed = err
		}
		state := "does not trust it"
		if trusted {
			state = "trusts it"
		}
		fmt.Fprintf(p.stdout, "%s: %s\n", store.Name(), state)
		if trusted != install {
			wrong++
			if failed != nil {
				fmt.Fprintf(p.stdout, "  %v\n", failed)
			}
			if hint := trust.Hint(failed); hint != "" {
				fmt.Fprintf(p.stdout, "  %s\n", hint)
			}
		}
	}
	if wrong > 0 {
		return hinted{fmt.Errorf("%d trust store(s) could not be changed", wrong), "each store above says what is missing; browsers need a restart afterwards"}
	}
	return nil
}
