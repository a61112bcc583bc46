// Package daemon runs padlock: it opens and wires all that serves, brings reloads and restarts into it, and ends it
// in time.
//
//	err := daemon.Run(ctx, cfg, daemon.Options{Stdout: os.Stdout, Stderr: os.Stderr, Reporter: reporter})
package daemon

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"padlock/certs/localca"
	"padlock/config"
	"padlock/console"
	"padlock/discovery"
	"padlock/handshake"
	"padlock/inspect"
	"padlock/internal/terminal"
	"padlock/proxy"
	"padlock/tracing"
)

// Options are what a daemon is given besides its configuration.
type Options struct {
	Stdout, Stderr io.Writer
	Version        string
	OtherPorts     bool  // ports were not chosen by the user: others may take their place
	File           *File // nil: there is no file to read again
	Reporter       Reporter
	Sources        []discovery.Source // of sites, beside those of the configuration; the first goes first
	Embedded       bool               // signals to the process are somebody else's
}

// Reporter shows the person who starts padlock how it goes.
type Reporter interface {
	// NoPlainPort is called first, if at all: each of these ports is taken, and http:// is not redirected.
	NoPlainPort(ports []int)
	// Started is called when all is open, just before the first connection is taken.
	Started(Started)
	// Stopping is called at the end of Run's context, if it serves until then: open requests get this long.
	Stopping(limit time.Duration)
}

// Started is what serves when padlock has started.
type Started struct {
	Config    *config.Config
	Listeners []proxy.Listener
	LocalCA   *localca.CA
	Managed   []string // names whose certificates come from CAs
	Console   string   // URL; "": only the socket
}

// daemon holds what its parts hand to each other. Each field is set by the start of one part, and only read after that.
type daemon struct {
	Options
	cfg      *config.Config // of the start; certificates.config() is what a reload has brought since
	ending   *deadline
	serving  context.Context // of Serve: it ends with Run's, or when another padlock has taken over
	leave    context.CancelFunc
	lines    *lineQueue
	log      *slog.Logger
	signals  signals
	logFiles logFiles

	inherited    *inherited
	listeners    []proxy.Listener
	certificates *certificateService
	tracer       *tracing.Tracer // nil: none
	observers    *observers
	handshakes   *handshakeLog
	recorder     *handshake.Recorder // nil: handshakes are off
	access       *logOutput          // nil: off
	server       *proxy.Server
	requests     *inspect.Store // of sites that remember theirs; nil: nobody can look at them
	admin        *adminEndpoint

	reloader  *reloader
	restarter *restarter
	notices   *notices
	rotation  *tasks
}

// Run serves a configuration until ctx ends, and then for timeouts.shutdown (2 s after SIGINT) and a second at most,
// whatever hangs.
func Run(ctx context.Context, cfg *config.Config, o Options) error {
	d := &daemon{Options: o, cfg: cfg, ending: newDeadline(ctx, cfg.Timeouts.Shutdown)}
	return d.ending.run(ctx, func() error { return d.run(ctx) })
}

// run is Run without its deadline.
func (d *daemon) run(ctx context.Context) error {
	d.serving, d.leave = context.WithCancel(ctx)
	defer d.leave()

	started, err := start(ctx, d.parts(), d.ending.waitsFor)
	if err == nil {
		d.ending.waitsForAny(d.server.Ending)
		defer raiseFloor().lower()
		err = d.server.Serve(d.serving, d.listeners...)
	}
	// Another padlock may have taken over, in which case no signal has begun the end.
	d.ending.begin()
	started.close(d.ending.waitsFor)
	return err
}

// part is one of the things that a running padlock consists of. Start opens it; a Start that fails closes what it has
// opened. Close ends it, and returns when it has ended, or when its time is over (deadline). Each may be nil.
type part struct {
	name  string
	Start func(ctx context.Context) error
	Close func()
}

// parts start in this order, and are closed in the opposite one, after the last request. Everything up to
// the admin endpoint can refuse the start; everything behind the report works in the background.
func (d *daemon) parts() []part {
	return []part{
		{"operation log", d.openLog, d.closeLog},
		{"signals", d.catchSignals, nil},
		{"listeners", d.openListeners, d.closeListeners},
		{"privilege drop", d.dropPrivileges, nil},
		{"discovery", d.discover, nil},
		{"certificates", d.loadCertificates, nil},
		{"tracing", d.openTracer, d.closeTracer},
		{"recorder", d.openRecorder, d.closeRecorder},
		{"access log", d.openAccessLog, d.closeAccessLog},
		{"storage", d.openStorage, d.closeStorage},
		{"proxy", d.openProxy, d.closeProxy},
		{"admin endpoint", d.openAdmin, nil},
		{"report", d.report, nil},
		{"renewal", d.startRenewal, d.stopRenewal},
		{"notices", d.startNotices, d.stopNotices},
		{"restart", d.startRestarter, d.stopRestarter},
		{"reload", d.startReloader, d.stopReloader},
		{"log rotation", d.startRotation, d.stopRotation},
		{"admin", d.serveAdmin, d.stopAdmin},
	}
}

// parts that have started.
type parts []part

// start opens parts in their order, and reports each beforehand. After an error it returns those that are open.
func start(ctx context.Context, all []part, report func(string)) (started parts, err error) {
	for _, p := range all {
		report("the start of its " + p.name)
		if err := p.Start(ctx); err != nil {
			return started, err
		}
		started = append(started, p)
	}
	return started, nil
}

// close ends parts in the opposite order, and reports each beforehand.
func (all parts) close(report func(string)) {
	for _, p := range slices.Backward(all) {
		if p.Close != nil {
			report("its " + p.name)
			p.Close()
		}
	}
}

func (d *daemon) openLog(context.Context) error {
	d.lines = newLineQueue(d.Stderr, d.reportLost)
	d.log = slog.New(terminal.LogHandler(d.lines, d.Stderr))
	return nil
}

func (d *daemon) closeLog() {
	ctx, cancel := d.ending.within(operationLogGrace)
	defer cancel()
	d.lines.close(ctx)
}

// catchSignals comes early: nobody has to wait until padlock is ready to be signalled.
func (d *daemon) catchSignals(context.Context) error {
	if !d.Embedded {
		d.signals = catchSignals(d.File != nil)
	}
	return nil
}

// openListeners opens the listeners, or takes over those that are open.
func (d *daemon) openListeners(context.Context) (err error) {
	if d.inherited, err = inherit(); err != nil {
		return err
	}
	d.listeners, err = d.listen()
	return err
}

// closeListeners closes those, too, that no proxy has taken. One that is closed already is as good.
func (d *daemon) closeListeners() { closeListeners(d.listeners) }

// dropPrivileges becomes the user that the configuration names. All that follows is done as that user.
func (d *daemon) dropPrivileges(context.Context) error {
	if d.cfg.User == "" {
		return nil
	}
	// UDP sockets on ports below 1024 can be opened by root only, so they are opened before it is given up.
	openPackets(d.cfg, d.listeners)
	if err := becomeUser(d.cfg); err != nil {
		return err
	}
	d.warnUnreadable()
	return nil
}

// discover adds the sites that sources find now.
func (d *daemon) discover(ctx context.Context) (err error) {
	d.reloader = &reloader{
		file: d.File, signals: d.signals.reload, log: d.log, reopenLogs: func() { d.logFiles.reopen(d.log) },
		discovered: sourcesOf(d.cfg, d.Sources, d.log),
	}
	d.cfg, err = d.reloader.discover(ctx, d.cfg, d.inherited.takeover)
	return err
}

// loadCertificates reads what this machine has. It reaches no network, and changes nothing but the local CA.
func (d *daemon) loadCertificates(context.Context) error {
	s, err := loadSnapshot(d.cfg, nil, d.log)
	// The hint about permissions is for the user that padlock has become, which the file's owner may not know of.
	if err != nil {
		return forUser(d.cfg, err)
	}
	d.certificates = newCertificateService(s, d.log)
	return s.checkCoverage()
}

func (d *daemon) openTracer(context.Context) (err error) {
	d.tracer, err = newTracer(d.cfg, d.Version, d.log)
	return err
}

func (d *daemon) closeTracer() {
	if d.tracer == nil {
		return
	}
	ctx, cancel := d.ending.within(tracesGrace)
	defer cancel()
	d.tracer.Close(ctx)
}

func (d *daemon) openRecorder(context.Context) (err error) {
	d.observers = newObservers(d.cfg, d.Version, d.tracer)
	d.handshakes, err = d.newHandshakeLog(d.cfg)
	if err != nil {
		return forUser(d.cfg, err)
	}
	if d.handshakes != nil {
		d.recorder = d.handshakes.recorder
	}
	return nil
}

func (d *daemon) closeRecorder() {
	if d.handshakes != nil {
		d.handshakes.close(d)
	}
}

func (d *daemon) openAccessLog(context.Context) (err error) {
	d.access, err = d.newAccessLog(d.cfg.AccessLog)
	return forUser(d.cfg, err)
}

func (d *daemon) closeAccessLog() {
	if d.access != nil {
		d.ending.await(accessLogGrace, d.access.close)
	}
}

// openStorage opens what nodes share, and the client that asks CAs.
func (d *daemon) openStorage(ctx context.Context) error {
	err := d.certificates.open(ctx, ofKind(d.listeners, true), ofKind(d.listeners, false))
	if err != nil {
		// A part that fails to start is not closed with the others.
		d.certificates.close()
	}
	return forUser(d.cfg, err)
}

func (d *daemon) closeStorage() { d.certificates.close() }

func (d *daemon) openProxy(context.Context) (err error) {
	// Without the admin endpoint nobody could look at them.
	if !d.cfg.Admin.Off() {
		d.requests = inspect.NewStore(int64(d.cfg.Limits.Inspect), slices.Concat(d.cfg.AccessLog.Redact, d.cfg.CredentialFields())...)
	}
	d.server, err = proxy.New(d.cfg, proxy.Dependencies{
		Inspect:      d.requests,
		Certificates: d.certificates, Challenges: d.certificates,
		Recorder: d.recorder, Tracer: d.tracer,
		Page: console.NewPage(console.PageOptions{Recent: d.observers.recent}), Trust: d.trustPage(),
		Log: d.log, AccessLog: d.access.writer(), AccessLogDropped: d.access.Dropped,
	})
	if err != nil {
		return forUser(d.cfg, err)
	}
	// The recorder starts before the certificates are published, so it learns of them here.
	if d.recorder != nil {
		d.recorder.Know(d.certificates.knowledge())
	}
	return nil
}

// closeProxy is for one that has not served. After Serve it does nothing.
func (d *daemon) closeProxy() { d.server.Close() }

// openAdmin opens the listeners of the admin endpoint. From then on they are serveAdmin's, which cannot fail to start.
func (d *daemon) openAdmin(context.Context) (err error) {
	if d.admin, err = d.listenAdmin(); err != nil {
		return forUser(d.cfg, config.At("admin", err))
	}
	if len(d.admin.listeners) > 0 {
		d.reloader.takeCommands()
	}
	return nil
}

// report shows what a person must know before the first connection is taken.
func (d *daemon) report(context.Context) error {
	// By now every listener that the configuration has was taken.
	for _, name := range d.inherited.closeRest() {
		d.log.Warn("a listener was passed to padlock that its configuration does not have; it is closed", "address", name)
	}
	d.warnWeaknesses()

	s := d.certificates.current.Load()
	d.Reporter.Started(Started{Config: s.cfg, Listeners: d.listeners, LocalCA: s.local, Managed: s.managed, Console: d.admin.consoleURL()})
	return nil
}

// warnWeaknesses says loudly what weakens security. A command without a file is for a machine where somebody develops.
func (d *daemon) warnWeaknesses() {
	// Process 1 of a container has exactly the rights that the container was given, so it keeps them.
	if d.File != nil && os.Geteuid() == 0 && os.Getpid() != 1 {
		d.log.Warn("padlock stays root, and needs it only for ports below 1024", "remedy", "name the user that it shall become: user (--user)")
		if place := changeable(d.File.Name); place != "" {
			d.log.Warn("a user other than root can change the configuration, and have padlock do as root what they may not", "changeable", place, "remedy", "chown root "+place+" && chmod go-w "+place)
		}
	}

	for _, site := range d.cfg.Sites {
		if site.TLS.LegacyRSA {
			d.log.Warn("RSA key exchange is on: who ever gets the certificate's key can read recorded connections", "site", site.Hosts[0], "key", "tls.legacy_rsa_key_exchange")
		}
	}

	for _, site := range d.cfg.Sites {
		for _, route := range site.Routes {
			// An h2c connection is a tunnel to padlock, so nothing in it is looked at.
			if slices.ContainsFunc(route.Upgrades, func(protocol string) bool { return strings.EqualFold(protocol, "h2c") }) {
				d.log.Warn("clients may go over to h2c: their requests reach the target without padlock's rules for paths, methods and fields", "site", site.Hosts[0], "route", cmp.Or(route.Path, route.Exact, "/"), "key", "upgrades")
			}
		}
	}

	if d.cfg.Handshakes.Capture != "" {
		d.log.Warn("handshakes are captured with their secrets", "file", d.cfg.Handshakes.Capture)
	}
}

func (d *daemon) startRenewal(ctx context.Context) error {
	d.certificates.run(ctx, d.server)
	return nil
}

func (d *daemon) stopRenewal() { d.certificates.stop() }
