package main

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"padlock/handshake"
	"padlock/handshake/probe"
	"padlock/internal/hint"
	"padlock/internal/pemfile"
	"padlock/internal/terminal"
)

func (p *program) probeCommand() *cli.Command {
	return &cli.Command{
		Name: "probe", Usage: "connect to a server, show the handshake, and check what a browser would check",
		UsageText: "padlock probe HOST[:PORT]\n\nThe exit code is 0 if a browser would accept the certificate, 1 if not.\n\nExamples:\n  padlock probe example.com\n  padlock probe 127.0.0.1:8443 --name shop.test --ca root.pem", OnUsageError: onUsageError,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "name", Usage: "server `NAME` to request (SNI), instead of HOST", EnvVars: []string{"PADLOCK_NAME"}},
			&cli.StringFlag{Name: "ca", Usage: "PEM `FILE` with the CAs to trust, instead of the system's", EnvVars: []string{"PADLOCK_CA"}},
			&cli.BoolFlag{Name: "json", Usage: "print the report as JSON", EnvVars: []string{"PADLOCK_JSON"}},
			&cli.DurationFlag{Name: "timeout", Value: 10 * time.Second, Usage: "timeout of each connection", EnvVars: []string{"PADLOCK_TIMEOUT"}},
		},
		Action: p.probe,
	}
}

func (p *program) probe(c *cli.Context) error {
	if c.NArg() != 1 {
		return usageError{fmt.Errorf("probe needs one HOST or HOST:PORT")}
	}

	roots, err := probeRoots(c)
	if err != nil {
		return err
	}
	// People paste addresses from a browser's address bar.
	report, err := probe.Run(c.Context, strings.TrimPrefix(strings.TrimSuffix(c.Args().First(), "/"), "https://"), probe.Options{
		ServerName: c.String("name"), Roots: roots, Timeout: c.Duration("timeout"),
	})
	if err != nil {
		return usageError{err}
	}

	if c.Bool("json") {
		err = p.reportJSON(report)
	} else {
		err = p.reportText(report)
	}

	if err == nil && !report.OK() {
		err = hint.Add(fmt.Errorf("a browser would not show its padlock for %s", report.Name), probeRemedy(report))
	}

	return err
}

// probeRemedy is what to do about a server that fails a check.
func probeRemedy(r *probe.Report) string {
	if r.Untrusted {
		return "for a padlock of this machine, run padlock trust; for another private CA, name its root: padlock probe --ca FILE; a public server may lack intermediate certificates"
	}
	return "the lines marked ✗ say why; padlock explain \"TEXT\" explains an error text"
}

// probeRoots are the given CAs; nil for the system's.
func probeRoots(c *cli.Context) (*x509.CertPool, error) {
	if !c.IsSet("ca") {
		return nil, nil
	}
	roots, err := pemfile.LoadPool(c.String("ca"))
	if err != nil {
		return nil, fmt.Errorf("reading the CAs: %w", err)
	}
	return roots, nil
}

func (p *program) reportText(r *probe.Report) error {
	if r.Handshake != nil {
		handshake.NewStory(p.stdout, terminal.Story(p.stdout)).Handshake(r.Handshake)
	}
	for _, check := range r.Checks {
		if _, err := fmt.Fprintf(p.stdout, "%s %-13s %s\n", mark(check.Grade), check.Name, check.Detail); err != nil {
			return err
		}
	}
	return nil
}

func mark(grade probe.Grade) string {
	switch grade {
	case probe.Good:
		return "✓"
	case probe.Bad:
		return "✗"
	}
	return "·"
}

func (p *program) reportJSON(r *probe.Report) error {
	type check struct {
		Name   string `json:"name"`
		Grade  string `json:"grade"`
		Detail string `json:"detail"`
	}
	report := struct {
		Schema    int             `json:"schema"`
		Address   string          `json:"address"`
		Name      string          `json:"name"`
		OK        bool            `json:"ok"`
		Checks    []check         `json:"checks"`
		Handshake json.RawMessage `json:"handshake,omitempty"`
	}{1, r.Address, r.Name, r.OK(), []check{}, nil}
	for _, c := range r.Checks {
		report.Checks = append(report.Checks, check{c.Name, string(c.Grade), c.Detail})
	}

	if r.Handshake != nil {
		report.Handshake = handshake.AppendJSON(nil, r.Handshake)
	}
	return json.NewEncoder(p.stdout).Encode(report)
}

func (p *program) explainCommand() *cli.Command {
	return &cli.Command{
		Name: "explain", Usage: "explain a TLS error message or alert, and what to do",
		UsageText: "padlock explain \"TEXT\"\n\nTEXT is an error message of curl, wget, git, OpenSSL, GnuTLS, Go, Node.js, Java, Android, Python, .NET, Windows, Apple's systems, Chrome or Firefox,\nor the name or number of an alert.\n\nExamples:\n  padlock explain \"SEC_ERROR_UNKNOWN_ISSUER\"\n  padlock explain 48", OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			text := strings.Join(c.Args().Slice(), " ")
			if text == "" {
				return usageError{fmt.Errorf("explain needs the text of an error")}
			}

			e, ok := handshake.Explain(text)
			if !ok {
				return hint.Add(fmt.Errorf("no known error is in that text, so padlock does not know what it means"), "padlock's own story of the handshake says more: padlock watch --outcome failures, or padlock probe HOST")
			}
			_, err := fmt.Fprintf(p.stdout, "%s\n\n%s\n\nWhat to do: %s\n", e.Title, e.Meaning, e.Remedy)
			return err
		},
	}
}
