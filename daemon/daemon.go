// Package daemon runs padlock: it opens and wires all that serves, brings reloads and restarts into it, and ends it in time.
//
//	err := daemon.Run(ctx, cfg, daemon.Options{Stdout: os.Stdout, Stderr: os.Stderr, Reporter: reporter})
package daemon

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"padlock/certs/localca"
	"padlock/config"
	"padlock/console"
	"padlock/handshake"
	"padlock/internal/hint"
	"padlock/internal/regular"
	"padlock/internal/terminal"
	"padlock/proxy"
)

// floor counts as heap and takes no memory, as nobody writes to it. Without it the heap is so small that a busy padlock
// would collect it every few milliseconds.
var floor = make([]byte, 16<<20)

// Options are what a daemon is given besides its configuration.
type Options struct {
	Stdout, Stderr io.Writer
	Version        string
	OtherPorts     bool  // ports were not chosen by the user: others may take their place
	File           *File // nil: there is no file to read again
	Reporter       Reporter
}

// Reporter tells the person who starts padlock how it goes.
type Reporter interface {
	// NoPlainPort is called first, if at all: each of these ports is taken, and http:// is not redirected.
	NoPlainPort(ports []int)
	// Started is called when all is open, just before the first connection is taken.
	Started(Started)
	// Stopping is called at the end of Run's context, if it serves until then: open requests get this long.
	Stopping(limit time.Duration)
}

// Started is what a Reporter is told of.
type Started struct {
	Config    *config.Config
	Listeners []proxy.Listener
	LocalCA   *localca.CA
	Managed   []string // names whose certificates come from CAs
	Console   string   // URL; "": only the socket
}

// daemon is what Run runs.
type daemon struct {
	Options
	logs logFiles
}

// Run serves a configuration until ctx ends, and then for timeouts.shutdown (2 s after SIGINT) and a second at most, whatever hangs.
func Run(ctx context.Context, cfg *config.Config, o Options) error {
	d := &daemon{Options: o}
	end := newFarewell(ctx, cfg.Timeouts.Shutdown)
	return end.run(ctx, func() error { return d.run(ctx, cfg, end) })
}

// run is Run without its deadline.
func (d *daemon) run(ctx context.Context, cfg *config.Config, end *farewell) error {
	lines := newLineQueue(d.Stderr, d.sayLost)
	defer func() {
		last, cancel := end.within(linesBy)
		defer cancel()
		lines.close(last)
	}()
	log := slog.New(terminal.LogHandler(lines, d.Stderr))

	restarts, rotated := restartSignals(), rotatedSignals()
	changes := &reloader{}
	if f := d.File; f != nil {
		changes.name, changes.load, changes.watch = f.Name, f.Load, f.Watch
	}
	changes.catch()
	changes.reopen = func() { d.logs.reopen(log) }
	listeners, before, err := d.bind(cfg, log)
	if err != nil {
		return err
	}
	defer closeListeners(listeners) // those that are closed already are as good
	if cfg, err = changes.discover(ctx, cfg, before.padlock, log); err != nil {
		return err
	}

	keeper, err := newKeeper(cfg, log)
	if err != nil {
		return forUser(cfg, err)
	}
	if err := covered(cfg, keeper); err != nil {
		return err
	}

	tracer, closeTraces, err := newTracer(cfg, d.Version, log)
	if err != nil {
		return err
	}
	defer func() {
		last, cancel := end.within(spansBy)
		defer cancel()
		closeTraces(last)
	}()
	seen := newSeen(cfg, d.Version, tracer)
	recorder, closeOutput, err := d.recorder(cfg, seen, end, log)
	if err != nil {
		return forUser(cfg, err)
	}
	defer closeOutput()
	access, closeAccess, err := d.accessLog(cfg.AccessLog, log)
	if err != nil {
		return forUser(cfg, err)
	}
	defer end.await(accessBy, closeAccess)

	page := console.NewPage(console.PageOptions{Recent: seen.recent})
	defer keeper.close()
	server, err := keeper.proxy(ctx, ofKind(listeners, true), ofKind(listeners, false), proxy.Dependencies{Recorder: recorder, Page: page, Trust: trustPage(cfg, keeper, seen, log), Log: log, AccessLog: access.writer(), AccessLogLost: access.Lost, Tracer: tracer})
	if err != nil {
		return forUser(cfg, err)
	}
	if recorder != nil {
		recorder.Know(keeper.knowledge())
	}

	admin, waits, err := listenAdmin(cfg, log, before, keeper)
	if err != nil {
		return forUser(cfg, err)
	}
	for _, name := range before.rest() {
		log.Warn("a listener was passed to padlock that its configuration does not have; it is closed", "address", name)
	}

	warn(cfg, d.File == nil, log)
	d.Reporter.Started(Started{Config: cfg, Listeners: listeners, LocalCA: keeper.local, Managed: keeper.names, Console: consoleURL(admin)})

	keeper.start(ctx, server)
	defer d.sayFinishing(ctx, end, cfg.Timeouts.Shutdown)()
	if err := ready(); err != nil {
		log.Warn("whoever started padlock could not be told that it serves", "error", err)
	}
	leaving := context.AfterFunc(ctx, sayStopping)
	defer leaving()

	outer := ctx
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	again := &restarter{log: log, signals: restarts, unheard: changes.unheard(restarts, rotated), serving: server.Serving(), open: server.Listeners, handOver: server.HandOver, leave: leave}
	for _, l := range admin {
		again.add(l.Listener)
	}
	go again.watch(outer)

	reload := changes.start(ctx, cfg, keeper, server, log)
	if d.File == nil && os.Getpid() != 1 { // for a container, names are found outside of it
		changes.running.Go(func() { warnUnresolved(ctx, log, cfg) })
	}
	defer func() { leave(); changes.wait() }()
	asked := console.NewAdmin(seen.options(d.Version, server, recorder, keeper, reload, outer))
	serving, cancel := context.WithCancel(ctx) // another variable: what runs already reads ctx
	var others sync.WaitGroup
	logging, closeLogs := context.WithCancel(context.WithoutCancel(serving)) // requests that are finished are logged as well
	defer closeLogs()
	others.Go(func() { d.logs.watch(logging, rotated, log) })

	answer := func(l *adminListener) {
		if err := asked.Serve(serving, l.open(), l.guard); err != nil {
			log.Error("the admin endpoint has ended", "address", l.Addr().String(), "error", err)
		}
	}
	for _, l := range admin {
		others.Go(func() { answer(l) })
	}
	if waits {
		others.Go(func() {
			if l := awaitAdmin(serving, cfg, log); l != nil {
				again.add(l.Listener)
				answer(l)
			}
		})
	}

	err = server.Serve(serving, listeners...)
	end.begin() // another padlock may have taken over, without a signal
	cancel()
	closeLogs()
	others.Wait()
	runtime.KeepAlive(floor)
	return err
}

// sayFinishing says at the end of ctx what is waited for. The function that it returns waits until that is said, as the end may be faster.
func (d *daemon) sayFinishing(ctx context.Context, end *farewell, limit time.Duration) (stop func()) {
	told := make(chan struct{})
	pending := context.AfterFunc(ctx, func() {
		defer close(told)
		d.Reporter.Stopping(proxy.ShutdownLimit(ctx, limit))
	})
	return func() {
		if !pending() {
			end.await(accessBy, func() { <-told })
		}
	}
}

// bind opens the listeners, or takes over those that are open, and then becomes the user that the configuration names. All else is
// done as that user.
func (d *daemon) bind(cfg *config.Config, log *slog.Logger) ([]proxy.Listener, *inherited, error) {
	before, err := inherit()
	if err != nil {
		return nil, nil, err
	}
	listeners, err := d.listen(cfg, d.OtherPorts, before)
	if err != nil {
		return nil, nil, err
	}
	if cfg.User != "" {
		openPackets(cfg, listeners)
		if err := becomeUser(cfg); err != nil {
			closeListeners(listeners)
			return nil, nil, err
		}
		d.warnUnreadable(cfg, log)
	}
	return listeners, before, nil
}

// warn says loudly what weakens security. A command without a file is for a machine where somebody develops.
func warn(cfg *config.Config, development bool, log *slog.Logger) {
	if !development && os.Geteuid() == 0 && os.Getpid() != 1 { // a container's process 1 has what the container was given
		log.Warn("padlock stays root, and needs it only for ports below 1024", "remedy", "name the user that it shall become: user (--user)")
	}
	for _, site := range cfg.Sites {
		if site.TLS.LegacyRSA {
			log.Warn("RSA key exchange is on: who ever gets the certificate's key can read recorded connections", "site", site.Hosts[0], "key", "tls.legacy_rsa_key_exchange")
		}
	}
	for _, site := range cfg.Sites {
		for _, route := range site.Routes {
			if slices.ContainsFunc(route.Upgrades, func(protocol string) bool { return strings.EqualFold(protocol, "h2c") }) {
				log.Warn("clients may go over to h2c: their requests reach the target without padlock's rules for paths, methods and fields", "site", site.Hosts[0], "route", cmp.Or(route.Path, route.Exact, "/"), "key", "upgrades")
			}
		}
	}
	if cfg.Handshakes.Capture != "" {
		log.Warn("handshakes are captured with their secrets", "file", cfg.Handshakes.Capture)
	}
}

// covered refuses names for which there is no certificate.
func covered(cfg *config.Config, k *keeper) error {
	var wrong config.Errors
	first := ""
	for i, site := range cfg.Sites {
		if site.Passthrough() {
			continue
		}
		for j, host := range site.Hosts {
			if host == "*" || k.covers(host) {
				continue
			}
			first = cmp.Or(first, strings.TrimPrefix(host, "*."))
			wrong = append(wrong, config.Error{
				Path:    fmt.Sprintf("sites[%d].hosts[%d]", i, j),
				Message: fmt.Sprintf("there is no certificate for %s, and the local CA is not for such a name", host),
			})
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return hint.Add(wrong, "give one (--cert and --key, or certificates.files), use a name such as app.localhost or app.test, or let the local CA sign for it: padlock trust --allow "+first)
}

// recorder is nil when handshakes are off.
func (d *daemon) recorder(cfg *config.Config, seen *seen, end *farewell, log *slog.Logger) (*handshake.Recorder, func(), error) {
	c := cfg.Handshakes
	if c.Show == "off" {
		return nil, func() {}, nil
	}
	out, err := d.output(c.Output, c.Rotate, log)
	if err != nil {
		return nil, nil, err
	}
	capture, closeCapture, err := d.capture(c, log)
	if err != nil {
		out.close()
		return nil, nil, err
	}
	lines := newLineQueue(out, nil) // Quiet sums up what is lost
	var sink handshake.Sink
	summary := handshake.SummaryText(lines)
	switch c.Format {
	case "line":
		sink = handshake.NewLine(lines)
	case "json":
		sink, summary = handshake.NewJSON(lines), handshake.SummaryJSON(lines)
	default:
		sink = handshake.NewStory(lines, terminal.Story(out.stream))
	}
	if c.Show == "failures" {
		sink = handshake.Failures(sink)
	}
	var recorder *handshake.Recorder
	quiet := handshake.NewQuiet(sink, handshake.QuietOptions{
		Sample: c.Sample, Summary: summary, Dropped: func() uint64 { return recorder.Dropped() },
	})
	recorder = handshake.NewRecorder(handshake.Options{
		Log: log, Sinks: append(seen.sinks(), quiet), Capture: capture, Packets: seen.packets, Lost: func() uint64 { return lines.Lost() + out.Lost() },
		Privacy: privacy(cfg),
	})
	return recorder, func() {
		last, cancel := end.within(handshakesBy)
		defer cancel()
		before := recorder.Dropped()
		over := end.await(handshakesBy, func() { recorder.Close(); quiet.Close(); closeCapture() })
		told := lines.close(last)
		if !over || !told || !end.await(handshakesBy, out.close) {
			log.Warn("handshakes are not told: what reads them takes no more", "output", cmp.Or(c.Output, "stderr"), "count", recorder.Dropped()-before)
		}
	}, nil
}

const captureLimit = 256 << 20

// capture is nil unless it was asked for.
func (d *daemon) capture(c config.Handshakes, log *slog.Logger) (*handshake.Capture, func(), error) {
	if c.Capture == "" {
		return nil, func() {}, nil
	}
	f := &captureFile{name: c.Capture, to: handshake.NewCapture(captureLimit, log)}
	switch err := f.reopen(); {
	case regular.Unwritable(err):
		log.Warn("handshakes are not captured, as the file cannot be written; padlock goes on without", "error", err, "remedy", "free some space there, or make it writable, and send SIGUSR1")
	case err != nil:
		return nil, nil, fmt.Errorf("opening the capture: %w", err)
	}
	d.logs.add(f)
	return f.to, f.close, nil
}

// accessLog is nil when it is off.
func (d *daemon) accessLog(c config.AccessLog, log *slog.Logger) (*logOutput, func(), error) {
	if c.Format == "off" {
		return nil, func() {}, nil
	}
	out, err := d.output(c.Output, c.Rotate, log)
	if err != nil {
		return nil, nil, err
	}
	out.gather()
	return out, out.close, nil
}
