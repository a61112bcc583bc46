package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
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

// seen is where handshakes go besides the log: what the console shows, and metrics count.
type seen struct {
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

func newSeen(cfg *config.Config, version string, tracer *tracing.Tracer) *seen {
	s := &seen{recent: handshake.NewRecent(remembered), trends: console.NewTrends(), metrics: console.NewMetrics(version), tracer: tracer}
	if cfg.Handshakes.InsecureExportSecrets {
		s.packets = handshake.NewPackets(rememberedPackets)
	}
	return s
}

func (s *seen) sinks() []handshake.Sink {
	sinks := []handshake.Sink{s.recent, s.trends, s.metrics}
	if s.tracer != nil {
		sinks = append(sinks, s.tracer)
	}
	return sinks
}

// options are what the admin endpoint tells of.
func (s *seen) options(version string, server *proxy.Server, recorder *handshake.Recorder, k *keeper, reload func() error, ctx context.Context) console.Options {
	o := console.Options{
		Version: version, Trends: s.trends, Metrics: s.metrics, Traffic: server.Traffic, Certificates: k.status, Reload: reload,
		UnusableFiles: k.unusable, Leaving: func() bool { return ctx.Err() != nil },
	}
	if recorder != nil {
		o.Recent, o.Lost = s.recent, recorder.Dropped
	}
	if s.tracer != nil {
		o.TracesLost = s.tracer.Lost
	}
	if s.packets != nil {
		o.Packets = s.packets.Of
	}
	return o
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
func consoleURL(all []*adminListener) string {
	for _, l := range all {
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

// listenAdmin opens the admin endpoint: a socket, and an address where there is one. A socket for which the disk has no room now is opened
// later, by awaitAdmin.
func listenAdmin(cfg *config.Config, log *slog.Logger, before *inherited, k *keeper) (all []*adminListener, waits bool, err error) {
	if cfg.Admin.Off() {
		return nil, false, nil
	}
	l, err := adminSocket(cfg, before)
	switch {
	case regular.Unwritable(err):
		log.Warn("the admin endpoint's socket cannot be made; padlock tries again until it can", "error", err, "remedy", "free some space there, or make it writable")
		waits = true
	case err != nil && cfg.Admin.Address == "unix:"+cfg.AdminSocket():
		return nil, false, err
	case err != nil:
		log.Info("no admin endpoint on the socket", "reason", err, "remedy", hint.Of(err))
	default:
		all = append(all, newAdminSocket(l))
	}
	if cfg.Admin.TCP() != "" {
		l, err := adminTCP(cfg, before, k)
		if err != nil {
			closeAdmin(all)
			return nil, false, err
		}
		all = append(all, l)
	}
	return all, waits, nil
}

func newAdminSocket(l net.Listener) *adminListener {
	return &adminListener{Listener: proxy.Listener{Listener: l, Address: adminSocketName}, guard: console.Guard{Network: "unix"}}
}

const adminEvery = 5 * time.Second // between attempts to make the socket

// awaitAdmin opens the socket as soon as the disk lets it. It is nil when ctx ends first, or another padlock has taken the place.
func awaitAdmin(ctx context.Context, cfg *config.Config, log *slog.Logger) *adminListener {
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

func closeAdmin(all []*adminListener) {
	for _, l := range all {
		l.Close()
	}
}

// adminSocket opens the socket, which another padlock of the same storage may have already: then this one has none.
func adminSocket(cfg *config.Config, before *inherited) (net.Listener, error) {
	if l, ok := before.named[adminSocketName]; ok {
		delete(before.named, adminSocketName)
		return l, nil
	}
	path := cfg.AdminSocket()
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
		left = os.Remove(path) // a process that was killed has left it; anything else is somebody's file
	}
	l, err := net.Listen("unix", path)
	if err == nil {
		err = errors.Join(os.Chmod(path, 0o600), invoker.GiveSocket(path))
	}
	if err != nil {
		if before := errors.Join(unmade, left); regular.Unwritable(before) {
			err = before // Listen only says that the address is in use, or that there is no directory
		}
		remedy := "choose another --admin address, or off"
		if info, failed := os.Lstat(path); failed == nil && info.Mode()&fs.ModeSocket == 0 {
			remedy = fmt.Sprintf("%s is no socket: remove it, or choose another --admin address, or off", path)
		}
		return nil, hint.Add(fmt.Errorf("opening the admin endpoint: %w", err), remedy)
	}
	return l, nil
}

func adminTCP(cfg *config.Config, before *inherited, k *keeper) (*adminListener, error) {
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
	if listener.tls, err = adminTLS(a, k); err != nil {
		l.Close()
		return nil, err
	}
	return listener, nil
}

// adminTLS is for clients on other machines.
func adminTLS(a *config.Admin, k *keeper) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: k.GetCertificate}
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
	c.SessionTicketsDisabled = true // a ticket must not stand in for a certificate
	return c, nil
}
