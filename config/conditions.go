package config

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// Conditions are what a request must have beside its path and method for a route to match it. All must hold.
type Conditions struct {
	// Regular expression (RE2) for the decoded path without dot segments and empty segments, in addition to `path`. It
	// matches anywhere in the path: begin it with `^`, and end it with `$`.
	Match string `yaml:"match" empty:"never"` // regular expression
	// Request headers and their values; `*` stands for any value.
	Header map[string]string `yaml:"header"` // names and values
	// Cookies and their values; `*` stands for any value.
	Cookie map[string]string `yaml:"cookie"` // names and values
	// Query parameters and their values; `*` stands for any value.
	Query map[string]string `yaml:"query"` // names and values
	// Client addresses.
	Client []Network `yaml:"client"`
	// Verified client certificates with one of these names or organizations. Needs `tls.client_auth`.
	Certificate *ClientNames `yaml:"certificate"`
	// Share of the clients, in percent. A cookie keeps each client on its side.
	Percent Percent `yaml:"percent"` // 0.01 to 100
}

// Conditional reports whether there are any.
func (c *Conditions) Conditional() bool {
	return c.Match != "" || len(c.Header)+len(c.Cookie)+len(c.Query)+len(c.Client) > 0 || c.Certificate != nil || c.Percent != 0
}

// Kinds are the conditions in words, without the values that requests have to bring, which are not for everybody.
func (c *Conditions) Kinds() (all []string) {
	if c.Match != "" {
		all = append(all, "match "+c.Match)
	}
	for _, kind := range []struct {
		name   string
		values map[string]string
	}{{"header", c.Header}, {"cookie", c.Cookie}, {"query", c.Query}} {
		for _, name := range slices.Sorted(maps.Keys(kind.values)) {
			all = append(all, kind.name+" "+name)
		}
	}
	if len(c.Client) > 0 {
		all = append(all, "some clients")
	}
	if c.Certificate != nil {
		all = append(all, "some certificates")
	}
	if c.Percent != 0 {
		all = append(all, fmt.Sprintf("%g %%", c.Percent))
	}
	return all
}

const (
	maxMatch = 512  // bytes of a regular expression
	maxParts = 1100 // what it may be repeated to: "[a-z]{1000}" is a thousand
	maxValue = 1024 // bytes of a value that is compared
)

func (v *validator) conditions(path string, s *Site, c *Conditions) {
	if len(c.Match) > maxMatch {
		v.fail(path+".match", "is longer than %d bytes", maxMatch)
	} else if _, err := regexp.Compile(c.Match); err != nil {
		v.fail(path+".match", "%v; padlock knows the syntax of RE2, without lookarounds and backreferences", err)
	} else if parsed, err := syntax.Parse(c.Match, syntax.Perl); err == nil && partsOf(parsed) > maxParts {
		v.fail(path+".match", "its repetitions stand for more than %d characters, which each request would be compared with", maxParts)
	}

	for _, given := range []struct {
		key    string
		values map[string]string
	}{{"header", c.Header}, {"cookie", c.Cookie}, {"query", c.Query}} {
		for _, name := range slices.Sorted(maps.Keys(given.values)) {
			at, value := path+"."+given.key+"."+name, given.values[name]
			switch {
			case given.key != "query":
				v.readName(at, given.key, name)
			case name == "":
				v.fail(at, "a query parameter has a name")
			}
			if !validValue(value) || len(value) > maxValue {
				v.fail(at, "the value holds control characters, or is longer than %d bytes", maxValue)
			}
		}
	}

	if c.Certificate != nil {
		switch {
		case s.TLS.ClientAuth == nil || s.TLS.ClientAuth.Mode == "request":
			v.fail(path+".certificate", "needs tls.client_auth of the site with the mode require or optional-verify: else no certificate is verified")
		case len(c.Certificate.Names)+len(c.Certificate.Organizations) == 0:
			v.fail(path+".certificate", "names nobody: it needs names or organizations")
		default:
			v.clientNames(path+".certificate", c.Certificate)
		}
	}
}

// partsOf is about how many instructions a regular expression becomes. A short one may become millions: they take memory,
// and the time of each request.
func partsOf(re *syntax.Regexp) int {
	parts := 0
	for _, sub := range re.Sub {
		parts += partsOf(sub)
	}

	switch re.Op {
	case syntax.OpLiteral:
		return len(re.Rune)
	case syntax.OpRepeat:
		return parts * max(re.Min, re.Max, 1)
	}
	return 1 + parts
}

// Warnings are what works, and may not be what is meant: keys that others can read, and routes by which a client that
// chooses what it sends gets around the access rules of another. Their places are those of the file that was read.
func (c *Config) Warnings() (warnings Errors) {
	if c.Docker != nil {
		for i := range c.Docker.Access {
			warnings = c.Docker.Access[i].exposed(warnings, fmt.Sprintf("docker.access[%d]", i))
		}
	}
	for i := range c.Sites {
		s := &c.Sites[i]
		warnings = append(warnings, s.unencrypted(fmt.Sprintf("sites[%d]", i))...)
		warnings = s.Access.exposed(warnings, fmt.Sprintf("sites[%d]", i))
		for j := range s.Routes {
			warnings = s.Routes[j].Access.exposed(warnings, fmt.Sprintf("sites[%d].routes[%d]", i, j))
			if k := s.around(j); k >= 0 {
				warnings = append(warnings, Error{Path: fmt.Sprintf("sites[%d].routes[%d]", i, j), Message: fmt.Sprintf("a client that sends what this route "+
					"asks for gets around the access rules of sites[%d].routes[%d]: if nobody should, give this route the same rules", i, k)})
			}
		}
	}
	return warnings
}

// unencrypted finds what is set for TLS to targets where no target is spoken to with TLS: whoever has written it
// believes otherwise.
func (s *Site) unencrypted(path string) (warnings Errors) {
	look := func(at string, u *Upstream, scheme string) {
		encrypted := func(b Backend) bool { return b.Target.Scheme == "https" || b.Target.Scheme == "tls" }
		if len(u.To) == 0 || slices.ContainsFunc(u.To, encrypted) {
			return
		}
		for _, key := range []struct {
			name string
			set  bool
		}{{"ca", u.CA != ""}, {"client_cert", u.ClientCert != ""}, {"server_name", u.ServerName != ""}, {"insecure_skip_verify", u.Insecure}} {
			if key.set {
				warnings = append(warnings, Error{Path: at + "." + key.name, Message: fmt.Sprintf("has no effect: padlock speaks to %s without TLS; write %s:// for targets that it should reach with TLS", u.To[0].Target, scheme)})
			}
		}
	}

	if s.TCP != nil {
		look(path+".tcp", &s.TCP.Upstream, "tls")
	}
	if f := s.Access.ForwardAuth; f != nil {
		look(path+".forward_auth", &f.Upstream, "https")
	}
	for i := range s.Routes {
		at := fmt.Sprintf("%s.routes[%d]", path, i)
		look(at, &s.Routes[i].Upstream, "https")
		if f := s.Routes[i].Access.ForwardAuth; f != nil {
			look(at+".forward_auth", &f.Upstream, "https")
		}
	}
	return warnings
}

// exposed adds what is wrong with files of keys.
func (a *Access) exposed(warnings Errors, path string) Errors {
	if a.APIKeys == nil {
		return warnings
	}
	if why := a.APIKeys.exposed(); why != "" {
		warnings = append(warnings, Error{Path: path + ".api_keys.file", Message: why})
	}
	return warnings
}

// around is the route whose access rules the client can avoid by what it sends, so that route j matches; -1 if there
// is none.
func (s *Site) around(j int) int {
	r := &s.Routes[j]
	if len(r.Header)+len(r.Cookie)+len(r.Query) == 0 && r.Percent == 0 || r.Refuses() {
		return -1
	}

	for k := range s.Routes {
		other := &s.Routes[k]
		covers := other.Exact == "" && below(r.Path+r.Exact, other.Path) || other.Exact != "" && other.Exact == r.Exact
		if k != j && covers && (other.Access.rules() || other.Refuses()) && !reflect.DeepEqual(other.Access, r.Access) {
			return k
		}
	}
	return -1
}

// below reports whether a path is another, or below it.
func below(path, other string) bool {
	other = strings.TrimSuffix(other, "/")
	rest, ok := strings.CutPrefix(path, other)
	return ok && (rest == "" || rest[0] == '/')
}
