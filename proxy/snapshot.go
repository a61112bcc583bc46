package proxy

import (
	"crypto/tls"

	"padlock/config"
	"padlock/handshake"
	"padlock/proxy/gateway"
	"padlock/proxy/sites"
	"padlock/proxy/upstream"
	"padlock/traffic"
)

// snapshot is what a configuration comes to. Published behind one pointer, it never changes.
type snapshot struct {
	*gateway.Routes
	services map[*sites.Site]*service // those whose bytes are forwarded

	challenge *tls.Config // of a CA's validation
	stranger  *tls.Config // of clients that name a host that is not here: no certificate
}

// newSnapshot builds a snapshot. What an older one has, and stays as it is, is used again: TLS policies and targets.
func newSnapshot(cfg *config.Config, deps Dependencies, targets *upstream.Targets, book *traffic.Book, g *gateway.Gateway, older *snapshot) (*snapshot, error) {
	o := sites.Options{TLS: baseTLS(cfg, deps.Certificates.GetCertificate, deps.Recorder), Targets: targets, Book: book}
	if older != nil {
		o.Older = older.Snapshot
	}
	decides, err := sites.New(cfg, o)
	if err != nil {
		return nil, err
	}

	s := &snapshot{Routes: g.Compile(decides), services: map[*sites.Site]*service{}}
	for _, site := range s.Sites {
		if site.TCP != nil {
			s.services[site] = newService(site.TCP, exempt(cfg))
		}
	}

	if deps.Challenges != nil {
		s.challenge = baseTLS(cfg, deps.Challenges.ChallengeCertificate, deps.Recorder)
		s.challenge.NextProtos, s.challenge.SessionTicketsDisabled = []string{acmeALPN}, true
	}

	s.stranger = baseTLS(cfg, func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }, deps.Recorder)
	// A session ticket from another policy would take the place of a certificate.
	s.stranger.SessionTicketsDisabled = true
	return s, nil
}

// baseTLS leaves cipher suites and groups to crypto/tls, which puts X25519MLKEM768 first.
func baseTLS(cfg *config.Config, choose func(*tls.ClientHelloInfo) (*tls.Certificate, error), recorder *handshake.Recorder) *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS12,
		// Clients that speak HTTP/1.0 alone say so, and the server of HTTP/1.1 answers them (RFC 7301 section 6).
		NextProtos: []string{"h2", "http/1.1", "http/1.0"},
		// A second record for a response of one kilobyte would be a second system call.
		DynamicRecordSizingDisabled: true,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			certificate, err := choose(hello)
			if trace, ok := handshake.FromHello(hello); ok {
				trace.Certificate(certificate)
			} else if f, ok := hello.Context().Value(flowKey{}).(*flow); ok && f.trace != nil {
				f.trace.Certificate(certificate)
			}
			return certificate, err
		},
	}

	if recorder != nil {
		c.KeyLogWriter = recorder
	}
	if cfg.TLS.MinVersion == "1.3" {
		c.MinVersion = tls.VersionTLS13
	}
	return c
}
