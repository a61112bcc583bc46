package proxy

import (
	"crypto/sha256"
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
	plain    *tlsPolicy       // of sites that ask for nothing
	policies map[string]*tlsPolicy
	tells    bool // some site tells its target of the handshake
	groups   []*upstream.Group

	challenge *tls.Config // of a CA's validation
}

// tlsPolicy is what a connection was made under. Two policies are the same only if they are the same pointer, which a policy that
// stays the same keeps over a reload.
type tlsPolicy struct{ config *tls.Config }

// newState builds a state. What an older one has, and stays as it is, is used again: TLS policies and targets.
func newState(cfg *config.Config, deps Dependencies, targets *upstream.Targets, older *state) (*state, error) {
	base := baseTLS(cfg, deps.Certificates.GetCertificate, deps.Recorder)
	s := &state{exact: map[string]*site{}, wildcard: map[string]*site{}, policies: map[string]*tlsPolicy{}}
	known := map[string]*tlsPolicy{}
	if older != nil {
		known = older.policies
	}
	s.plain = s.share(cfg.TLS.MinVersion, known, base)
	if deps.Challenges != nil {
		s.challenge = baseTLS(cfg, deps.Challenges.ChallengeCertificate, deps.Recorder)
		s.challenge.NextProtos, s.challenge.SessionTicketsDisabled = []string{acmeALPN}, true
	}
	b := &builder{cfg: cfg, targets: targets}
	for i := range cfg.Sites {
		if err := s.add(b, &cfg.Sites[i], known); err != nil {
			closeGroups(b.groups)
			return nil, err
		}
	}
	s.groups = b.groups
	return s, nil
}

// share finds the policy of a key among those of the older state and this one, or adds it.
func (s *state) share(key string, known map[string]*tlsPolicy, config *tls.Config) *tlsPolicy {
	policy, ok := s.policies[key]
	if !ok {
		if policy, ok = known[key]; !ok {
			policy = &tlsPolicy{config}
		}
		s.policies[key] = policy
	}
	return policy
}

func (s *state) add(b *builder, c *config.Site, known map[string]*tlsPolicy) error {
	policy := s.plain
	if c.TLS.ClientAuth != nil || c.TLS.LegacyRSA {
		config, key, err := sitePolicy(c, s.plain.config)
		if err != nil {
			return err
		}
		policy = s.share(b.cfg.TLS.MinVersion+key, known, config)
	}
	built, err := b.site(c, policy)
	if err != nil {
		return err
	}
	for _, r := range built.routes {
		s.tells = s.tells || r.handshake
	}
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

// site finds the site of a Host value, and the name's canonical form: exact, then wildcard for one label as in a certificate, then the
// fallback.
func (s *state) site(host string) (found *site, name string) {
	name, ok := hostname(host)
	if !ok {
		return nil, ""
	}
	found, _ = s.named(name)
	return found, name
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

// close lets go of the targets; open requests finish.
func (s *state) close() { closeGroups(s.groups) }

func closeGroups(groups []*upstream.Group) {
	for _, g := range groups {
		g.Close()
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

// sitePolicy is a site's own policy. Its key is the same for policies that are.
func sitePolicy(c *config.Site, base *tls.Config) (policy *tls.Config, key string, err error) {
	policy = base.Clone()
	if c.TLS.LegacyRSA {
		policy.CipherSuites = legacySuites()
		key = " legacy"
	}
	if c.TLS.ClientAuth != nil {
		bundle, err := askForCertificates(policy, c)
		if err != nil {
			return nil, "", err
		}
		key += fmt.Sprintf(" %s %x", c.TLS.ClientAuth.Mode, sha256.Sum256(bundle))
	}
	return policy, key, nil
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
func askForCertificates(policy *tls.Config, c *config.Site) (bundle []byte, err error) {
	auth := c.TLS.ClientAuth
	bundle, err = os.ReadFile(auth.CA)
	if err != nil {
		return nil, fmt.Errorf("reading the client CA of site %s: %w", c.Hosts[0], err)
	}
	policy.SessionTicketsDisabled = true
	policy.ClientAuth = tls.RequireAndVerifyClientCert
	if auth.Mode == "request" {
		policy.ClientAuth = tls.VerifyClientCertIfGiven
	}
	policy.ClientCAs = x509.NewCertPool()
	if !policy.ClientCAs.AppendCertsFromPEM(bundle) {
		return nil, fmt.Errorf("the client CA file %q of site %s holds no certificate in PEM", auth.CA, c.Hosts[0])
	}
	return bundle, nil
}
