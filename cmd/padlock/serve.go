package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"

	"padlock/certs"
	"padlock/certs/localca"
	"padlock/config"
	"padlock/console"
	"padlock/handshake"
	"padlock/proxy"
)

// remembered handshakes, for the built-in page.
const remembered = 256

// serve runs a configuration until ctx ends. Where the ports were not chosen by the user, others may take their place.
func (p *program) serve(ctx context.Context, cfg *config.Config, otherPorts bool) error {
	log := slog.New(slog.NewTextHandler(p.stderr, nil))
	ca, err := localca.Open(cfg.Storage, localca.Options{Organization: cfg.Organization})
	if err != nil {
		return err
	}
	source, err := certs.New(certs.Options{Files: cfg.Certificates.Files, Local: ca, Log: log})
	if err != nil {
		return err
	}
	if err := covered(cfg, source); err != nil {
		return err
	}
	recent := handshake.NewRecent(remembered)
	recorder, closeOutput, err := p.recorder(cfg.Handshakes, recent, log)
	if err != nil {
		return err
	}
	defer closeOutput()
	access, closeAccess, err := p.accessLog(cfg.AccessLog)
	if err != nil {
		return err
	}
	defer closeAccess()
	page := console.NewPage(console.PageOptions{Recent: recent})
	server, err := proxy.New(cfg, proxy.Dependencies{Certificates: source, Recorder: recorder, Page: page, Log: log, AccessLog: access})
	if err != nil {
		return err
	}
	https, plain, err := p.listen(cfg, otherPorts)
	if err != nil {
		return err
	}
	p.announce(cfg, ca, https)
	return server.Serve(ctx, https, plain)
}

// covered refuses names for which there is no certificate.
func covered(cfg *config.Config, source *certs.Source) error {
	for _, site := range cfg.Sites {
		for _, host := range site.Hosts {
			if host != "*" && !source.Covers(host) {
				return hinted{
					fmt.Errorf("there is no certificate for %s, and the local CA is not for such a name", host),
					"give one (--cert and --key, or certificates.files), use a name such as app.localhost or app.test, or let the local CA sign for it: padlock trust --allow " + strings.TrimPrefix(host, "*."),
				}
			}
		}
	}
	return nil
}

// recorder is nil when handshakes are off.
func (p *program) recorder(c config.Handshakes, recent *handshake.Recent, log *slog.Logger) (*handshake.Recorder, func(), error) {
	if c.Show == "off" {
		return nil, func() {}, nil
	}
	w, closeFile, err := p.output(c.Output)
	if err != nil {
		return nil, nil, err
	}
	var sink handshake.Sink
	switch c.Format {
	case "line":
		sink = handshake.NewLine(w)
	case "json":
		sink = handshake.NewJSON(w)
	default:
		sink = handshake.NewStory(w, terminal(w))
	}
	if c.Show == "failures" {
		sink = handshake.Failures(sink)
	}
	recorder := handshake.NewRecorder(handshake.Options{Log: log, Sinks: []handshake.Sink{recent, sink}})
	return recorder, func() { recorder.Close(); closeFile() }, nil
}

func (p *program) accessLog(c config.AccessLog) (io.Writer, func(), error) {
	if c.Format == "off" {
		return nil, func() {}, nil
	}
	return p.output(c.Output)
}

func (p *program) output(name string) (io.Writer, func(), error) {
	switch name {
	case "stderr", "":
		return p.stderr, func() {}, nil
	case "stdout":
		return p.stdout, func() {}, nil
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("opening the log: %w", err)
	}
	return f, func() { f.Close() }, nil
}

// listen opens every listener or none. 443 and 80 give way to 8443 and 8080 where they were not asked for by name.
func (p *program) listen(cfg *config.Config, otherPorts bool) (https, plain []net.Listener, err error) {
	https, err = listenAll(cfg.Listen.HTTPS)
	if err != nil && otherPorts && givesWay(err) {
		https, err = listenAll(withPort(cfg.Listen.HTTPS, "8443"))
	}
	if err != nil {
		return nil, nil, listenError(err)
	}
	plain, err = listenAll(cfg.Listen.HTTP)
	if err != nil && otherPorts && givesWay(err) {
		plain, err = listenAll(withPort(cfg.Listen.HTTP, "8080"))
		if err != nil {
			fmt.Fprintf(p.stderr, "padlock: no port for plain HTTP (80 and 8080 are taken), so http:// is not redirected\n")
			return https, nil, nil
		}
	}
	if err != nil {
		closeListeners(https)
		return nil, nil, listenError(err)
	}
	return https, plain, nil
}

// listenAll leaves out [::1] on machines without IPv6.
func listenAll(addresses []string) ([]net.Listener, error) {
	var open []net.Listener
	for _, address := range addresses {
		l, err := net.Listen("tcp", address)
		if errors.Is(err, syscall.EADDRNOTAVAIL) && strings.HasPrefix(address, "[::1]") && len(open) > 0 {
			continue
		}
		if err != nil {
			closeListeners(open)
			return nil, err
		}
		open = append(open, l)
	}
	return open, nil
}

func closeListeners(listeners []net.Listener) {
	for _, l := range listeners {
		l.Close()
	}
}

func givesWay(err error) bool {
	return errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EACCES)
}

func withPort(addresses []string, port string) []string {
	out := make([]string, len(addresses))
	for i, address := range addresses {
		host, _, _ := net.SplitHostPort(address)
		out[i] = net.JoinHostPort(host, port)
	}
	return out
}

func listenError(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return hinted{err, "stop what listens there, or choose another address: --listen 127.0.0.1:9443"}
	case errors.Is(err, syscall.EACCES):
		return hinted{err, "ports below 1024 need a privilege; choose a higher one: --listen 127.0.0.1:8443"}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return hinted{err, "this machine does not have that address; --listen 127.0.0.1:8443 always works"}
	}
	return err
}

// announce prints the URL, and what else a person must know before using it.
func (p *program) announce(cfg *config.Config, ca *localca.CA, https []net.Listener) {
	host := cfg.Sites[0].Hosts[0]
	if host == "*" {
		host = "localhost"
	}
	_, port, _ := net.SplitHostPort(https[0].Addr().String())
	url := "https://" + host
	if strings.Contains(host, ":") {
		url = "https://[" + host + "]"
	}
	if port != "443" {
		url += ":" + port
	}
	to := "a page that shows your own handshake"
	if routes := cfg.Sites[0].Routes; len(routes) > 0 && len(routes[0].To) > 0 {
		to = routes[0].To[0].String()
		if conn, err := net.DialTimeout(routes[0].To[0].Network, routes[0].To[0].Address, cfg.Timeouts.Connect); err != nil {
			to += " (not listening yet; that is fine)"
		} else {
			conn.Close()
		}
	}
	fmt.Fprintf(p.stdout, "padlock: %s → %s\n", url, to)
	if len(cfg.Certificates.Files) == 0 {
		fmt.Fprintf(p.stdout, "padlock: if the browser warns, run once: padlock trust (local CA %s…)\n", ca.Fingerprint()[:23])
	}
}
