package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/net/publicsuffix"

	"padlock/certs/localca"
	"padlock/certs/trust"
	"padlock/config"
	"padlock/handshake"
	"padlock/internal/hint"
	"padlock/internal/invoker"
	"padlock/internal/terminal"
)

func (p *program) trustCommand() *cli.Command {
	return &cli.Command{
		Name: "trust", Usage: "install the local CA in the trust stores of the system and the browsers", OnUsageError: onUsageError,
		UsageText: "padlock trust [flags]\n\nExamples:\n  padlock trust\n  padlock trust --print > root.pem\n" +
			"  eval \"$(padlock trust --env)\"",
		Description: "This command installs the root certificate of the local CA in the system's store and in the stores of Chromium, Firefox and Java, and reads each " +
			"store back. For the system's store, it runs sudo, which asks for your password. Restart open browsers afterwards. Run it as yourself: " +
			"with sudo, it uses the storage and the browsers of the user who ran sudo.\n\n" +
			"The local CA can sign only for local names and private addresses. padlock untrust removes it again.\n\n" +
			"The exit code is 0 if every store trusts the root, and 1 if one does not; the output says which, and what to do. " +
			"A Firefox that was never started has no store: start it once, then run padlock trust again.",
		Flags: []cli.Flag{
			storageFlag(), organizationFlag(),
			&cli.BoolFlag{Name: "print", Usage: "install nothing; print the root in PEM", EnvVars: []string{"PADLOCK_PRINT"}},
			&cli.BoolFlag{Name: "env", Usage: "install nothing; print shell variables with which Node.js, Python, curl, git and other programs trust the root", EnvVars: []string{"PADLOCK_TRUST_ENV"}},
			&cli.BoolFlag{Name: "java", Usage: "like --env, and also for Java: makes a copy of its truststore that has the root", EnvVars: []string{"PADLOCK_TRUST_JAVA"}},
			&cli.BoolFlag{Name: "renew", Usage: "replace the root with a new one, and remove the old one from the trust stores", EnvVars: []string{"PADLOCK_RENEW"}},
			&cli.StringSliceFlag{Name: "allow", Usage: "replace the root with one that can also sign for `NAME` and all names below it", EnvVars: []string{"PADLOCK_ALLOW"}},
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

			if c.Bool("env") || c.Bool("java") {
				return p.printVariables(c, ca)
			}

			// Installing inside a container would succeed, and help nobody.
			if engine := container(); engine != "" {
				return hint.Add(
					errors.New("this container has no browsers: those that shall trust the local CA are outside"),
					"on the host, run: "+printInside(engine)+" > padlock-ca.pem, and install that file there")

			}

			// Said first, as with sudo a person may expect root's storage and find another CA.
			p.sayInvoker(storageOf(c))
			fmt.Fprintf(p.stdout, "local CA %s\nfingerprint (SHA-256) %s\n", ca.Root().Subject.CommonName, ca.Fingerprint())
			if more := beyondLocal(ca); len(more) > 0 {
				fmt.Fprintf(p.stdout, "it may sign for %s too\n", strings.Join(more, ", "))
			}
			if ca.Outdated() {
				fmt.Fprintln(p.stdout, outdatedRoot)
			}

			return p.eachStore(ca, true, asRoot("trust", storageOf(c)))
		},
	}
}

// printVariables writes a line for each program with a store of its own, for a POSIX shell, or on Windows for
// PowerShell.
func (p *program) printVariables(c *cli.Context, ca *localca.CA) error {
	dir := filepath.Join(storageOf(c), "localca", "programs")
	variables, err := trust.Programs(ca.Root(), dir)
	// The variables that remain are still of use, so this is a remark and no failure.
	if errors.Is(err, trust.ErrNoSystemRoots) {
		terminal.Say(p.stderr, "%v", err)
		err = nil
	}

	if err != nil {
		return fmt.Errorf("writing the files for programs: %w", err)
	}

	if c.Bool("java") {
		java, err := trust.Java(ca.Root(), dir)
		if err != nil {
			return hint.Add(err, "install a JDK, or set JAVA_HOME to the one that your programs use")
		}
		variables = append(variables, java)
	}

	for _, v := range variables {
		line := "export " + v.Name + "=" + shellQuoted(v.Value)
		// PowerShell doubles a quote within quotes.
		if runtime.GOOS == "windows" {
			line = "$env:" + v.Name + " = '" + strings.ReplaceAll(v.Value, "'", "''") + "'"
		}
		fmt.Fprintf(p.stdout, "%s # %s\n", line, v.For)
	}

	return nil
}

func (p *program) untrustCommand() *cli.Command {
	return &cli.Command{
		Name: "untrust", Usage: "remove the local CA from the trust stores", OnUsageError: onUsageError,
		UsageText: "padlock untrust [flags]\n\nExamples:\n  padlock untrust\n  padlock untrust --storage /var/lib/padlock",
		Description: "This command removes the root certificate that padlock trust has installed from the stores of the system, Chromium, Firefox and Java, and checks " +
			"that it is gone. It keeps the CA itself: padlock trust installs the same root again. Files that you copied to other devices, and variables " +
			"of padlock trust --env, are yours to remove.\n\n" +
			"The exit code is 0 if no store has the root any more, and 1 if one does.",
		Flags: []cli.Flag{storageFlag(), organizationFlag()},
		Action: func(c *cli.Context) error {
			ca, err := openCA(c)
			if err != nil {
				return err
			}
			return p.eachStore(ca, false, asRoot("untrust", storageOf(c)))
		},
	}
}

// outdatedRoot is the hint for roots that earlier versions have made.
const outdatedRoot = "this root was made by an earlier padlock: a thief of its key could sign e-mail, code or a client's certificate too. padlock trust --renew replaces it"

// beyondLocal are the names that the user has allowed.
func beyondLocal(ca *localca.CA) []string {
	return slices.DeleteFunc(slices.Clone(ca.Root().PermittedDNSDomains), config.IsLocal)
}

func openCA(c *cli.Context) (*localca.CA, error) {
	if c.NArg() > 0 {
		return nil, usageError{fmt.Errorf("unexpected argument %q", c.Args().First())}
	}

	cfg := config.Default()
	applyStorage(c, cfg)

	var allow []string
	for _, name := range c.StringSlice("allow") {
		canonical, ok := config.WrittenHost(name)
		if !ok {
			return nil, usageError{fmt.Errorf("--allow %q is not a host name", name)}
		}
		// A root for all of .com or .co.uk would be able to impersonate everybody.
		if suffix, listed := publicsuffix.PublicSuffix(canonical); suffix == canonical && (listed || strings.Contains(suffix, ".")) {
			return nil, usageError{fmt.Errorf("--allow %s: everybody's names end so; a root that may sign for all of them would be anybody's", canonical)}
		}
		allow = append(allow, canonical)
	}

	o := localca.Options{Organization: cfg.Organization, Allow: allow}
	if !c.Bool("renew") {
		return localca.Open(cfg.StateDirectory(), o)
	}
	ca, former, err := localca.Renew(cfg.StateDirectory(), o)
	if err != nil || former == nil {
		return ca, err
	}

	// A name that was allowed once and is missing now would fail in browsers without an explanation.
	for _, name := range former.PermittedDNSDomains {
		if !ca.Permits(name) {
			terminal.Say(c.App.ErrWriter, "the new root does not sign for %s, for which the one before did; if it should: %s", handshake.Escape(name), terminal.Unbroken("padlock trust --allow "+handshake.Escape(name)))
		}
	}

	return ca, nil
}

// eachStore installs or removes, then reads every store back: what counts is what it holds afterwards. Roots that were
// replaced are taken out.
func (p *program) eachStore(ca *localca.CA, install bool, asRoot string) error {
	wrong := 0
	for _, store := range trust.Stores(ca.Root()) {
		act := store.Remove
		if install {
			act = store.Install
		}
		failed := p.change(store, act, install)
		// Read back: some tools report success and change nothing, and some the opposite.
		trusted, err := store.Trusted()
		if failed == nil {
			failed = err
		}

		// Nothing is wrong with a store that does not exist, and nothing is done either.
		if install && errors.Is(failed, trust.ErrNoProfile) {
			fmt.Fprintf(p.stdout, "%s: %v\n  %s\n", store.Name(), failed, trust.Hint(failed, asRoot))
			continue
		}

		state := "does not trust it"
		if trusted {
			state = "trusts it"
		}
		fmt.Fprintf(p.stdout, "%s: %s\n", store.Name(), state)
		if trusted != install {
			wrong++
			p.explain(failed, asRoot)
		}
	}

	// Roots that were replaced come after the new one, so that nothing is untrusted in between.
	left, err := p.removeFormer(ca, asRoot)
	if err != nil {
		return err
	}
	if wrong+left > 0 {
		return hint.Add(fmt.Errorf("%s could not be changed", plural(wrong+left, "trust store")), "each store above says what is missing; browsers need a restart afterwards")
	}
	if install {
		terminal.Say(p.stdout, "restart open browsers")
	}

	return nil
}

// change installs or removes, unless that is done already: then nobody is asked for a password.
func (p *program) change(store trust.Store, act func() error, install bool) error {
	if trust.NeedsSudo(store) {
		if trusted, err := store.Trusted(); err == nil && trusted == install {
			return nil
		}
		fmt.Fprintf(p.stdout, "%s: only root may write it, so sudo may ask for your password\n", store.Name())
	}
	return act()
}

// storageOf is the directory of the local CA that a command works with, as an absolute path.
func storageOf(c *cli.Context) string {
	cfg := config.Default()
	applyStorage(c, cfg)
	dir := cfg.StateDirectory()
	if absolute, err := filepath.Abs(dir); err == nil {
		return absolute
	}
	return dir
}

// asRoot is a command to paste that does with the same storage, and so with the same CA, what only root may do.
func asRoot(command, storage string) string {
	line := ownName(os.Args[0]) + " " + command + " --storage " + shellQuoted(storage)
	// Debian without sudo has su, which needs the command as one word.
	if _, err := exec.LookPath("sudo"); err != nil && os.Geteuid() != 0 {
		return "su -c " + shellQuoted(line)
	}
	return "sudo " + line
}

// ownName is the name that this program can be called by wherever the command is pasted: root may have another PATH.
func ownName(name string) string {
	if path, err := os.Executable(); err == nil {
		name = path
	}
	return shellQuoted(name)
}

// shellQuoted is a word of a POSIX shell.
func shellQuoted(word string) string {
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("/._-+:@,=", r))
	}) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// sayInvoker says, with sudo, whose storage is used, and that root's own is not.
func (p *program) sayInvoker(storage string) {
	user := invoker.Find()
	if user == nil || storage != config.Default().StateDirectory() {
		return
	}
	terminal.Say(p.stdout, "started by %s with sudo, so the storage is %s", user.Name, storage)
	own := invoker.RootsHome()
	if own == "" {
		return
	}
	own = filepath.Join(own, ".local", "share", "padlock")
	// Earlier runs as root may have left another CA there, which browsers may trust.
	if _, err := os.Stat(filepath.Join(own, "localca")); err == nil && own != storage {
		terminal.Say(p.stdout, "root has a storage too, with another local CA, which is not used; %s does", terminal.Unbroken("--storage "+shellQuoted(own)))
	}
}

func (p *program) explain(failed error, asRoot string) {
	if failed != nil {
		fmt.Fprintf(p.stdout, "  %v\n", failed)
	}
	if remedy := trust.Hint(failed, asRoot); remedy != "" {
		fmt.Fprintf(p.stdout, "  %s\n", remedy)
	}
}

// removeFormer takes the roots that were replaced out of every store, and counts those that could not be changed.
func (p *program) removeFormer(ca *localca.CA, asRoot string) (wrong int, err error) {
	var left []*x509.Certificate
	for _, former := range ca.Former() {
		still := false
		for _, store := range trust.Stores(former) {
			before, _ := store.Trusted()
			failed := store.Remove()
			trusted, err := store.Trusted()
			switch {
			// A store that cannot be read any more, and trusted the root before, most likely still does.
			case trusted || err != nil && before:
				still = true
				wrong++
				fmt.Fprintf(p.stdout, "%s: still trusts the former %s\n", store.Name(), former.Subject.CommonName)
				p.explain(errors.Join(failed, err), asRoot)
			case before:
				fmt.Fprintf(p.stdout, "%s: no longer trusts the former %s\n", store.Name(), former.Subject.CommonName)
			}
		}

		if still {
			// Kept on the list, so that the next run tries again.
			left = append(left, former)
		}
	}
	return wrong, ca.SetFormer(left)
}
