package proxy

import (
	"crypto/tls"
	"fmt"
	"strings"

	"padlock/config"
	"padlock/internal/lastgood"
	"padlock/proxy/upstream"
	"padlock/traffic"
)

// snapshot is what a configuration says of sites. Published behind one pointer, it never changes.
type snapshot struct {
	cfg      *config.Config
	tables   map[string]*table // by the address of a listener with sites of its own; "" for all others
	trusted  []config.Network  // proxies whose word on the client is taken
	plain    *tlsPolicy        // of sites that ask for nothing
	policies map[string]*tlsPolicy
	tells    bool // some site tells its target of the handshake
	groups   []*upstream.Group
	files    *lastgood.Values // by which clients and targets are judged
	sites    []*site
	routes   int // of all sites
}

// table has the sites of a listener by their names.
type table struct {
	exact    map[string]*site
	wildcard map[string]*site // "*.example.com" stands under "example.com"
	fallback *site            // "*"
	unnamed  *site            // of clients that send no name: the only site of a listener of its own
	plain    *tlsPolicy       // for names that are not here

	passes   bool // some site leaves TLS to its target
	startTLS bool // some site may begin in plaintext
}

// tlsPolicy is what a connection was made under. Two policies are the same only if they are the same pointer, which a policy that
// stays the same keeps over a reload.
type tlsPolicy struct {
	config *tls.Config
	auth   *clientAuth // nil: clients are not asked for a certificate
}

// snapshotOptions are what a snapshot is made of.
type snapshotOptions struct {
	tls     *tls.Config // of sites that ask for nothing
	targets *upstream.Targets
	book    *traffic.Book
	older   *snapshot // what it has, and stays as it is, is used again: TLS policies and targets; nil: there is none
}

func newSnapshot(cfg *config.Config, o snapshotOptions) (*snapshot, error) {
	s := &snapshot{cfg: cfg, tables: map[string]*table{}, policies: map[string]*tlsPolicy{}, trusted: cfg.Trusted}
	known := map[string]*tlsPolicy{}
	if o.older != nil {
		known = o.older.policies
		s.files = lastgood.After(o.older.files)
	} else {
		s.files = lastgood.After(nil)
	}
	defer s.files.Forget()
	s.plain = s.share(cfg.TLS.MinVersion, known, &tlsPolicy{config: o.tls})
	s.tables[""] = newTable(s.plain)
	b := &builder{cfg: cfg, targets: o.targets, book: o.book, files: s.files}
	for i := range cfg.Sites {
		if err := s.add(b, &cfg.Sites[i], known); err != nil {
			closeGroups(b.groups)
			return nil, err
		}
	}
	s.groups = b.groups
	return s, nil
}

func newTable(plain *tlsPolicy) *table {
	return &table{exact: map[string]*site{}, wildcard: map[string]*site{}, plain: plain}
}

// share finds the policy of a key among those of the older state and this one, or adds it.
func (s *snapshot) share(key string, known map[string]*tlsPolicy, made *tlsPolicy) *tlsPolicy {
	policy, ok := s.policies[key]
	if !ok {
		if policy, ok = known[key]; !ok {
			policy = made
		}
		s.policies[key] = policy
	}
	return policy
}

func (s *snapshot) add(b *builder, c *config.Site, known map[string]*tlsPolicy) error {
	made, key, err := sitePolicy(c, s.plain, s.files)
	if err != nil {
		return err
	}
	built, err := b.site(c, s.share(b.cfg.TLS.MinVersion+key, known, made))
	if err != nil {
		return err
	}
	s.sites = append(s.sites, built)
	for _, r := range built.routes {
		s.tells = s.tells || r.handshake
		r.index = s.routes
		s.routes++
	}
	if len(c.Listen) == 0 {
		s.tables[""].add(c, built)
		return nil
	}
	own, ok := s.tables[c.Listen[0]]
	if !ok {
		own = newTable(s.plain)
		own.unnamed = built
	} else {
		own.unnamed = nil // which of them could not be told
	}
	own.add(c, built)
	for _, address := range c.Listen {
		s.tables[address] = own
	}
	return nil
}

func (t *table) add(c *config.Site, built *site) {
	t.passes = t.passes || c.Passthrough()
	t.startTLS = t.startTLS || c.TCP != nil && c.TCP.StartTLS != ""
	for _, host := range c.Hosts {
		switch suffix, wildcard := strings.CutPrefix(host, "*."); {
		case host == "*":
			t.fallback = built
		case wildcard:
			t.wildcard[suffix] = built
		default:
			t.exact[host] = built
		}
	}
}

// table is that of the listener with this address. Connections of listeners that sites had to themselves, and that a reload has taken
// away, find those of all others; their TLS policy is then another, but for plain ones.
func (s *snapshot) table(listener string) *table {
	if found, ok := s.tables[listener]; ok {
		return found
	}
	return s.tables[""]
}

// own reports whether a listener has sites of its own.
func (s *snapshot) own(listener string) bool {
	_, ok := s.tables[listener]
	return ok && listener != ""
}

// site finds the site of a Host value, and the name's canonical form: exact, then wildcard for one label as in a certificate, then the
// fallback.
func (t *table) site(host string) (found *site, name string) {
	name, ok := hostname(host)
	if !ok {
		return nil, ""
	}
	return t.named(name), name
}

// named is nil for names that are not here.
func (t *table) named(name string) *site {
	if found, ok := t.exact[name]; ok {
		return found
	}
	if _, parent, ok := strings.Cut(name, "."); ok {
		if found, ok := t.wildcard[parent]; ok {
			return found
		}
	}
	return t.fallback
}

// asked is the site that a client asks for by its hello, nil if there is none. A client that connects to an address sends no server name
// (RFC 6066 section 3): it asks for the site that has the local address of the connection, as the certificate is chosen by that, too.
func (t *table) asked(sni, local string) *site {
	if name, ok := config.CanonicalHost(sni); ok {
		if found := t.named(name); found != nil {
			return found
		}
	}
	if sni != "" {
		return t.fallback
	}
	if address, ok := config.CanonicalHost(hostOnly(local)); ok && t.exact[address] != nil {
		return t.exact[address]
	}
	if t.unnamed != nil {
		return t.unnamed
	}
	return t.fallback
}

// policy is the TLS policy for a site; without one the plain policy, under which no site that asks for client certificates can be
// reached.
func (t *table) policy(asked *site) *tlsPolicy {
	if asked == nil {
		return t.plain
	}
	return asked.policy
}

// close lets go of the targets; open requests finish.
func (s *snapshot) close() { closeGroups(s.groups) }

func closeGroups(groups []*upstream.Group) {
	for _, g := range groups {
		g.Close()
	}
}

// sitePolicy is a site's own policy. Its key is the same for policies that are.
func sitePolicy(c *config.Site, plain *tlsPolicy, files *lastgood.Values) (policy *tlsPolicy, key string, err error) {
	if c.TLS.ClientAuth == nil && !c.TLS.LegacyRSA && c.TCP == nil {
		return plain, "", nil
	}
	policy = &tlsPolicy{config: plain.config.Clone()}
	if c.TLS.LegacyRSA {
		policy.config.CipherSuites = legacySuites()
		key = " legacy"
	}
	if c.TCP != nil {
		policy.config.NextProtos = c.TCP.ALPN
		key += fmt.Sprintf(" tcp %q", c.TCP.ALPN)
	}
	if c.TLS.ClientAuth != nil {
		var own string
		policy.auth, own, err = newClientAuth(c.TLS.ClientAuth, files)
		if err != nil {
			return nil, "", fmt.Errorf("client certificates of site %s: %w", c.Hosts[0], err)
		}
		policy.auth.apply(policy.config)
		key += own
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
