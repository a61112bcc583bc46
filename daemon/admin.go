package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"padlock/config"
	"padlock/console"
	"padlock/handshake"
	"padlock/internal/hint"
	"padlock/internal/invoker"
	"padlock/internal/pemfile"
	"padlock/internal/regular"
	"padlock/proxy"
	"padlock/tracing"
)

// observers are where handshakes go besides the log: what the console shows, and metrics count.
type observers struct {
	recent  *handshake.Recent
	trends  *console.Trends
	metrics *console.Metrics
	packets *handshake.Packets // nil unless secrets may be given away
	tracer  *tracing.Tracer    // nil: there are no traces
}

const (
	remembered        = 512      // handshakes, and as many failures
	rememberedPackets = 16 << 20 // bytes
)

func newObservers(cfg *config.Config, version string, tracer *tracing.Tracer) *observers {
	o := &observers{recent: handshake.NewRecent(remembered), trends: console.NewTrends(), metrics: console.NewMetrics(version), tracer: tracer}
	// A packet capture is of use only with the secrets that open it.
	if cfg.Handshakes.InsecureExportSecrets {
		o.packets = handshake.NewPackets(rememberedPackets)
	}
	return o
}

func (o *observers) sinks() []handshake.Sink {
	sinks := []handshake.Sink{o.recent, o.trends, o.metrics}
	if o.tracer != nil {
		sinks = append(sinks, o.tracer)
	}
	return sinks
}

// adminEndpoint is where the console, metrics, status and reload answer: on a socket, and on an address where there
// is one.
type adminEndpoint struct {
	listeners []*adminListener
	waits     bool // there is no room for the socket now; awaitSocket opens it later
	tasks     *tasks
}

// adminListener is one place where the admin endpoint answers.
type adminListener struct {
	proxy.Listener
	guard console.Guard
	tls   *tls.Config // nil: none
}

func (l *adminListener) open() net.Listener {
	if l.tls == nil {
		return l.Listener.Listener
	}
	return tls.NewListener(l.Listener.Listener, l.tls)
}

// consoleURL is where a browser finds the console; "": only on the socket.
func (a *adminEndpoint) consoleURL() string {
	for _, l := range a.listeners {
		switch {
		case l.Address != adminTCPName:
		case l.tls != nil:
			return "https://" + l.Addr().String()
		default:
			return "http://" + l.Addr().String()
		}
	}
	return ""
}

// Names of the admin endpoint among the listeners that a restart passes on.
const (
	adminSocketName = "admin"
	adminTCPName    = "admin-tcp"
)

// listenAdmin opens the listeners of the admin endpoint.
func (d *daemon) listenAdmin() (*adminEndpoint, error) {
	a := &adminEndpoint{}
	if d.cfg.Admin.Off() {
		return a, nil
	}

	l, err := adminSocket(d.cfg, d.inherited)
	switch {
	case regular.Unwritable(err):
		d.log.Warn("the admin endpoint's socket cannot be made; padlock tries again until it can", "error", err, "remedy", "free some space there, or make it writable")
		a.waits = true
	case err != nil && d.cfg.Admin.Address == "unix:"+d.cfg.AdminSocket():
		return nil, err
	// Nobody has asked for this socket by name, and padlock serves without it.
	case err != nil:
		d.log.Info("no admin endpoint on the socket", "reason", err, "remedy", hint.Of(err))
	default:
		a.listeners = append(a.listeners, newAdminSocket(l))
	}

	if d.cfg.Admin.TCP() != "" {
		l, err := adminTCP(d.cfg, d.inherited, d.certificates)
		if err != nil {
			a.closeListeners()
			return nil, err
		}
		a.listeners = append(a.listeners, l)
	}

	return a, nil
}

func (a *adminEndpoint) closeListeners() {
	for _, l := range a.listeners {
		l.Close()
	}
}

// serveAdmin answers until stopAdmin, or until the end begins.
func (d *daemon) serveAdmin(ctx context.Context) error {
	pages := console.NewAdmin(d.adminOptions(ctx))
	tasks := newTasks(d.serving)
	d.admin.tasks = tasks

	answer := func(l *adminListener) {
		if err := pages.Serve(tasks.ctx, l.open(), l.guard); err != nil {
			d.log.Error("the admin endpoint has ended", "address", l.Addr().String(), "error", err)
		}
	}

	if len(d.admin.listeners) > 0 || d.admin.waits {
		tasks.Go(func() { pages.Observe(tasks.ctx) })
	}
	for _, l := range d.admin.listeners {
		tasks.Go(func() { answer(l) })
	}

	if d.admin.waits {
		tasks.Go(func() {
			if l := awaitSocket(tasks.ctx, d.cfg, d.log); l != nil {
				d.restarter.add(l.Listener)
				answer(l)
			}
		})
	}

	return nil
}

func (d *daemon) stopAdmin() { d.admin.tasks.close() }

// adminOptions are what the admin endpoint shows. It is not ready any more when ctx has ended.
func (d *daemon) adminOptions(ctx context.Context) console.Options {
	o := console.Options{
		Version: d.Version, Trends: d.observers.trends, Metrics: d.observers.metrics, Traffic: d.server.Traffic, Certificates: d.certificates.status,
		UnusableFiles: d.certificates.unusable, Leaving: func() bool { return ctx.Err() != nil },
	}
	if d.File != nil {
		o.Reload = d.reloader.reloadByCommand
	}
	o.Requests, o.Replay = d.requests, d.server.Replay
	o.Overrides = d.reloader.words
	o.Commands = map[string]http.HandlerFunc{"POST /maintenance": d.reloader.serveMaintenance, "POST /deploy": d.reloader.serveDeploy, "GET /overrides": d.reloader.serveOverrides}

	if d.recorder != nil {
		o.Recent, o.Dropped = d.observers.recent, d.recorder.Dropped
	}
	if d.tracer != nil {
		o.TracesDropped = d.tracer.Dropped
	}

	if d.observers.packets != nil {
		o.Packets = d.observers.packets.Of
	}

	return o
}

func newAdminSocket(l net.Listener) *adminListener {
	return &adminListener{Listener: proxy.Listener{Listener: l, Address: adminSocketName}, guard: console.Guard{Network: "unix"}}
}

const adminEvery = 5 * time.Second // between attempts to make the socket

// awaitSocket opens the socket as soon as the disk lets it. It is nil when ctx ends first, or another padlock has
// taken the place.
func awaitSocket(ctx context.Context, cfg *config.Config, log *slog.Logger) *adminListener {
	ticker := time.NewTicker(adminEvery)
	defer ticker.Stop()

	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}

		l, err := adminSocket(cfg, &inherited{})
		switch {
		case err == nil:
			log.Info("the admin endpoint answers now", "socket", cfg.AdminSocket())
			return newAdminSocket(l)
		case !regular.Unwritable(err):
			log.Warn("no admin endpoint on the socket", "reason", err)
			return nil
		}
	}
}

// adminSocket opens the socket, which another padlock of the same storage may have already: then this one has none.
func adminSocket(cfg *config.Config, before *inherited) (net.Listener, error) {
	if l, ok := before.named[adminSocketName]; ok {
		delete(before.named, adminSocketName)
		return l, nil
	}

	path := cfg.AdminSocket()
	if err := regular.CheckPlace(path); errors.Is(err, regular.ErrPlanted) {
		return nil, hint.Add(fmt.Errorf("opening the admin endpoint: %w", err), "choose another --admin address, or off")
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, hint.Add(fmt.Errorf("another padlock answers on %s", path), "stop it, or give this one another: --admin unix:PATH")
	}

	var unmade error
	if dir := cfg.StateDirectory(); filepath.Dir(path) == filepath.Clean(dir) {
		unmade = invoker.MkdirAll(dir, 0o700)
	}

	var left error
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSocket != 0 {
		// A process that was killed has left its socket behind. Anything else is somebody's file.
		left = os.Remove(path)
	}

	l, err := listenPrivate(path)
	if err == nil {
		if err = invoker.GiveSocket(path); err != nil {
			l.Close()
		}
	}

	if err != nil {
		if before := errors.Join(unmade, left); regular.Unwritable(before) {
			// Listen reports only that the address is in use, or that there is no directory; this error says why.
			err = before
		}
		remedy := "choose another --admin address, or off"
		if info, failed := os.Lstat(path); failed == nil && info.Mode()&fs.ModeSocket == 0 {
			remedy = fmt.Sprintf("%s is no socket: remove it, or choose another --admin address, or off", path)
		}
		return nil, hint.Add(fmt.Errorf("opening the admin endpoint: %w", err), remedy)
	}

	return l, nil
}

func adminTCP(cfg *config.Config, before *inherited, c *certificateService) (*adminListener, error) {
	a := &cfg.Admin
	l, ok := before.named[adminTCPName]
	delete(before.named, adminTCPName)

	if !ok {
		var err error
		if l, err = net.Listen("tcp", a.TCP()); err != nil {
			return nil, hint.Add(fmt.Errorf("opening the admin endpoint: %w", err), "choose another --admin address, or off")
		}
	}

	listener := &adminListener{
		Listener: proxy.Listener{Listener: l, Address: adminTCPName},
		guard:    console.Guard{Network: "tcp", Hosts: a.Hosts, Remote: a.Guarded(), Token: a.Token},
	}
	if !a.Guarded() {
		return listener, nil
	}

	var err error
	if listener.tls, err = adminTLS(a, c); err != nil {
		l.Close()
		return nil, err
	}

	return listener, nil
}

// adminTLS is for clients on other machines.
func adminTLS(a *config.Admin, certificates *certificateService) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificates.GetCertificate}
	if a.Cert != "" {
		pair, err := pemfile.LoadPair(a.Cert, a.Key)
		if err != nil {
			return nil, hint.Add(fmt.Errorf("the certificate of the admin endpoint: %w", err), "correct admin.cert and admin.key, or leave them out")
		}
		c.GetCertificate, c.Certificates = nil, []tls.Certificate{pair}
	}

	if a.ClientCA == "" {
		return c, nil
	}

	roots, err := pemfile.LoadPool(a.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("admin.client_ca: %w", err)
	}

	c.ClientCAs, c.ClientAuth = roots, tls.RequireAndVerifyClientCert
	// A session ticket must not stand in for a client certificate.
	c.SessionTicketsDisabled = true
	return c, nil
}
