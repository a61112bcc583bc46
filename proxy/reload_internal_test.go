package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"padlock/config"
)

type noCertificates struct{}

func (noCertificates) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }

// A server has one configuration: who comes for many clients is decided by the one that is served, as whose word on the client is taken.
func TestAReloadBringsOtherTrustedProxies(t *testing.T) {
	at := func(trusted string) *config.Config {
		cfg, err := config.Parse("padlock.yaml", []byte("trusted_proxies: ["+trusted+"]\nsites: [{hosts: [localhost], routes: [{respond: {body: x}}]}]\n"))
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	s, err := New(at("192.0.2.0/24"), Dependencies{Certificates: noCertificates{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	defer close(s.ending)
	if s.lot != nil {
		defer s.lot.Close()
	}

	former, next := netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("198.51.100.7/32")
	if !s.slots.exempt(former) || s.slots.exempt(next) {
		t.Error("the first configuration is not followed")
	}
	if err := s.Reload(at("198.51.100.0/24"), nil); err != nil {
		t.Fatal(err)
	}
	if s.slots.exempt(former) || !s.slots.exempt(next) {
		t.Error("the reloaded configuration is not followed")
	}
}

// A reload that is being built keeps the end from nothing, and nothing of it is served afterwards.
func TestTheEndWaitsForNoReloadThatIsBeingBuilt(t *testing.T) {
	cfg, err := config.Parse("padlock.yaml", []byte("sites: [{hosts: [localhost], routes: [{respond: {body: x}}]}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	server, err := New(cfg, Dependencies{Certificates: noCertificates{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	server.reloading.Lock() // as the reload has it
	server.Close()
	if err := server.reload(cfg, func() { t.Error("it is served") }); !errors.Is(err, ErrEnded) {
		t.Error(err)
	}
	server.reloading.Unlock()
	if server.publish(server.current.Load(), func() { t.Error("it is published") }) {
		t.Error("it is in force")
	}
}

// What holds up the targets at the end, such as a reload that publishes its configuration and waits for a disk, is left behind.
func TestTheEndLeavesTargetsBehindThatDoNotClose(t *testing.T) {
	cfg, err := config.Parse("padlock.yaml", []byte("sites: [{hosts: [localhost], routes: [{respond: {body: x}}]}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	server, err := New(cfg, Dependencies{Certificates: noCertificates{}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}

	publishing, published := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(published)
		server.publish(server.current.Load(), func() { publishing <- struct{}{}; <-publishing })
	}()
	<-publishing
	over, cancel := context.WithCancel(t.Context())
	cancel()
	server.closeWithin(over)
	if !strings.Contains(log.String(), "left behind") {
		t.Errorf("the log has %q", log.String())
	}

	close(publishing)
	<-published
	server.Close()
}

// What the end waits for has a name.
func TestTheEndNamesWhatItWaitsFor(t *testing.T) {
	s := &Server{}
	if got := s.Ending(); got != "the proxy" {
		t.Error(got)
	}
	s.waits.during("targets", func() {
		s.waits.during("HTTP/3", func() {
			if got := s.Ending(); got != "the proxy (HTTP/3, targets)" {
				t.Error(got)
			}
		})
	})
	if got := s.Ending(); got != "the proxy" {
		t.Error(got)
	}
}
