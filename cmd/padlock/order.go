package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"padlock/certs/acme"
	"padlock/config"
	"padlock/daemon"
	"padlock/handshake"
	"padlock/internal/hint"
	"padlock/internal/mask"
)

// acmeFlags say which CA is asked, and how.
func acmeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "email", Usage: "e-mail `ADDRESS` for notices of the CA about certificates of public names", EnvVars: []string{"PADLOCK_EMAIL"}},
		&cli.BoolFlag{Name: "staging", Usage: "use the CA's test CA, whose rate limits are generous and which browsers do not trust", EnvVars: []string{"PADLOCK_STAGING"}},
		&cli.StringFlag{Name: "acme", Usage: "`URL` of another CA's ACME directory (default: Let's Encrypt)", EnvVars: []string{"PADLOCK_ACME"}},
		&cli.StringFlag{Name: "acme-root", Usage: "PEM `FILE` with the root certificate of the ACME server itself", EnvVars: []string{"PADLOCK_ACME_ROOT"}},
		choice("acme-client", "certmagic", "ACME client", "certmagic", "autocert"),
		choiceFlag{&cli.StringFlag{Name: "dns", Usage: "DNS `PROVIDER` for DNS-01, which wildcards require; its settings are environment variables, as lego documents them", EnvVars: []string{"PADLOCK_DNS"}}, config.DNSProviders},
	}
}

func (p *program) obtainCommand() *cli.Command {
	return &cli.Command{
		Name: "obtain", Usage: "order certificates now and show each stage of the order",
		UsageText: "padlock certs obtain NAME...\n\nThe running padlock with the same storage answers the challenges of the CA. If none runs, this command answers them on ports 80 and 443.\nThe exit code is 0 if every name has a certificate, 1 if not; the reason is printed.\n\nExamples:\n  padlock certs obtain app.example.com --email ops@example.com\n  padlock certs obtain --config padlock.yaml app.example.com", OnUsageError: onUsageError,
		Flags: slices.Concat(storeFlags(), acmeFlags()),
		Action: func(c *cli.Context) error {
			names, err := canonicalNames(c)
			if err != nil {
				return err
			}
			if len(names) == 0 {
				return usageError{errors.New("obtain needs at least one NAME")}
			}

			return p.order(c, names, func(ctx context.Context, client *acme.Client, name string) error {
				bundle, err := client.Load(ctx, name)
				if err == nil && time.Now().Before(bundle.Pairs[0].Renewal) {
					fmt.Fprintf(p.stdout, "%s: has a certificate until %s already; padlock certs renew --force replaces it\n", name, when(&bundle.Pairs[0].Leaf.NotAfter))
					return nil
				}
				return p.ensure(ctx, client, name)
			})
		},
	}
}

func (p *program) renewCommand() *cli.Command {
	return &cli.Command{
		Name: "renew", Usage: "renew certificates that are due, or with --force the given ones", UsageText: "padlock certs renew [--force] [NAME...]\n\nWithout NAME, this command checks every certificate from a CA in the storage.\nThe exit code is 0 if no certificate is due any more, 1 if a renewal failed; the reason is printed.\n\nExamples:\n  padlock certs renew\n  padlock certs renew --force app.example.com", OnUsageError: onUsageError,
		Flags: slices.Concat(storeFlags(), acmeFlags(), []cli.Flag{
			&cli.BoolFlag{Name: "force", Usage: "also replace certificates that are not due; CAs limit how often", EnvVars: []string{"PADLOCK_FORCE"}},
		}),
		Action: func(c *cli.Context) error {
			names, err := canonicalNames(c)
			if err != nil {
				return err
			}
			if len(names) == 0 && c.Bool("force") {
				return usageError{errors.New("renew --force needs the NAMEs, as CAs limit how many certificates they give")}
			}

			force := c.Bool("force")
			return p.order(c, names, func(ctx context.Context, client *acme.Client, name string) error {
				bundle, err := client.Load(ctx, name)
				switch {
				case errors.Is(err, fs.ErrNotExist):
					return hint.Add(fmt.Errorf("%s has no certificate to renew", name), "padlock certs obtain "+name)
				case err != nil:
					return err
				case !force && time.Now().Before(bundle.Pairs[0].Renewal):
					fmt.Fprintf(p.stdout, "%s: not due before %s; --force renews it now\n", name, when(&bundle.Pairs[0].Renewal))
					return nil
				case force:
					if err := client.Renew(ctx, name); err != nil {
						return err
					}
				}
				return p.ensure(ctx, client, name)
			})
		},
	}
}

// ensure orders what is missing or due, and says what there is then.
func (p *program) ensure(ctx context.Context, client *acme.Client, name string) error {
	bundle, err := client.Ensure(ctx, name, nil)
	if err != nil {
		return err
	}
	for _, pair := range bundle.Pairs {
		d := handshake.DescribeCertificate(pair.Certificate.Certificate, name, time.Now())
		fmt.Fprintf(p.stdout, "%s: %s certificate by %s, valid until %s\n", name, d.KeyType, d.Issuer, when(&d.NotAfter))
	}
	return nil
}

// order runs one job for each name, a few at a time; no names: all that came from a CA.
func (p *program) order(c *cli.Context, names []string, job func(context.Context, *acme.Client, string) error) error {
	k, err := p.openStorage(c, names...)
	if err != nil {
		return err
	}
	defer k.close()
	if k.cfg.Certificates.Client == "autocert" {
		return hint.Add(usageError{errors.New("client autocert orders, renews and forgets by itself, and only while padlock runs")}, "use client certmagic, whose certificates this command looks after")
	}

	// Before the first order, which may use up a limit of the CA.
	for _, name := range names {
		if reason := k.cfg.Certificates.Unobtainable(name); reason != "" {
			return usageError{fmt.Errorf("%s: %s", name, reason)}
		}
	}

	if len(names) == 0 {
		if names, err = k.issued(c.Context); err != nil {
			return err
		}
	}

	client, err := daemon.NewACME(acme.Options{
		Config: k.cfg.Certificates, Store: k.store, Log: k.log, HTTP: first(k.cfg.Listen.HTTP), HTTPS: first(k.cfg.Listen.HTTPS),
	})
	if err != nil {
		return err
	}
	defer client.Close()
	failed := p.each(c.Context, names, func(ctx context.Context, name string) error {
		return job(ctx, client, name)
	})
	if c.Context.Err() != nil {
		return errors.New("interrupted")
	}
	if failed > 0 {
		return hint.Add(fmt.Errorf("%d of %d name(s) failed", failed, len(names)), "the lines above say why; padlock doctor NAME looks at ports and DNS")
	}

	return nil
}

func (p *program) each(ctx context.Context, names []string, job func(context.Context, string) error) (failed int) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	// Orders mostly wait for the CA, so that a few at once take hardly longer than one.
	slots := make(chan struct{}, 8)
	for _, name := range names {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			// Jobs that an interrupt has ended are no failures.
			if err := job(ctx, name); err != nil && ctx.Err() == nil {
				mu.Lock()
				defer mu.Unlock()
				failed++
				fmt.Fprintf(p.stderr, "✗ %v\n", err)
			}
		})
	}

	wg.Wait()
	return failed
}

func first(addresses []string) string {
	if len(addresses) == 0 {
		return ""
	}
	return addresses[0]
}

// issued are the names that certmagic has certificates for.
func (k *opened) issued(ctx context.Context) ([]string, error) {
	stored, err := acme.List(ctx, k.store, "", k.cfg.Certificates.RenewRatio)
	var names []string
	for _, s := range stored {
		names = append(names, s.Name)
	}
	return slices.Compact(names), err // sorted
}

// revocations are the reasons that a certificate's owner may give (RFC 5280 section 5.3.1).
var revocations = map[string]int{"unspecified": 0, "key-compromise": 1, "affiliation-changed": 3, "superseded": 4, "cessation-of-operation": 5}

func (p *program) revokeCommand() *cli.Command {
	reasons := []string{"key-compromise", "superseded", "cessation-of-operation", "affiliation-changed", "unspecified"}
	listed := strings.Join(reasons, ", ")
	return &cli.Command{
		Name: "revoke", Usage: "have the CA revoke certificates and stop using them; a running padlock orders new ones", UsageText: "padlock certs revoke --reason REASON NAME...\n\nREASON is one of: " + listed + ".\n\nExamples:\n  padlock certs revoke --reason key-compromise app.example.com", OnUsageError: onUsageError,
		Flags: slices.Concat(storeFlags(), acmeFlags(), []cli.Flag{
			choice("reason", "", "`REASON`", reasons...),
		}),
		Action: func(c *cli.Context) error {
			names, err := canonicalNames(c)
			if err != nil {
				return err
			}

			reason, known := revocations[c.String("reason")]
			if !known || len(names) == 0 {
				return usageError{errors.New("revoke needs at least one NAME and --reason: " + listed)}
			}
			return p.order(c, names, func(ctx context.Context, client *acme.Client, name string) error {
				if err := client.Revoke(ctx, name, reason); err != nil {
					return err
				}
				fmt.Fprintf(p.stdout, "%s: revoked, and set aside\n", name)
				return nil
			})
		},
	}
}

// progress is a slog.Handler that shows the stages of orders as they come, to a person who waits.
type progress struct {
	mu *sync.Mutex
	w  io.Writer
}

func newProgress(w io.Writer) slog.Handler { return &progress{&sync.Mutex{}, w} }

func (h *progress) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

func (h *progress) WithAttrs([]slog.Attr) slog.Handler { return h }

func (h *progress) WithGroup(string) slog.Handler { return h }

func (h *progress) Handle(_ context.Context, r slog.Record) error {
	var name, stage, elapsed string
	var rest []string
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "name":
			name = a.Value.String()
		case "stage":
			stage = a.Value.String()
		case "elapsed":
			elapsed = a.Value.String()
		default:
			rest = append(rest, a.Key+" "+mask.Text(a.Value.String()))
		}
		return true
	})
	text := r.Message
	if stage != "" {
		text = stage
	}
	if len(rest) > 0 {
		text += " (" + strings.Join(rest, ", ") + ")"
	}
	if name != "" {
		text = name + ": " + text
	}

	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := fmt.Fprintf(h.w, "%s %8s  %s\n", levelMark(r.Level), elapsed, handshake.Escape(text))
	return err
}

func levelMark(level slog.Level) string {
	if level >= slog.LevelWarn {
		return "!"
	}
	return "·"
}
