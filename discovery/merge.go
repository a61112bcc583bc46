package discovery

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"padlock/config"
	"padlock/internal/lazy"
	"padlock/internal/netname"
)

// Found is what a source has found. It never changes, and may be read from any goroutine.
type Found struct {
	owners   []*owner // in the order in which they were made
	problems []Problem
	again    time.Time // when what the source did not report is asked for again; zero: it has reported all
}

// Merge is a configuration with the sites that were found behind its own, which go first where both cover a name.
// accept, unless it is nil, may refuse a configuration that is valid in itself. An owner that cannot be served is
// left out, and takes nothing else with it; what is wrong with it is among the problems. base stays as it is, and is
// what comes back where nothing can be added.
func (f *Found) Merge(base *config.Config, accept func(*config.Config) error) (merged *config.Config, problems []Problem) {
	return f.merge(base, hostsOf(base.Sites, own, map[string]string{}), accept)
}

// merge is Merge where others may have found sites of base: taken says who has its hosts.
func (f *Found) merge(base *config.Config, taken map[string]string, accept func(*config.Config) error) (merged *config.Config, problems []Problem) {
	problems = slices.Clone(f.problems)
	var good []*owner
	for _, c := range f.owners {
		alone, wrong := c.within(base, taken)
		problems = append(problems, wrong...)
		if len(alone.parts) > 0 {
			good = append(good, alone)
		}
	}

	// Who may come is decided before anything is merged, so that no container opens what another one has closed.
	good, wrong := disagreeing(good)
	problems = append(problems, wrong...)

	try := func(owners []*owner) (*config.Config, []Problem, error) {
		sites, differing := assemble(owners)
		cfg, err := base.With(sites...)
		if err == nil && accept != nil {
			err = accept(cfg)
		}
		return cfg, differing, err
	}

	cfg, differing, err := try(good)
	if err == nil {
		return cfg, append(problems, differing...)
	}
	if accept != nil && accept(base) != nil {
		// The configuration is refused without containers too, so none of them is to blame.
		return base, problems
	}

	// Halves are tried until those that do not fit are found: one after the other would take minutes with thousands.
	merged, differing = base, nil
	var in []*owner
	var fit func([]*owner)
	fit = func(more []*owner) {
		with, differs, err := try(slices.Concat(in, more))
		switch {
		case err == nil:
			in, merged, differing = slices.Concat(in, more), with, differs
		case len(more) == 1:
			problems = append(problems, Problem{
				Owner: more[0].name, Label: more[0].parts[0].prefix + "host",
				Message: "cannot be served beside the others: " + plain(err), Remedy: "change the labels, or the configuration that they collide with",
			})
		default:
			fit(more[:len(more)/2])
			fit(more[len(more)/2:])
		}
	}

	fit(good)
	return merged, append(problems, differing...)
}

// within is the container with the parts that may stand beside base, or without any if one of them is wrong in itself.
func (c *owner) within(base *config.Config, taken map[string]string) (fitting *owner, problems []Problem) {
	globals := *base
	globals.Sites = nil
	copied := *c
	copied.parts = nil
	fitting = &copied
	parts, problems := c.guarded(base.Docker)
	// With www, a part has names that its label does not list.
	extra := map[*part][]string{}
	for _, p := range parts {
		// Each part is validated alone, so that an error names the label of this container.
		cfg, err := globals.With(p.alone())
		if err != nil {
			problems = append(problems, p.translate(err)...)
			continue
		}
		extra[p] = cfg.Sites[0].Hosts
	}

	if len(problems) > 0 {
		return fitting, problems
	}

	for _, p := range parts {
		hosts, wrong := p.allowed(p.limits(base), taken, extra[p])
		problems = append(problems, wrong...)

		if len(hosts) > 0 {
			own := *p
			own.owner, own.hosts = fitting, hosts
			fitting.parts = append(fitting.parts, &own)
		}
	}

	return fitting, problems
}

// guarded are the owner's parts, with the rules of the configuration that they name.
func (c *owner) guarded(docker *config.Docker) (parts []*part, problems []Problem) {
	for _, p := range c.parts {
		if p.access == "" {
			parts = append(parts, p)
			continue
		}
		with, err := p.with(docker)
		if err != nil {
			problems = append(problems, of(err, c.name, p.prefix, "access"))
			continue
		}
		parts = append(parts, with)
	}
	return parts, problems
}

// with is the part with the rules that it names, beside its own.
func (p *part) with(docker *config.Docker) (*part, error) {
	var named *config.Access
	var names []string
	if docker != nil {
		named = docker.Named(p.access)
		for _, one := range docker.Access {
			names = append(names, one.Name)
		}
	}
	switch {
	case named == nil && len(names) == 0:
		return nil, trouble("", fmt.Sprintf("%.40q: the configuration has no rules for containers", p.access), "add rules with this name to docker.access in padlock's configuration")
	case named == nil:
		return nil, trouble("", fmt.Sprintf("%.40q is none of the rules in docker.access: %s", p.access, strings.Join(names, ", ")), "choose one of them, or add it to padlock's configuration")
	}

	made := *p
	own, rules := reflect.ValueOf(&made.route.Access).Elem(), reflect.ValueOf(named).Elem()
	for i := range own.NumField() {
		switch {
		case rules.Field(i).IsZero():
		case own.Field(i).IsZero():
			own.Field(i).Set(rules.Field(i))
		// Neither may take the place of the other: that would let in whom one of them keeps out.
		default:
			return nil, trouble("", fmt.Sprintf("%s has %s too, and so have other labels of this route", p.access, own.Type().Field(i).Tag.Get("yaml")), "take one of them off")
		}
	}
	return &made, nil
}

// allowed are the hosts, in canonical form, that the part may have: those in the domains for containers that no site
// of the configuration covers. With one that www adds all are refused. all are those that it asks for, and those that
// www adds.
func (p *part) allowed(docker *config.Docker, taken map[string]string, all []string) (hosts []string, problems []Problem) {
	fail := func(label, message, remedy string) {
		problems = append(problems, Problem{Owner: p.owner.name, Label: p.prefix + label, Message: message, Remedy: remedy})
	}

	var asked []string
	for _, host := range p.hosts {
		name, _ := config.CanonicalPattern(host) // which has been checked
		asked = append(asked, name)
	}

	added := false
	for _, name := range all {
		label := "host"
		if !slices.Contains(asked, name) {
			label = "www"
		}

		before := len(problems)

		switch pattern := netname.Covering(taken, name); {
		case slices.Contains(hosts, name):
		case docker != nil && len(docker.Domains) > 0 && !config.Within(strings.TrimPrefix(name, "*."), docker.Domains):
			fail(label, fmt.Sprintf("%s is not in docker.domains: %s", name, strings.Join(docker.Domains, ", ")), "choose a name there, or add its domain to the configuration")
		case pattern == name:
			fail(label, fmt.Sprintf("%s is a site of %s, which goes first", name, taken[pattern]), "take the name out of one of them")
		case pattern != "" && (p.whole || taken[pattern] != own):
			fail(label, fmt.Sprintf("%s is covered by %s, a site of %s, which goes first", name, pattern, taken[pattern]), "choose another name")
		case pattern != "" && (docker == nil || !slices.Contains(docker.Override, pattern)):
			fail(label, fmt.Sprintf("%s is covered by %s, a site of %s, which goes first", name, pattern, own),
				fmt.Sprintf("choose another name, or let containers take names of that wildcard: docker.override: [%q]", pattern))
		case label == "host":
			hosts = append(hosts, name)
		}

		added = added || label == "www" && len(problems) > before
	}

	if added {
		return nil, problems
	}

	return hosts, problems
}

// inSite takes what comes before a setting of a site, or of its only route, off a path of the configuration.
var inSite = lazy.Regexp(`^sites\[\d+\](\.routes\[0\]|\.tcp)?\.?`)

// translate names labels instead of keys.
func (p *part) translate(err error) (problems []Problem) {
	var wrong config.Errors
	if !errors.As(err, &wrong) {
		return []Problem{of(err, p.owner.name, p.prefix, "host")}
	}
	for _, e := range wrong {
		problems = append(problems, Problem{Owner: p.owner.name, Label: p.prefix + p.labelOf(e.Path), Message: e.Message})
	}
	return problems
}

// limits are those of labels; whole sites have none.
func (p *part) limits(base *config.Config) *config.Docker {
	if p.whole {
		return nil
	}
	return base.Docker
}

// labelOf is the label for a path of the configuration, or the key where there are no labels.
func (p *part) labelOf(path string) string {
	at := inSite().FindString(path)
	if p.whole {
		return cmp.Or(path[len(at):], "host")
	}
	name, rest, _ := strings.Cut(path[len(at):], "[")
	switch {
	case name == "to" && strings.HasSuffix(rest, ".weight"):
		return "weight"
	case strings.HasPrefix(at, "sites[0].routes") && name == "host":
		return "host_header"
	case name == "to":
		return "port"
	case strings.HasPrefix(name, "basic_auth"):
		return "basic_auth.users"
	case strings.HasPrefix(name, "api_keys"), strings.HasPrefix(name, "jwt"), strings.HasPrefix(name, "forward_auth"):
		return "access"
	}

	for _, candidate := range []string{"tcp." + name, name} {
		if k, _, ok := find(candidate); ok && (k.kind == ofTCP) == strings.HasPrefix(candidate, "tcp.") {
			return candidate
		}
	}

	return "host"
}

// plain is an error on one line, without the numbers of sites that nobody has written.
func plain(err error) string {
	return sitePath().ReplaceAllString(strings.ReplaceAll(err.Error(), "\n", "; "), "another site")
}

var sitePath = lazy.Regexp(`sites\[\d+\][a-z_.\[\]0-9]*`)
