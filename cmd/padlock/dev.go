package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/urfave/cli/v2"

	"padlock/certs/localca"
	"padlock/certs/trust"
	"padlock/config"
	"padlock/dev"
	"padlock/dev/launch"
	"padlock/internal/hint"
	"padlock/internal/mask"
	"padlock/internal/terminal"
	"padlock/proxy"
)

const devUsage = `padlock dev [flags] COMMAND [ARGUMENT...]
padlock dev [flags] PORT
padlock dev [flags] DIRECTORY
padlock dev [flags]

Examples:
  padlock dev npm run dev           # https://shop.localhost
  padlock dev --name api go run .   # https://api.localhost
  padlock dev 8080                  # an app that listens already
  padlock dev ./dist                # a folder of files
  padlock dev                       # the apps of padlock.dev.yaml or a Procfile,
                                    # or the script dev of package.json`

const devDescription = `One proxy in the background serves all apps of a user. The first command starts it, and it ends after the last one.
The app gets a free port in PORT (and the flag for it, if its framework ignores PORT; {port} in the command stands for it, too). If the app
listens elsewhere all the same, padlock finds where. PADLOCK_URL is the app's own URL, PADLOCK_URL_NAME that of another app, and the variables
of padlock trust --env let the app's own requests trust the local CA. PADLOCK_DEV=0 runs the command without padlock.`

func (p *program) devCommand() *cli.Command {
	return &cli.Command{
		Name: "dev", Usage: "serve the app that a command starts at https://NAME.localhost", UsageText: devUsage, Description: devDescription,
		OnUsageError: p.devUsageError, HideHelpCommand: true,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "name", Usage: "`NAME` of the app, which is served at NAME.localhost (default: from package.json, go.mod and others, else the directory's)", EnvVars: []string{"PADLOCK_DEV_NAME"}},
			&cli.StringSliceFlag{Name: "domain", Usage: "another `HOST` for the app, such as shop.test; see padlock hosts", EnvVars: []string{"PADLOCK_DEV_DOMAIN"}},
			&cli.BoolFlag{Name: "wildcard", Usage: "also serve all names below the app's", EnvVars: []string{"PADLOCK_DEV_WILDCARD"}},
			&cli.IntFlag{Name: "port", Usage: "`PORT` for the app (default: a free one from 4000 to 4999)", EnvVars: []string{"PADLOCK_DEV_PORT"}},
			&cli.StringFlag{Name: "host-header", Usage: "Host header that the app receives: keep, upstream or a `NAME`", Value: "keep", EnvVars: []string{"PADLOCK_DEV_HOST_HEADER"}},
			&cli.BoolFlag{Name: "inspect", Value: true, Usage: "remember the latest requests with their content, for padlock console and padlock watch --requests; --inspect=false turns it off", EnvVars: []string{"PADLOCK_INSPECT"}},
			&cli.BoolFlag{Name: "redact", Usage: "do not keep passwords and cookies in what --inspect remembers", EnvVars: []string{"PADLOCK_REDACT"}},
			&cli.BoolFlag{Name: "restart", Usage: "start the app again whenever it ends", EnvVars: []string{"PADLOCK_DEV_RESTART"}},
			&cli.BoolFlag{Name: "spa", Usage: "with DIRECTORY: answer paths of no file with index.html", EnvVars: []string{"PADLOCK_DEV_SPA"}},
			&cli.BoolFlag{Name: "lan", Usage: "also serve the app to devices nearby at NAME.local, with a page that gets them to trust the local CA", EnvVars: []string{"PADLOCK_DEV_LAN"}},
			&cli.BoolFlag{Name: "json", Usage: "print events as JSON, a line for each, on standard error"},
		}, devStorage()...),
		Subcommands: []*cli.Command{
			p.devListCommand(), p.devStopCommand(), p.devLogsCommand(), p.devURLCommand(), p.devOpenCommand(), p.devServeCommand(),
		},
		Action: func(c *cli.Context) error { return p.asEvent(c, p.dev(c)) },
	}
}

// asEvent is an error that has been printed, where everything is an event.
func (p *program) asEvent(c *cli.Context, err error) error {
	if err == nil || !c.Bool("json") || errors.As(err, new(exitCode)) {
		return err
	}
	return p.event(err)
}

// devUsageError is asEvent for flags that cannot be read. Then none is set, and the arguments are looked at.
func (p *program) devUsageError(c *cli.Context, err error, _ bool) error {
	err = usageError{err}
	// The command's own context has no flags to ask.
	for _, outer := range c.Lineage()[1:] {
		if slices.Contains(outer.Args().Slice(), "--json") {
			return p.event(err)
		}
	}
	return err
}

// event prints an error as an event, and returns the exit code for it.
func (p *program) event(err error) error {
	code := exitCode(1)
	if errors.As(err, new(usageError)) {
		code = 2
	}
	_ = json.NewEncoder(p.stderr).Encode(devEvent{Event: "error", Error: mask.Text(err.Error()), Hint: hint.Of(err)}) // the code says it, too
	return code
}

func devStorage() []cli.Flag { return []cli.Flag{storageFlag(), organizationFlag()} }

// devPlace is where this user's proxy is.
func devPlace(c *cli.Context) (cfg *config.Config, dir string) {
	cfg = config.Default()
	applyStorage(c, cfg)
	cfg.Storage = absoluteStorage(cfg.Storage)
	return cfg, dev.Directory(cfg.StateDirectory())
}

// absoluteStorage is a place as the proxy finds it, which runs in another directory.
func absoluteStorage(place string) string {
	if place == "" || strings.Contains(place, "://") {
		return place
	}
	if absolute, err := filepath.Abs(place); err == nil {
		return absolute
	}
	return place
}

// exitCode ends padlock as the program ended that it has run.
type exitCode int

func (e exitCode) Error() string { return "exit code " + strconv.Itoa(int(e)) }

// dev serves one app, or those of a file.
func (p *program) dev(c *cli.Context) error {
	args := c.Args().Slice()
	if len(args) == 0 {
		found, err := launch.Project(".")
		if err != nil {
			return usageError{err}
		}

		if len(found) == 1 {
			found[0] = flagged(c, found[0])
		} else if name := firstSet(c, appFlags...); name != "" && len(found) > 1 {
			return usageError{fmt.Errorf("--%s is for one app, and this directory has %d: write it into %s", name, len(found), launch.FileName)}
		}

		if len(found) == 0 {
			return hint.Add(usageError{errors.New("no command is given, and this directory has no padlock.dev.yaml, Procfile or package.json with a script dev")}, "padlock dev COMMAND, such as padlock dev npm run dev")
		}
		return p.devAll(c, found)
	}
	if args[0] == "" {
		return hint.Add(usageError{errors.New("the command is empty")}, "padlock dev COMMAND, such as padlock dev npm run dev")
	}
	return p.devAll(c, []launch.App{flagged(c, launch.App{Dir: ".", Args: args})})
}

// appFlags describe an app.
var appFlags = []string{"name", "domain", "wildcard", "port", "host-header", "restart"}

// flagged is an app with what the flags say about it.
func flagged(c *cli.Context, a launch.App) launch.App {
	if c.IsSet("name") {
		a.Name = c.String("name")
	}
	if c.IsSet("port") {
		a.Port = c.Int("port")
	}
	if c.IsSet("host-header") {
		a.HostHeader = c.String("host-header")
	}

	a.Domains = append(a.Domains, c.StringSlice("domain")...)
	a.Wildcard = a.Wildcard || c.Bool("wildcard")
	a.Restart = a.Restart || c.Bool("restart")
	return a
}

// firstSet is the first of these flags that is given; "": none is.
func firstSet(c *cli.Context, names ...string) string {
	for _, name := range names {
		if c.IsSet(name) {
			return name
		}
	}
	return ""
}

// devAll serves apps until all have ended, or ctx does. One that ends takes the others with it, as in a container.
func (p *program) devAll(c *cli.Context, apps []launch.App) error {
	if os.Getenv("PADLOCK_DEV") == "0" {
		return p.bare(c.Context, apps)
	}

	cfg, dir := devPlace(c)
	ca, err := localca.Open(cfg.StateDirectory(), localca.Options{Organization: cfg.Organization})
	if err != nil {
		return err
	}

	programs := filepath.Join(cfg.StateDirectory(), "localca", "programs")
	variables, err := trust.Programs(ca.Root(), programs)
	if err != nil && !errors.Is(err, trust.ErrNoSystemRoots) {
		return err
	}
	if variables, err = trust.Beside(variables, os.Getenv, ca.Root(), programs); err != nil {
		return err
	}

	d := &developing{program: p, c: c, cfg: cfg, dir: dir, ca: ca, variables: variables, several: len(apps) > 1, json: c.Bool("json")}
	switch {
	case !c.Bool("inspect"):
		d.inspect = dev.InspectOff
	case c.Bool("redact"):
		d.inspect = dev.InspectRedacted
	}
	// Several apps cannot share what somebody types.
	if in, ok := p.stdin.(*os.File); ok && terminal.Is(in) && !d.several {
		d.terminal = launch.OpenTerminal(in)
	}
	if d.terminal != nil {
		defer d.terminal.Close()
	}

	ctx, cancel := context.WithCancelCause(c.Context)
	defer cancel(nil)

	if c.Bool("lan") {
		d.lan = newNearby(d)
		defer d.lan.close()
	}

	ends := make(chan error, len(apps))
	for i := range apps {
		go func() { ends <- d.serve(ctx, &apps[i]) }()
	}
	// The first end decides the exit code: the others end because of it.
	first := <-ends
	cancel(nil)
	// All are waited for, so that none of them is left behind.
	for range apps[1:] {
		<-ends
	}

	if c.Context.Err() != nil && (d.several || errors.Is(first, context.Canceled)) {
		return nil
	}

	return first
}

// bare runs an app as if padlock were not there.
func (p *program) bare(ctx context.Context, apps []launch.App) error {
	for _, a := range apps {
		if a.Served() {
			return usageError{errors.New("PADLOCK_DEV=0 runs a command, and there is none: a port or a folder needs padlock dev")}
		}
	}
	if len(apps) != 1 {
		return p.bareAll(ctx, apps)
	}

	// A terminal sends these signals to the command too. Padlock must not end before it does.
	for _, s := range launch.PassedOn {
		signal.Ignore(s)
		defer signal.Reset(s)
	}
	cmd := exec.CommandContext(ctx, apps[0].Args[0], apps[0].Args[1:]...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = apps[0].Dir, p.stdin, p.stdout, p.stderr
	// By default the command would be killed, and could not end by itself.
	cmd.Cancel = func() error { return cmd.Process.Signal(interruptOf(ctx)) }
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exitCode(max(exit.ExitCode(), 1))
	}

	return err
}

// bareAll runs several apps as if padlock only started them. The first that ends takes the others with it.
func (p *program) bareAll(ctx context.Context, apps []launch.App) error {
	d := &developing{program: p, several: true}
	all := make([]*launch.Process, 0, len(apps))
	stop := func() {
		var stopped sync.WaitGroup
		for _, process := range all {
			stopped.Go(func() { process.Stop(context.WithoutCancel(ctx), interruptOf(ctx)) })
		}
		stopped.Wait()
	}
	defer stop()

	signals := make(chan os.Signal, 4)
	signal.Notify(signals, launch.PassedOn...)
	defer signal.Stop(signals)
	ends := make(chan *launch.Process, len(apps))
	for _, a := range apps {
		command := launch.Command{Args: a.Args, Dir: a.Dir, Env: os.Environ()}
		d.connect(&command, io.Discard, a.Name)
		process, err := launch.Start(command)
		if err != nil {
			return err
		}
		all = append(all, process)
		go func() { <-process.Done(); ends <- process }()
	}

	for {
		select {
		case s := <-signals:
			for _, process := range all {
				process.Signal(s)
			}
		case <-ctx.Done():
			return nil
		case first := <-ends:
			if code := first.Wait(); code != 0 {
				return exitCode(code)
			}
			return nil
		}
	}
}

// interruptOf is the signal that has ended a context of untilSignalled.
func interruptOf(ctx context.Context) os.Signal {
	if errors.As(context.Cause(ctx), new(proxy.Soon)) {
		return os.Interrupt
	}
	return syscall.SIGTERM
}

// developing is what the apps of one command share.
type developing struct {
	*program
	c         *cli.Context
	cfg       *config.Config
	dir       string
	ca        *localca.CA
	variables []trust.Variable
	several   bool
	json      bool             // events instead of lines
	inspect   string           // what is remembered of requests: dev.App's
	began     atomic.Bool      // this command has started the proxy
	lan       *nearby          // nil: the apps are for this machine alone
	terminal  *launch.Terminal // nil: there is none, or the app has it itself

	lines      sync.Mutex // of standard output
	once       sync.Once  // the hint about trust
	unresolved sync.Once  // the hint about names
	older      sync.Once  // the hint about another version
	elsewhere  sync.Once  // the hint about another storage
}

func (d *developing) reporter() dev.Reporter {
	if d.json {
		return &devEvents{d}
	}
	return &devReport{d}
}

func (d *developing) say(format string, values ...any) {
	if d.json {
		return
	}
	d.lines.Lock()
	defer d.lines.Unlock()
	line := fmt.Sprintf("padlock: "+format, values...)
	if terminal.Is(d.stderr) {
		// The app's terminal may be in raw mode, where a line ends in CR LF.
		line += "\r"
	}
	// Standard output belongs to the app.
	fmt.Fprintln(d.stderr, line)
}

// serve serves one app until it ends, with exitCode if that is not 0.
func (d *developing) serve(ctx context.Context, a *launch.App) error {
	code, err := d.serveApp(ctx, a)
	if err == nil && code != 0 {
		err = exitCode(code)
	}
	return err
}

func (d *developing) serveApp(ctx context.Context, a *launch.App) (code int, err error) {
	work, err := filepath.Abs(a.Dir)
	if err != nil {
		return 0, err
	}

	if info, err := os.Stat(work); err != nil {
		return 0, err
	} else if !info.IsDir() {
		return 0, usageError{fmt.Errorf("%s is not a directory", work)}
	}

	if a.Port < 0 || a.Port > 65535 {
		return 0, usageError{fmt.Errorf("%d is not a port", a.Port)}
	}

	name := strings.TrimSuffix(strings.ToLower(a.Name), ".localhost")
	if name == "" {
		name = launch.Name(work)
	}
	if !launch.ValidName(name) {
		return 0, usageError{fmt.Errorf("--name %q: a name has letters, digits and hyphens, and dots between parts of 63 characters at most, such as api.shop", a.Name)}
	}

	app := dev.App{Name: name, Hosts: append([]string{name + ".localhost"}, a.Domains...), Dir: work, Command: a.Command(), PID: os.Getpid()}
	if a.HostHeader != "keep" {
		app.HostHeader = a.HostHeader
	}
	app.Inspect = d.inspect

	if a.Wildcard {
		// The range is over the names as they were: what is appended gets no wildcard again.
		for _, host := range app.Hosts {
			if below := "*." + host; !strings.HasPrefix(host, "*.") && !slices.Contains(app.Hosts, below) {
				app.Hosts = append(app.Hosts, below)
			}
		}
	}
	if err := app.Check(); err != nil {
		return 0, usageError{err}
	}

	s := &dev.Session{App: app, Join: d.join, Restart: a.Restart, Interrupt: func() os.Signal { return interruptOf(ctx) }, Report: d.reporter()}
	if d.lan != nil {
		s.Also = []string{nearbyName(name)}
		s.Report = &nearbyReport{s.Report, d.lan}
	}

	if port, ok := a.OnPort(); ok {
		if port < 1 || port > 65535 {
			return 0, usageError{fmt.Errorf("%d is not a port", port)}
		}
		s.Port, s.App.Waiting = port, fmt.Sprintf("port %d", port)
		return d.run(ctx, s)
	}

	if a.IsFolder() {
		return d.serveFolder(ctx, s, a.Args[0])
	}

	return d.serveCommand(ctx, s, a)
}

func (d *developing) run(ctx context.Context, s *dev.Session) (int, error) {
	code, err := s.Run(ctx)
	var taken *dev.Taken
	if errors.As(err, &taken) && taken.Host != s.App.Hosts[0] {
		return 0, hint.Add(err, fmt.Sprintf("leave that name out; or end that app: padlock dev stop %s", taken.By.Name))
	}
	if errors.As(err, &taken) {
		return 0, hint.Add(err, fmt.Sprintf("choose another name: padlock dev --name %s …; or end that app: padlock dev stop %s", d.freeName(s.App.Name), taken.By.Name))
	}
	var failed *launch.StartError
	if errors.As(err, &failed) {
		return 0, hint.Add(err, startHint(failed))
	}
	return code, err
}

// startHint says what to do about a command that does not start.
func startHint(failed *launch.StartError) string {
	_, port, err := net.SplitHostPort(failed.Program)
	switch {
	case err == nil && port != "":
		return "for an app that listens already, give its port alone: padlock dev " + port
	case errors.Is(failed, fs.ErrPermission):
		return "make the file executable with chmod +x, or name the program that runs it: padlock dev sh " + failed.Program
	case errors.Is(failed, syscall.ENOEXEC):
		return "the file is no program, and its first line names none; name the program that runs it: padlock dev sh " + failed.Program
	}
	return "install it, or correct the command; a line for a shell goes as: padlock dev sh -c '…'"
}

// freeName is the next name that no app has.
func (d *developing) freeName(name string) string {
	// If nobody answers, any name will do as an example.
	apps, _ := devApps(d.c)
	for number := 2; ; number++ {
		next := fmt.Sprintf("%s-%d", name, number)
		if !slices.ContainsFunc(apps, func(a dev.App) bool { return a.Name == next }) {
			return next
		}
	}
}

// serveFolder serves the files below a directory.
func (d *developing) serveFolder(ctx context.Context, s *dev.Session, dir string) (int, error) {
	folder, err := launch.ServeFolder(dir, d.c.Bool("spa"))
	if err != nil {
		return 0, err
	}
	defer folder.Close()

	// The name is that of the folder, and not of the directory in which this command runs.
	if d.c.String("name") == "" {
		if absolute, err := filepath.Abs(dir); err == nil {
			s.App.Name = launch.Name(absolute)
			s.App.Hosts[0] = s.App.Name + ".localhost"
		}
	}

	s.Port, s.App.Waiting = folder.Port(), "the folder"
	return d.run(ctx, s)
}

// serveCommand starts the app, and serves it.
func (d *developing) serveCommand(ctx context.Context, s *dev.Session, a *launch.App) (int, error) {
	port := a.Port
	if port == 0 {
		var err error
		if port, err = launch.FreePort(nil); err != nil {
			return 0, err
		}
	}

	log, err := d.openLog(s.App.Name)
	if err != nil {
		return 0, err
	}
	defer log.Close()

	if len(launch.PassedOn) > 0 {
		signals := make(chan os.Signal, 4)
		signal.Notify(signals, launch.PassedOn...)
		defer signal.Stop(signals)
		s.Signals = signals
	}
	s.Port, s.App.Log = port, log.Name()
	s.App.Waiting = fmt.Sprintf("port %d, or whichever the command opens", port)

	s.Command = func(app dev.App, others []dev.App) (launch.Command, error) {
		command := launch.Command{
			Args: launch.WithPort(a.Args, s.App.Dir, "127.0.0.1", port, app.URL), Dir: s.App.Dir, Port: port,
			Env: launch.Environment(os.Environ(), d.environment(app, others, port)...),
		}
		d.connect(&command, log, a.Name)
		return command, nil
	}

	return d.run(ctx, s)
}

// connect says where what the app prints goes, and whether it has a terminal.
func (d *developing) connect(command *launch.Command, log io.Writer, name string) {
	if d.several {
		prefix := name + " | "
		command.Stdout = io.MultiWriter(launch.Prefixed(d.stdout, prefix, &d.lines), log)
		command.Stderr = io.MultiWriter(launch.Prefixed(d.stderr, prefix, &d.lines), log)
		return
	}
	command.Stdin, _ = d.stdin.(*os.File)
	command.Stdout, command.Stderr = io.MultiWriter(d.stdout, log), io.MultiWriter(d.stderr, log)
	command.Terminal, command.StdoutTerminal, command.StderrTerminal = d.terminal, terminal.Is(d.stdout), terminal.Is(d.stderr)
}

// environment is what the app gets: its port, its URL and those of others, and how its own requests trust the local
// CA.
func (d *developing) environment(app dev.App, others []dev.App, port int) []string {
	env := []string{"PORT=" + strconv.Itoa(port), "HOST=127.0.0.1", "PADLOCK_URL=" + app.URL}
	for _, other := range others {
		env = append(env, "PADLOCK_URL_"+variableName(other.Name)+"="+other.URL)
	}
	for _, v := range d.variables {
		env = append(env, v.Name+"="+v.Value)
	}
	return env
}

func variableName(name string) string {
	return strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(name))
}

func (d *developing) logDirectory() string { return dev.StateDirectory(d.cfg.StateDirectory()) }

func (d *developing) openLog(name string) (*launch.Log, error) {
	if err := os.MkdirAll(d.logDirectory(), 0o700); err != nil {
		return nil, err
	}
	return launch.OpenLog(filepath.Join(d.logDirectory(), name+".log"))
}

// join connects to the proxy, and starts this program as one if none runs.
func (d *developing) join(ctx context.Context) (*dev.Client, error) {
	client, err := dev.Join(ctx, d.dir, func() (<-chan struct{}, error) {
		d.began.Store(true)
		return startDevProxy(d.c, d.dir)
	})

	if errors.Is(err, dev.ErrNotStarted) {
		// Without a log, there is no reason to show.
		text, _ := os.ReadFile(devProxyLog(d.dir))
		return nil, notStarted(string(text))
	}

	if err == nil && client.Ports.Version != version {
		d.older.Do(func() {
			d.say("the proxy is padlock %s, and this is %s; it is replaced after the last app has ended", client.Ports.Version, version)
		})
	}
	// A proxy of an older version does not say where it keeps its local CA.
	if err == nil && client.Ports.Storage != "" && client.Ports.Storage != d.cfg.StateDirectory() {
		d.elsewhere.Do(func() {
			d.say("the proxy has its local CA in %s, which this app does not trust, as the app's is in %s: end the other apps first, or start this one with --storage %s",
				client.Ports.Storage, d.cfg.StateDirectory(), client.Ports.Storage)
		})
	}
	return client, toEnd(err)
}

// notStarted is why a proxy did not start, from what it has printed.
func notStarted(log string) error {
	err := dev.ErrNotStarted
	_, said, _ := strings.Cut(log, "padlock: error: ")
	message, rest, _ := strings.Cut(said, "\n")
	if message != "" {
		err = fmt.Errorf("%w: %s", err, message)
	}
	if remedy, found := strings.CutPrefix(rest, "padlock: hint: "); found {
		remedy, _, _ = strings.Cut(remedy, "\n")
		err = hint.Add(err, remedy)
	}
	return err
}

// toEnd says what to do about a proxy that does not answer.
func toEnd(err error) error {
	if s := new(dev.Silent); errors.As(err, &s) && s.PID > 0 {
		return hint.Add(err, fmt.Sprintf("end it, and it is started again: kill -9 %d", s.PID))
	}
	if errors.Is(err, fs.ErrPermission) {
		return hint.Add(err, "each user has a proxy of their own, and only its user reaches it: leave --storage out, or run the command as that user")
	}
	return err
}
