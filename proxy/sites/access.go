package sites

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"padlock/config"
	"padlock/internal/jwks"
	"padlock/internal/lastgood"
	"padlock/proxy/upstream"
)

// Access says who may come.
type Access struct {
	allow, deny []config.Network
	basic       *BasicAuth // nil: nobody is asked
	rate        *RateLimit // nil: none
	keys        *APIKeys
	token       *JWT
	forward     *ForwardAuth
}

// RateLimit is how many requests each client may send.
type RateLimit struct {
	*config.RateLimit
	At string // the URL of the Redis in which nodes count together; "": each counts for itself
	// The site or route that has it: what stands in the configuration under the same name after a reload is the same.
	Whose string
}

func newAccess(c *config.Access, whose string) Access {
	a := Access{allow: c.Allow, deny: c.Deny}
	if c.RateLimit != nil {
		a.rate = &RateLimit{RateLimit: c.RateLimit, At: c.RateLimit.Redis, Whose: whose}
	}
	return a
}

// access is newAccess with what has to be read or reached for it.
func (b *builder) access(c *config.Access, whose string) (a Access, err error) {
	a = newAccess(c, whose)
	if a.rate != nil && a.rate.At == "storage" {
		a.rate.At = b.cfg.Storage
	}
	if a.basic, err = b.basicAuth(c.BasicAuth); err != nil {
		return a, err
	}
	if a.keys, err = b.apiKeys(c.APIKeys); err != nil {
		return a, err
	}
	if a.token, err = b.jwt(c.JWT); err != nil {
		return a, err
	}
	a.forward, err = b.forwardAuth(c.ForwardAuth)
	return a, err
}

// byFingerprint reports whether clients are counted by the fingerprint of their handshakes.
func (a *Access) byFingerprint() bool { return a.rate != nil && a.rate.By == "ja4" }

// RateLimit returns how many requests each client may send; nil: any number.
func (a *Access) RateLimit() *RateLimit { return a.rate }

// Lists reports whether an address is asked for.
func (a *Access) Lists() bool { return len(a.allow)+len(a.deny) > 0 }

// Admits reports whether a client address may come.
func (a *Access) Admits(client netip.Addr) bool {
	if !a.Lists() {
		return true
	}
	// What is denied stays denied within an allowed network. A client without an address is refused, as no list can be
	// applied to it.
	if !client.IsValid() || Contains(a.deny, client) {
		return false
	}
	return len(a.allow) == 0 || Contains(a.allow, client)
}

// Contains reports whether an address is of one of the networks.
func Contains(networks []config.Network, addr netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}

// BasicAuth knows the names and hashes of one realm.
type BasicAuth struct {
	Challenge string
	Users     map[string]string
	Hashes    []string // of users, sorted
}

// NewBasicAuth makes a realm of users with their hashes.
func NewBasicAuth(realm string, users map[string]string) *BasicAuth {
	return &BasicAuth{Challenge: `Basic realm="` + realm + `", charset="UTF-8"`, Users: users, Hashes: slices.Sorted(maps.Values(users))}
}

// basicAuth reads the file of users; nil: nobody is asked.
func (b *builder) basicAuth(c *config.BasicAuth) (*BasicAuth, error) {
	if c == nil {
		return nil, nil
	}
	var file map[string]string
	if c.UsersFile != "" {
		var err error
		if file, err = lastgood.Get(b.files, c.UsersFile, "users", func() (map[string]string, error) { return config.ReadUsers(c.UsersFile) }); err != nil {
			return nil, fmt.Errorf("basic_auth: %w", err)
		}
	}
	return NewBasicAuth(c.Realm, c.With(file)), nil
}

// BasicAuth returns whose names and passwords a route goes by: its own, or its site's; nil: nobody's.
func (r *Route) BasicAuth(s *Site) *BasicAuth {
	if r.Access.basic != nil {
		return r.Access.basic
	}
	return s.Access.basic
}

// ForwardAuth is a service that says whether a request may go on.
type ForwardAuth struct {
	*config.ForwardAuth
	Group  *upstream.Group // nil where the snapshot forwards nothing
	copies []fieldName     // that the service's answer has the last word on
}

// forwardAuth makes the group of the service that is asked; nil: none is.
func (b *builder) forwardAuth(c *config.ForwardAuth) (*ForwardAuth, error) {
	if c == nil {
		return nil, nil
	}
	f := &ForwardAuth{ForwardAuth: c, copies: fieldNames(c.Copy)}
	if b.targets == nil {
		return f, nil
	}

	group, err := b.targets.GroupOf(&c.Upstream, b.cfg.Timeouts, b.files)
	if err != nil {
		return nil, fmt.Errorf("forward_auth: %w", err)
	}
	group.UpstreamHost, f.Group = true, group
	b.groups = append(b.groups, group)
	return f, nil
}

// ForwardAuth returns which service a route asks: its own, or its site's; nil: none.
func (r *Route) ForwardAuth(s *Site) *ForwardAuth {
	if r.Access.forward != nil {
		return r.Access.forward
	}
	return s.Access.forward
}

// APIKeys are the keys of clients, found in the same time whether or not they are there.
type APIKeys struct {
	*config.APIKeys
	secret [sha256.Size]byte // so that the time that a search takes says nothing about the keys
	found  map[[sha256.Size]byte]config.APIKey
}

// apiKeys reads the file of keys; nil: none are asked for.
func (b *builder) apiKeys(c *config.APIKeys) (*APIKeys, error) {
	if c == nil {
		return nil, nil
	}
	keys, err := lastgood.Get(b.files, c.File, "API keys", func() ([]config.APIKey, error) { return config.ReadAPIKeys(c.File) })
	if err != nil {
		return nil, fmt.Errorf("api_keys: %w", err)
	}

	k := &APIKeys{APIKeys: c, found: map[[sha256.Size]byte]config.APIKey{}}
	_, _ = rand.Read(k.secret[:]) // which never fails
	for _, key := range keys {
		k.found[k.place(key.Hash)] = key
	}
	return k, nil
}

func (k *APIKeys) place(hash [sha256.Size]byte) (place [sha256.Size]byte) {
	h := hmac.New(sha256.New, k.secret[:])
	_, _ = h.Write(hash[:])
	h.Sum(place[:0])
	return place
}

// Find returns whose the key with a hash is.
func (k *APIKeys) Find(hash [sha256.Size]byte) (config.APIKey, bool) {
	key, ok := k.found[k.place(hash)]
	return key, ok && subtle.ConstantTimeCompare(key.Hash[:], hash[:]) == 1
}

// APIKeys returns which keys a route asks for: its own, or its site's; nil: none.
func (r *Route) APIKeys(s *Site) *APIKeys {
	if r.Access.keys != nil {
		return r.Access.keys
	}
	return s.Access.keys
}

// JWT is the tokens of an issuer.
type JWT struct {
	*config.JWT
	Rules jwks.Rules
	Set   *jwks.Set // nil: the keys are fetched
	Roots []*x509.Certificate
	names []fieldName
}

// jwt reads the keys of an issuer, unless they are fetched; nil: no tokens are asked for.
func (b *builder) jwt(c *config.JWT) (*JWT, error) {
	if c == nil {
		return nil, nil
	}
	j := &JWT{
		JWT: c, Rules: jwks.Rules{Algorithms: c.Algorithms, Issuer: c.Issuer, Audience: c.Audience, Leeway: c.Leeway},
		names: fieldNames(slices.Sorted(maps.Values(c.Copy))),
	}

	var err error
	if !c.Remote() {
		j.Set, err = lastgood.Get(b.files, c.JWKS, "keys of tokens", func() (*jwks.Set, error) { return config.ReadJWKS(c.JWKS) })
	} else if c.CA != "" {
		j.Roots, err = upstream.CAs(c.CA, b.files)
	}
	if err != nil {
		return nil, fmt.Errorf("jwt: %w", err)
	}
	return j, nil
}

// JWT returns whose tokens a route asks for: its own rule's, or its site's; nil: nobody's.
func (r *Route) JWT(s *Site) *JWT {
	if r.Access.token != nil {
		return r.Access.token
	}
	return s.Access.token
}

// Vouched reports whether a field tells the target what an access rule of the route has found out, or passes for one
// that does: no client's own gets there, whatever underscores_in_headers says.
func (r *Route) Vouched(name string) bool { return among(r.vouched, name) }

// Vouches reports whether there are such fields.
func (r *Route) Vouches() bool { return len(r.vouched) > 0 }

// Credential reports whether a field holds what the route's access rules have a client show, or passes for one that
// does.
func (r *Route) Credential(name string) bool { return among(r.credentials, name) }

// CredentialAlias reports whether a field only passes for one with a credential. Access rules have not seen it, and
// some targets would take it for what they have.
func (r *Route) CredentialAlias(name string) bool {
	return slices.ContainsFunc(r.credentials, func(n fieldName) bool { return n.is(name, true) && !n.is(name, false) })
}

// Guarded reports whether fields of a request matter to the route's access rules, or to what they tell the target.
func (r *Route) Guarded() bool { return len(r.vouched)+len(r.credentials) > 0 }

// vouch notes the fields of all access rules of a route.
func (r *Route) vouch(s *Site) {
	if k := r.APIKeys(s); k != nil {
		r.credentials = append(r.credentials, newFieldName(k.Header))
		if k.Copy != "" {
			r.vouched = append(r.vouched, newFieldName(k.Copy))
		}
	}
	if j := r.JWT(s); j != nil {
		if j.Header != "" {
			r.credentials = append(r.credentials, newFieldName(j.Header))
		}
		r.vouched = append(r.vouched, j.names...)
	}
	if f := r.ForwardAuth(s); f != nil {
		r.vouched = append(r.vouched, f.copies...)
	}
}

func fieldNames(names []string) (all []fieldName) {
	for _, name := range names {
		all = append(all, newFieldName(name))
	}
	return all
}

// among reports whether a name, or what it passes for, is one of others.
func among(names []fieldName, name string) bool {
	for i := range names {
		if names[i].is(name, true) {
			return true
		}
	}
	return false
}
