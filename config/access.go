package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// credentials refuses rules of one route that want different things of the same header.
func (v *validator) credentials(path string, s *Site) {
	v.oneCredential(path, &s.Access, &Access{})
	for i := range s.Routes {
		if a := &s.Routes[i].Access; len(a.readers()) > 0 {
			v.oneCredential(fmt.Sprintf("%s.routes[%d]", path, i), &s.Access, a)
		}
	}
}

func (v *validator) oneCredential(path string, site, route *Access) {
	taken := map[string]string{}
	for _, rule := range mergedAccess(site, route).readers() {
		name := strings.ToLower(rule.header)
		if other := taken[name]; other != "" && name != "" {
			v.fail(path, "%s and %s both read %s, and a request must satisfy both: choose another header for one of them, or put them on different routes", other, rule.key, rule.header)
		}
		taken[name] = rule.key
	}
}

// limitsByUser refuses limits by user where nobody has a name.
func (v *validator) limitsByUser(path string, s *Site) {
	const why = "user needs a rule by which users have names: basic_auth, api_keys, jwt, or forward_auth with the header that names the user in copy; by: address counts addresses"
	by := func(a *Access) bool { return a.RateLimit != nil && a.RateLimit.By == "user" }
	named := s.Access.names()
	for i := range s.Routes {
		a := &s.Routes[i].Access
		named = named || a.names()
		if by(a) && !a.names() && !s.Access.names() {
			v.fail(fmt.Sprintf("%s.routes[%d].rate_limit.by", path, i), why)
		}
	}
	if by(&s.Access) && !named {
		v.fail(path+".rate_limit.by", why)
	}
}

// names reports whether a rule finds out the name of the user.
func (a *Access) names() bool {
	return a.BasicAuth != nil || a.APIKeys != nil || a.JWT != nil || a.ForwardAuth != nil && a.ForwardAuth.User != ""
}

// readName checks the name of a header or cookie that padlock reads of requests, and does not change.
func (v *validator) readName(path, kind, name string) {
	switch {
	case !isToken(name):
		v.fail(path, "%q is not the name of a %s", name, kind)
	case kind == "header" && strings.EqualFold(name, "host"):
		v.fail(path, "Host is what hosts of sites go by: make another site for the host")
	case kind == "header" && slices.Contains(reservedFields, strings.ToLower(name)):
		v.fail(path, "%s is about the connection or the content, and differs between versions of HTTP: choose another header", name)
	}
}

// reader is a rule that reads what a client has to show in a header.
type reader struct{ key, header string }

// readers are those rules.
func (a *Access) readers() (all []reader) {
	if a.BasicAuth != nil {
		all = append(all, reader{"basic_auth", "Authorization"})
	}
	if a.APIKeys != nil {
		all = append(all, reader{"api_keys", a.APIKeys.Header})
	}
	if a.JWT != nil {
		all = append(all, reader{"jwt", a.JWT.Header}) // "": a cookie
	}
	return all
}

// mergedAccess has the rules that clients show something for: a route's, or where it has none its site's.
func mergedAccess(site, route *Access) *Access {
	return &Access{
		BasicAuth: cmp.Or(route.BasicAuth, site.BasicAuth), APIKeys: cmp.Or(route.APIKeys, site.APIKeys), JWT: cmp.Or(route.JWT, site.JWT),
	}
}

// asksForCredentials is where a site or one of its routes asks for what others on the way could read and use; "" if
// nothing does.
func (s *Site) asksForCredentials(path string) string {
	if rules := s.Access.readers(); len(rules) > 0 {
		return path + "." + rules[0].key
	}
	for i := range s.Routes {
		if rules := s.Routes[i].Access.readers(); len(rules) > 0 {
			return fmt.Sprintf("%s.routes[%d].%s", path, i, rules[0].key)
		}
	}
	return ""
}

// CredentialFields are the names of all headers that hold what clients show.
func (c *Config) CredentialFields() (all []string) {
	note := func(a *Access) {
		for _, rule := range a.readers() {
			if rule.header != "" {
				all = append(all, rule.header)
			}
		}
	}
	for i := range c.Sites {
		note(&c.Sites[i].Access)
		for j := range c.Sites[i].Routes {
			note(&c.Sites[i].Routes[j].Access)
		}
	}
	// Those of containers that come later, too.
	if c.Docker != nil {
		for i := range c.Docker.Access {
			note(&c.Docker.Access[i].Access)
		}
	}
	return all
}
