package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"padlock/config"
	"padlock/handshake"
	"padlock/proxy/upstream"
)

// state is what a configuration comes to. Published behind one pointer, it never changes.
type state struct {
	exact    map[string]*site
	wildcard map[string]*site // "*.example.com" stands under "example.com"
	fallback *site            // "*"
	plain    *tlsPolicy       // of sites that ask for no client certificate
	tells    bool             // some site tells its target of the handshake

	challenge *tls.Config // of a CA's validation
}

// site is a set of names with one policy.
type site struct {
	policy    *tlsPolicy
	upstream  *upstream.Upstream // nil: the built-in page
	forwarded bool
	handshake bool // tell the target of the handshake
}

// tlsPolicy is what a connection was made under. Two policies are the same only if they are the same pointer.
type tlsPolicy struct{ config *tls.Config }

func newState(cfg *config.Config, deps Dependencies) (*state, error) {
	base := baseTLS(cfg, deps.Certificates.GetCertificate, deps.Recorder)
	s := &state{exact: map[string]*site{}, wildcard: map[string]*site{}, plain: &tlsPolicy{base}}
	if deps.Challenges != nil {
		s.challenge = baseTLS(cfg, deps.Challenges.ChallengeCertificate, deps.Recorder)
		s.challenge.NextProtos, s.challenge.SessionTicketsDisabled = []string{acmeALPN}, true
	}
	for i := range cfg.Sites {
		if err := s.add(cfg, &cfg.Sites[i], base); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

func (s *state) add(cfg *config.Config, c *config.Site, base *tls.Config) error {
	policy, err := newPolicy(c, s.plain, base)
	if err != nil {
		return err
	}
	built := &site{policy: policy}
	for _, route := range c.Routes {
		built.forwarded, built.handshake = route.Forwarded, route.Handshake
		for _, target := range route.To {
			if built.upstream, err = upstream.New(route, target, cfg.Timeouts); err != nil {
				return err
			}
		}
	}
	s.tells = s.tells || built.handshake
	for _, host := range c.Hosts {
		switch suffix, wildcard := strings.CutPrefix(host, "*."); {
		case host == "*":
			s.fallback = built
		case wildcard:
			s.wildcard[suffix] = built
		default:
			s.exact[host] = built
		}
	}
	return nil
}

// site finds the site of a Host value: exact, then wildcard for one label as in a certificate, then the fallback.
func (s *state) site(host string) (*site, bool) {
	name, ok := hostname(host)
	if !ok {
		return nil, false
	}
	return s.named(name)
}

func (s *state) named(name string) (*site, bool) {
	if found, ok := s.exact[name]; ok {
		return found, true
	}
	if _, parent, ok := strings.Cut(name, "."); ok {
		if found, ok := s.wildcard[parent]; ok {
			return found, true
		}
	}
	return s.fallback, s.fallback != nil
}

// policy is the TLS policy for a server name; without one, or for an unknown one, the plain policy,
// under which no site that asks for client certificates can be reached.
func (s *state) policy(sni string) *tlsPolicy {
	if name, ok := config.CanonicalHost(sni); ok {
		if found, ok := s.named(name); ok {
			return found.policy
		}
	}
	if s.fallback != nil {
		return s.fallback.policy
	}
	return s.plain
}

func (s *state) close() {
	for _, sites := range []map[string]*site{s.exact, s.wildcard, {"*": s.fallback}} {
		for _, site := range sites {
			if site != nil && site.upstream != nil {
				site.upstream.Close()
			}
		}
	}
}

// baseTLS leaves cipher suites and groups to crypto/tls, which puts X25519MLKEM768 first.
func baseTLS(cfg *config.Config, choose func(*tls.ClientHelloInfo) (*tls.Certificate, error), recorder *handshake.Recorder) *tls.Config {
	c := &tls.Config{
		MinVersion:                  tls.VersionTLS12,
		NextProtos:                  []string{"h2", "http/1.1"},
		DynamicRecordSizingDisabled: true, // a second record for a response of a kilobyte is a second system call
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			certificate, err := choose(hello)
			if trace, ok := handshake.FromHello(hello); ok {
				trace.Certificate(certificate)
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

// newPolicy is the site's own policy, or the plain one where the site asks for nothing.
func newPolicy(c *config.Site, plain *tlsPolicy, base *tls.Config) (*tlsPolicy, error) {
	if c.TLS.ClientAuth == nil && !c.TLS.LegacyRSA {
		return plain, nil
	}
	policy := base.Clone()
	if c.TLS.LegacyRSA {
		policy.CipherSuites = legacySuites()
	}
	if c.TLS.ClientAuth != nil {
		if err := askForCertificates(policy, c); err != nil {
			return nil, err
		}
	}
	return &tlsPolicy{policy}, nil
}

// legacySuites are all that are secure, and behind them those in which the client encrypts the key to the certificate (RFC 5246).
func legacySuites() (ids []uint16) {
	for _, suite := range tls.CipherSuites() {
		ids = append(ids, suite.ID)
	}
	return append(ids, tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA)
}

// askForCertificates makes a policy that issues and accepts no session tickets:
// a ticket from elsewhere, or from before its CA changed, must not stand in for the certificate.
func askForCertificates(policy *tls.Config, c *config.Site) error {
	auth := c.TLS.ClientAuth
	bundle, err := os.ReadFile(auth.CA)
	if err != nil {
		return fmt.Errorf("reading the client CA of site %s: %w", c.Hosts[0], err)
	}
	policy.SessionTicketsDisabled = true
	policy.ClientAuth = tls.RequireAndVerifyClientCert
	if auth.Mode == "request" {
		policy.ClientAuth = tls.VerifyClientCertIfGiven
	}
	policy.ClientCAs = x509.NewCertPool()
	if !policy.ClientCAs.AppendCertsFromPEM(bundle) {
		return fmt.Errorf("the client CA file %q of site %s holds no certificate in PEM", auth.CA, c.Hosts[0])
	}
	return nil
}
