package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"padlock/certs"
	"padlock/certs/acme"
	"padlock/certs/storage"
	"padlock/config"
	"padlock/daemon"
	"padlock/handshake"
	"padlock/internal/hint"
)

func (p *program) certsCommand() *cli.Command {
	return &cli.Command{
		Name: "certs", Usage: "manage certificates: list, inspect, obtain, renew, revoke, csr, import, export, encrypt, remove", OnUsageError: onUsageError, HideHelpCommand: true,
		Description: "These commands use the storage of --config or --storage. A running padlock with the same storage notices changes.",
		Subcommands: []*cli.Command{
			p.listCommand(), p.inspectCommand(), p.obtainCommand(), p.renewCommand(), p.revokeCommand(),
			p.csrCommand(), p.importCommand(), p.exportCommand(), p.encryptCommand(), p.removeCommand(),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return hint.Add(usageError{fmt.Errorf("certs has no command %q", c.Args().First())}, "padlock certs --help shows them")
			}
			return cli.ShowSubcommandHelp(c)
		},
	}
}

// storeFlags say which storage a command works on.
func storeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "config", Usage: "configuration `FILE` that names the storage and the CAs, as for padlock run", EnvVars: []string{"PADLOCK_CONFIG"}},
		storageFlag(), storageKeyFlag(),
	}
}

// certsConfig is the file's configuration, or the one that flags make. Names are for what is ordered.
func (p *program) certsConfig(c *cli.Context, names ...string) (*config.Config, error) {
	if file := c.String("config"); file != "" {
		for _, flag := range []string{"storage", "storage-key", "email", "acme", "acme-root", "acme-client", "staging", "dns"} {
			if slices.Contains(c.LocalFlagNames(), flag) {
				return nil, usageError{fmt.Errorf("--%s stands in the file that --config names", flag)}
			}
		}
		return p.loadFile(file)
	}

	cfg := config.Default()
	applyStorage(c, cfg)
	applyACME(c, cfg)
	if len(names) == 0 {
		names = []string{"localhost"}
	}
	cfg.Listen.HTTPS, cfg.Listen.HTTP = []string{":443"}, []string{":80"}
	cfg.Sites = []config.Site{{Hosts: names}}
	if err := cfg.Validate(); err != nil {
		err = namingFlags(err)
		return nil, usageError{errors.New(strings.ReplaceAll(err.Error(), flagName("from"), "NAME"))}
	}

	return cfg, nil
}

// opened is the storage that a command works on.
type opened struct {
	cfg   *config.Config
	store storage.Store
	log   *slog.Logger
}

// openStorage opens the storage of a command; the caller closes it.
func (p *program) openStorage(c *cli.Context, names ...string) (*opened, error) {
	cfg, err := p.certsConfig(c, names...)
	if err != nil {
		return nil, err
	}
	o := &opened{cfg: cfg, log: slog.New(newProgress(p.stderr))}
	if o.store, err = daemon.OpenStore(c.Context, cfg, o.log); err != nil {
		return nil, err
	}

	// certs encrypt is what mends a storage that does not agree with its key.
	if err := daemon.CheckStore(c.Context, cfg, o.store); err != nil && c.Command.Name != encryptName {
		o.close()
		return nil, err
	}

	return o, nil
}

func (o *opened) close() {
	if err := o.store.Close(); err != nil {
		o.log.Warn("closing the storage", "error", err)
	}
}

// canonicalNames are a command's arguments.
func canonicalNames(c *cli.Context) ([]string, error) {
	var names []string
	for _, name := range c.Args().Slice() {
		canonical, ok := config.WrittenHost(strings.TrimPrefix(name, "*."))
		if !ok {
			return nil, usageError{fmt.Errorf("%q is not a host name", name)}
		}
		if strings.HasPrefix(name, "*.") {
			canonical = "*." + canonical
		}
		names = append(names, canonical)
	}
	return names, nil
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print JSON", EnvVars: []string{"PADLOCK_JSON"}}
}

func (p *program) listCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "list certificates: names, issuer, expiry, next renewal, last error", UsageText: "padlock certs list [--json] [NAME...]\n\nThe exit code is 1 if a certificate has expired or is unusable.\n\nExamples:\n  padlock certs list\n  padlock certs list --config padlock.yaml app.example.com", OnUsageError: onUsageError,
		Flags: append(storeFlags(), jsonFlag(), adminFlag("`ADDR` of the running padlock's admin endpoint, which knows of errors (default: the socket in the storage directory)")),
		Action: func(c *cli.Context) error {
			names, err := canonicalNames(c)
			if err != nil {
				return err
			}

			k, err := p.openStorage(c)
			if err != nil {
				return err
			}
			defer k.close()
			if c.IsSet("admin") {
				k.cfg.Admin.Address = c.String("admin")
			}

			rows, err := k.rows(c.Context)
			if err != nil {
				return err
			}
			if len(names) > 0 {
				rows = slices.DeleteFunc(rows, func(r row) bool { return !slices.Contains(names, r.Name) })
			}

			if c.Bool("json") {
				err = json.NewEncoder(p.stdout).Encode(rows)
			} else {
				err = table(p.stdout, rows)
			}

			bad := 0
			for _, r := range rows {
				if r.unusable() {
					bad++
				}
			}

			if err == nil && bad > 0 {
				err = hint.Add(fmt.Errorf("%d certificate(s) have expired or cannot be used", bad), "padlock certs renew --force NAME orders one anew, and shows what stands in the way")
			}

			return err
		},
	}
}

// row is one certificate of a list. Its JSON names are stable.
type row struct {
	Name        string     `json:"name"`
	Source      string     `json:"source"` // acme | imported | file
	KeyType     string     `json:"key_type,omitempty"`
	Issuer      string     `json:"issuer,omitempty"`
	NotBefore   *time.Time `json:"not_before,omitempty"`
	NotAfter    *time.Time `json:"not_after,omitempty"`
	Renewal     *time.Time `json:"renewal,omitempty"` // when it is due; none for what padlock does not renew
	Fingerprint string     `json:"fingerprint_sha256,omitempty"`
	Error       string     `json:"error,omitempty"` // of the last look
	NextTry     *time.Time `json:"next_try,omitempty"`
}

func (r *row) unusable() bool { return r.NotAfter == nil || time.Now().After(*r.NotAfter) }

// rows are what the storage and the files hold, with what a running padlock knows besides.
func (k *opened) rows(ctx context.Context) ([]row, error) {
	stored, err := acme.List(ctx, k.store, "", k.cfg.Certificates.RenewRatio)
	if err != nil {
		return nil, err
	}

	rows := []row{}
	for _, s := range stored {
		r := row{Name: s.Name, Source: "acme"}
		if s.Err != nil {
			r.Error = handshake.Escape(s.Err.Error())
		} else {
			r.certificate(s.Pair.Certificate.Certificate)
			r.Renewal = &s.Pair.Renewal
		}
		rows = append(rows, r)
	}

	imported, err := certs.ListImported(ctx, k.store)
	if err != nil {
		k.log.Warn("an imported certificate cannot be used", "error", err)
	}

	for _, i := range imported {
		rows = append(rows, named("imported", i.Pair.Certificate)...)
	}

	files, err := certs.NewFiles(k.cfg.Certificates.Files, k.log)
	if err != nil {
		return nil, err
	}

	for _, pair := range files.Pairs() {
		rows = append(rows, named("file", pair.Certificate)...)
	}

	rows = k.reported(ctx, rows)
	slices.SortStableFunc(rows, func(a, b row) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.KeyType, b.KeyType)) })
	return rows, nil
}

// named is a row for each name of a certificate.
func named(source string, chain [][]byte) (rows []row) {
	described := handshake.DescribeCertificate(chain, "", time.Now())
	if described == nil {
		return nil
	}
	for _, name := range described.Names {
		r := row{Name: name, Source: source}
		r.certificate(chain)
		rows = append(rows, r)
	}
	return rows
}

func (r *row) certificate(chain [][]byte) {
	d := handshake.DescribeCertificate(chain, "", time.Now())
	if d == nil {
		return
	}
	// As certificates.key_types has it.
	kind := strings.ToLower(strings.NewReplacer("ECDSA ", "", "-", "", " ", "").Replace(d.KeyType))
	r.KeyType, r.Issuer, r.NotBefore, r.NotAfter, r.Fingerprint = kind, d.Issuer, &d.NotBefore, &d.NotAfter, fingerprint(chain[0])
}

// reported adds what a padlock reports that runs on this storage: errors, dates that its CA has moved, names without a
// certificate.
func (k *opened) reported(ctx context.Context, rows []row) []row {
	// The list is complete without this, so that a padlock which hangs holds it up for a moment only.
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	response, err := adminGet(ctx, k.cfg, "/certificates")
	if err != nil {
		// No padlock answers, so the list stays what the storage and the files say.
		return rows
	}
	defer response.Body.Close()
	var known []certs.Status
	if response.StatusCode != http.StatusOK || json.NewDecoder(io.LimitReader(response.Body, 64<<20)).Decode(&known) != nil {
		return rows
	}

	for _, s := range known {
		if s.Source != "acme" {
			continue
		}

		i := slices.IndexFunc(rows, func(r row) bool {
			return r.Name == s.Name && r.Source == "acme" && (r.KeyType == s.KeyType || s.KeyType == "")
		})
		// A name whose first order failed has nothing in the storage, and is the one that matters most.
		if i < 0 {
			rows = append(rows, row{Name: s.Name, Source: "acme"})
			i = len(rows) - 1
		}

		rows[i].Error, rows[i].NextTry = cmp.Or(s.Error, rows[i].Error), s.NextTry
		if s.Renewal != nil {
			rows[i].Renewal = s.Renewal
		}
	}

	return rows
}

func table(out io.Writer, rows []row) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(out, "No certificate is kept here. The local CA makes those of local names when they are needed.")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tKEY\tISSUER\tEXPIRES\tNEXT RENEWAL\tSTATE")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", handshake.Escape(r.Name), dash(r.KeyType), dash(r.Issuer), when(r.NotAfter), when(r.Renewal), r.state())
	}
	return w.Flush()
}

func (r *row) state() string {
	state := "ok"
	switch now := time.Now(); {
	case r.NotAfter == nil:
		state = "none"
	case now.After(*r.NotAfter):
		state = "expired"
	case now.Before(*r.NotBefore):
		state = "not valid yet"
	case r.Renewal != nil && now.After(*r.Renewal):
		state = "renewal due"
	}

	if r.Source != "acme" {
		state += " (" + r.Source + ")"
	}
	if r.NextTry != nil {
		state += ", next try " + when(r.NextTry)
	}
	if r.Error != "" {
		state += ": " + r.Error
	}

	return state
}

func dash(s string) string { return cmp.Or(s, "-") }

// when is a date with the time until it, or since.
func when(t *time.Time) string {
	if t == nil {
		return "-"
	}
	date, left := t.UTC().Format(time.DateOnly), time.Until(*t)
	if left < 0 {
		return date + " (" + span(-left) + " ago)"
	}
	return date + " (in " + span(left) + ")"
}

func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	}
	return fmt.Sprintf("%d s", int(d.Seconds()))
}

func (p *program) removeCommand() *cli.Command {
	return &cli.Command{
		Name: "remove", Usage: "remove the certificates of a name from the storage, including imported ones", UsageText: "padlock certs remove NAME...\n\nExamples:\n  padlock certs remove app.example.com", OnUsageError: onUsageError,
		Flags: storeFlags(),
		Action: func(c *cli.Context) error {
			names, err := canonicalNames(c)
			if err != nil {
				return err
			}
			if len(names) == 0 {
				return usageError{errors.New("remove needs at least one NAME")}
			}

			k, err := p.openStorage(c)
			if err != nil {
				return err
			}
			defer k.close()

			for _, name := range names {
				if err := p.remove(c.Context, k.store, name); err != nil {
					return err
				}
			}

			return nil
		},
	}
}

func (p *program) remove(ctx context.Context, store storage.Store, name string) error {
	stored, err := acme.List(ctx, store, name, 0)
	if err != nil {
		return err
	}
	found := len(stored)

	for _, s := range stored {
		if err := s.Remove(ctx, store); err != nil {
			return err
		}
	}

	// A damaged entry names nobody, so it cannot be listed.
	imported, _ := certs.ListImported(ctx, store)
	for _, i := range imported {
		if d := handshake.DescribeCertificate(i.Pair.Certificate, "", time.Now()); d != nil && slices.Contains(d.Names, name) {
			if err := store.Delete(ctx, i.Key); err != nil {
				return err
			}
			found++
		}
	}

	if found == 0 {
		return hint.Add(fmt.Errorf("%s has no certificate in %s", name, store), "padlock certs list shows those that are there")
	}

	_, err = fmt.Fprintf(p.stdout, "%s: %d certificate(s) removed from %s\n", name, found, store)
	return err
}
