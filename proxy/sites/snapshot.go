// Package sites is a configuration's snapshot: which site and which route a request is for, who may come, and what its
// fields become. It decides and answers nothing.
//
//	snapshot, err := sites.New(cfg, sites.Options{TLS: base, Targets: &targets, Book: &book})
//	site, name := snapshot.Hosts(listener).Site(host)
//	route, allowed := site.Route(method, &path, request)
package sites

import (
	"crypto/hmac"
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"sync"

	"padlock/config"
	"padlock/internal/lastgood"
	"padlock/proxy/message"
	"padlock/proxy/upstream"
	"padlock/traffic"
)

// Snapshot is what a configuration says of sites. Published behind one pointer, it never changes.
type Snapshot struct {
	Config           *config.Config
	hosts            map[string]*VirtualHosts // by the address of a listener with sites of its own; "" for all others
	Trusted          []config.Network         // proxies whose word on the client is taken
	plain            *Policy                  // of sites that ask for nothing
	policies         map[string]*Policy
	NeedsFingerprint bool // some route tells its target of the handshake, or counts clients by it
	groups           []*upstream.Group
	Files            *lastgood.Values // by which clients and targets are judged
	Sites            []*Site
	Routes           int // of all sites
	targets          *upstream.Targets
	credentials      []string // names of fields that hold what clients show
}

// Credential reports whether a field holds, on some route, what a client shows to be let in.
func (s *Snapshot) Credential(name string) bool {
	return slices.ContainsFunc(s.credentials, func(other string) bool { return message.Is(other, name) })
}

// VirtualHosts has the sites of a listener by their names.
type VirtualHosts struct {
	exact    map[string]*Site
	wildcard map[string]*Site // "*.example.com" stands under "example.com"
	fallback *Site            // "*"
	unnamed  *Site            // of clients that send no name: the only site of a listener of its own
	plain    *Policy          // for names that are not here

	Passes   bool // some site leaves TLS to its target
	StartTLS bool // some site may begin in plaintext
}

// Policy is what a connection was made under. Two policies are the same only if they are the same pointer, which a
// policy that stays the same keeps over a reload.
type Policy struct {
	Config *tls.Config
	Auth   *ClientAuth // nil: clients are not asked for a certificate
}

// Options are what a snapshot is made of.
type Options struct {
	TLS     *tls.Config       // of sites that ask for nothing
	Targets *upstream.Targets // nil: the snapshot decides, and forwards nothing
	Book    *traffic.Book
	Older   *Snapshot // what it has, and stays as it is, is used again: TLS policies and targets; nil: there is none
}

func New(cfg *config.Config, o Options) (*Snapshot, error) {
	s := &Snapshot{Config: cfg, hosts: map[string]*VirtualHosts{}, policies: map[string]*Policy{}, Trusted: cfg.Trusted, targets: o.Targets, credentials: cfg.CredentialFields()}
	known := map[string]*Policy{}
	if o.Older != nil {
		known = o.Older.policies
		s.Files = lastgood.After(o.Older.Files)
	} else {
		s.Files = lastgood.After(nil)
	}
	// What the older snapshot had read is of use only while this one is built.
	defer s.Files.Forget()
	s.plain = s.share(cfg.TLS.MinVersion, known, &Policy{Config: o.TLS})
	s.hosts[""] = newVirtualHosts(s.plain)
	b := &builder{cfg: cfg, targets: o.Targets, book: o.Book, files: s.Files}
	for i := range cfg.Sites {
		if err := s.add(b, &cfg.Sites[i], known); err != nil {
			// The targets of the sites before this one were taken, and would never be released.
			closeGroups(b.groups)
			return nil, err
		}
	}

	s.groups = b.groups
	return s, nil
}

func newVirtualHosts(plain *Policy) *VirtualHosts {
	return &VirtualHosts{exact: map[string]*Site{}, wildcard: map[string]*Site{}, plain: plain}
}

// share finds the policy of a key among those of the older snapshot and this one, or adds it.
func (s *Snapshot) share(key string, known map[string]*Policy, made *Policy) *Policy {
	policy, ok := s.policies[key]
	if !ok {
		// A policy that has not changed stays the same pointer, so that open connections need not be judged again.
		if policy, ok = known[key]; !ok {
			policy = made
		}
		s.policies[key] = policy
	}
	return policy
}

func (s *Snapshot) add(b *builder, c *config.Site, known map[string]*Policy) error {
	made, key, err := sitePolicy(c, s.plain, s.Files)
	if err != nil {
		return err
	}
	built, err := b.site(c, s.share(b.cfg.TLS.MinVersion+key, known, made))
	if err != nil {
		return err
	}
	s.Sites = append(s.Sites, built)
	s.NeedsFingerprint = s.NeedsFingerprint || built.Access.byFingerprint()
	for _, r := range built.Routes {
		s.NeedsFingerprint = s.NeedsFingerprint || r.Handshake || r.Access.byFingerprint()
		r.Index = s.Routes
		s.Routes++
	}

	if len(c.Listen) == 0 {
		s.hosts[""].add(c, built)
		return nil
	}

	own, ok := s.hosts[c.Listen[0]]
	if !ok {
		own = newVirtualHosts(s.plain)
		own.unnamed = built
	} else {
		// With several sites, nobody knows which of them a client without a server name means.
		own.unnamed = nil
	}

	own.add(c, built)
	for _, address := range c.Listen {
		s.hosts[address] = own
	}

	return nil
}

func (t *VirtualHosts) add(c *config.Site, built *Site) {
	t.Passes = t.Passes || c.Passthrough()
	t.StartTLS = t.StartTLS || c.TCP != nil && c.TCP.StartTLS != ""
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

// Hosts is that of the listener with this address. Connections of listeners that sites had to themselves, and that a
// reload has taken away, find those of all others; their TLS policy is then another, but for plain ones.
func (s *Snapshot) Hosts(listener string) *VirtualHosts {
	if found, ok := s.hosts[listener]; ok {
		return found
	}
	return s.hosts[""]
}

// Own reports whether a listener has sites of its own.
func (s *Snapshot) Own(listener string) bool {
	_, ok := s.hosts[listener]
	return ok && listener != ""
}

// Site finds the site of a Host value, and the name's canonical form: exact, then wildcard for one label as in a
// certificate, then the fallback.
func (t *VirtualHosts) Site(host string) (found *Site, name string) {
	name, ok := hostname(host)
	if !ok {
		return nil, ""
	}
	return t.Named(name), name
}

// Named is nil for names that are not here.
func (t *VirtualHosts) Named(name string) *Site {
	if found, ok := t.exact[name]; ok {
		return found
	}
	// Looked up by what follows the first label, which makes no new string for each request.
	if _, parent, ok := strings.Cut(name, "."); ok {
		if found, ok := t.wildcard[parent]; ok {
			return found
		}
	}
	return t.fallback
}

// Asked is the site that a client asks for by its hello, nil if there is none. A client that connects to an address
// sends no server name (RFC 6066 section 3): it asks for the site that has the local address of the connection, as the
// certificate is chosen by that, too.
func (t *VirtualHosts) Asked(sni, local string) *Site {
	if name, ok := config.CanonicalHost(sni); ok {
		if found := t.Named(name); found != nil {
			return found
		}
	}

	if sni != "" {
		// A name that no site has is not looked for by address: the client has said what it wants.
		return t.fallback
	}
	if address, ok := config.CanonicalHost(HostOnly(local)); ok && t.exact[address] != nil {
		return t.exact[address]
	}
	if t.unnamed != nil {
		return t.unnamed
	}
	return t.fallback
}

// Policy is the TLS policy for a site; without one the plain policy, under which no site that asks for client
// certificates can be reached.
func (t *VirtualHosts) Policy(asked *Site) *Policy {
	if asked == nil {
		return t.plain
	}
	return asked.Policy
}

// Sign is a code that stands for a text, which all nodes make alike and nobody else can make.
func (s *Snapshot) Sign(text string) string { return s.targets.Sign(text) }

// Signed reports whether a code is that of a text.
func (s *Snapshot) Signed(text, code string) bool {
	return hmac.Equal([]byte(code), []byte(s.Sign(text)))
}

// Close lets go of the targets; open requests finish.
func (s *Snapshot) Close() { closeGroups(s.groups) }

// closeGroups closes all at once: each may wait for a health check or for a question to DNS to notice its end.
func closeGroups(groups []*upstream.Group) {
	var all sync.WaitGroup
	for _, g := range groups {
		all.Go(g.Close)
	}
	all.Wait()
}

// sitePolicy is a site's own policy. Its key is the same for policies that are.
func sitePolicy(c *config.Site, plain *Policy, files *lastgood.Values) (policy *Policy, key string, err error) {
	if c.TLS.ClientAuth == nil && !c.TLS.LegacyRSA && c.TCP == nil {
		return plain, "", nil
	}

	// A clone shares the callbacks and none of the settings that follow.
	policy = &Policy{Config: plain.Config.Clone()}
	if c.TLS.LegacyRSA {
		policy.Config.CipherSuites = legacySuites()
		key = " legacy"
	}

	if c.TCP != nil {
		policy.Config.NextProtos = c.TCP.ALPN
		key += fmt.Sprintf(" tcp %q", c.TCP.ALPN)
	}

	if c.TLS.ClientAuth != nil {
		var own string
		policy.Auth, own, err = newClientAuth(c.TLS.ClientAuth, files)
		if err != nil {
			return nil, "", fmt.Errorf("client certificates of site %s: %w", c.Hosts[0], err)
		}
		policy.Auth.apply(policy.Config)
		key += own
	}

	return policy, key, nil
}

// legacySuites are all that are secure, and behind them those in which the client encrypts the key to the certificate
// (RFC 5246).
func legacySuites() (ids []uint16) {
	for _, suite := range tls.CipherSuites() {
		ids = append(ids, suite.ID)
	}
	return append(ids, tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA)
}
