package discovery

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"padlock/config"
)

// backend is what the part points to.
func (p *part) backend() config.Backend { return config.Backend{Target: p.target, Weight: p.weight} }

// rule is the route that the part asks for. What it points to is a copy, as validation writes defaults into it.
func (p *part) rule(to ...config.Backend) config.Route {
	r := p.route
	r.To = to
	if r.Health != nil {
		health := *r.Health
		r.Health = &health
	}

	if r.Access.BasicAuth != nil {
		auth := *r.Access.BasicAuth
		r.Access.BasicAuth = &auth
	}

	if r.Access.RateLimit != nil {
		limit := *r.Access.RateLimit
		r.Access.RateLimit = &limit
	}

	if r.Access.APIKeys != nil {
		keys := *r.Access.APIKeys
		r.Access.APIKeys = &keys
	}

	if r.Access.JWT != nil {
		token := *r.Access.JWT
		r.Access.JWT = &token
	}

	if r.Access.ForwardAuth != nil {
		asked := *r.Access.ForwardAuth
		asked.To = slices.Clone(asked.To)
		r.Access.ForwardAuth = &asked
	}

	if r.Mirror != nil {
		mirror := *r.Mirror
		mirror.To = slices.Clone(mirror.To)
		r.Mirror = &mirror
	}

	if r.Compress != nil {
		compress := *r.Compress
		r.Compress = &compress
	}

	if r.CORS != nil {
		cors := *r.CORS
		r.CORS = &cors
	}

	if r.SecurityHeaders != nil {
		headers := *r.SecurityHeaders
		r.SecurityHeaders = &headers
	}

	if r.Files != nil {
		files := *r.Files
		r.Files = &files
	}

	return r
}

// bytes is the part's site where it forwards TCP.
func (p *part) bytes(hosts []string, to ...config.Backend) config.Site {
	r, tcp := p.rule(to...), p.tcp
	tcp.Upstream = r.Upstream
	return config.Site{Hosts: hosts, Access: r.Access, TCP: &tcp}
}

// alone is the site that the part makes without any other.
func (p *part) alone() config.Site {
	to := targets([]*part{p})
	if p.isTCP {
		return p.bytes(slices.Clone(p.hosts), to...)
	}
	site := config.Site{Hosts: slices.Clone(p.hosts), Paths: p.paths, HTTP: p.http, Routes: []config.Route{p.rule(to...)}}
	p.say(&site)
	return site
}

// say adds what the part says of its whole site, where others may have said something before.
func (p *part) say(site *config.Site) {
	site.WWW = cmp.Or(p.www, site.WWW)
	site.HSTS = cmp.Or(p.hsts, site.HSTS)
	site.NoCase = site.NoCase || p.noCase

	if len(p.errors) > 0 {
		pages := maps.Clone(p.errors)
		for status, page := range site.Errors {
			// The oldest says what stands for a status.
			pages[status] = page
		}
		site.Errors = pages
	}
	for _, status := range p.intercept {
		if !slices.Contains(site.Intercept, status) {
			site.Intercept = append(slices.Clip(site.Intercept), status)
		}
	}

	if p.inspect != nil {
		// Who wants less remembered is heard.
		inspect := *p.inspect
		if site.Inspect != nil {
			inspect.Off, inspect.Redact = inspect.Off || site.Inspect.Off, inspect.Redact || site.Inspect.Redact
		}
		site.Inspect = &inspect
	}

	if p.maintenance != nil && site.Maintenance == nil {
		maintenance := *p.maintenance
		site.Maintenance = &maintenance
	}
}

// sameRoute reports whether two parts match the same requests of a host.
func sameRoute(a, b *part) bool {
	return a.isTCP == b.isTCP && a.route.Path == b.route.Path && a.route.Exact == b.route.Exact && slices.Equal(a.route.Methods, b.route.Methods) &&
		reflect.DeepEqual(a.route.Conditions, b.route.Conditions)
}

// assemble makes sites of owners, which come in the order in which they were made. Hosts that the same parts ask for
// are one site; parts that match the same requests there are one route, with a target each. What owners must agree
// on, the newest says.
func assemble(owners []*owner) (sites []config.Site, problems []Problem) {
	asking := map[string][]*part{}
	var hosts []string
	for _, c := range owners {
		for _, p := range c.parts {
			for _, host := range p.hosts {
				if asking[host] == nil {
					hosts = append(hosts, host)
				}
				// A label may name a host twice.
				if !slices.Contains(asking[host], p) {
					asking[host] = append(asking[host], p)
				}
			}
		}
	}

	together := map[string][]string{} // hosts by who asks for them
	var groups []string
	for _, host := range hosts {
		by := fmt.Sprint(asking[host]) // addresses
		if together[by] == nil {
			groups = append(groups, by)
		}
		together[by] = append(together[by], host)
	}

	for _, by := range groups {
		site, differing := join(together[by], asking[together[by][0]])
		sites, problems = append(sites, site), append(problems, differing...)
	}

	// In an order that does not depend on when containers were started.
	slices.SortFunc(sites, func(a, b config.Site) int { return cmp.Compare(a.Hosts[0], b.Hosts[0]) })
	return sites, problems
}

// join makes the site of hosts that all of the parts ask for.
func join(hosts []string, parts []*part) (site config.Site, problems []Problem) {
	site.Hosts = hosts
	// Of two protocols under one name the oldest counts: a container that comes later takes nothing away from it.
	if first := parts[0]; first.isTCP {
		tcp := slices.DeleteFunc(slices.Clone(parts), func(p *part) bool { return !p.isTCP })
		speaker, differing := speak(tcp)
		return speaker.bytes(hosts, targets(tcp)...), append(mixed(parts, first), differing...)
	}

	problems = mixed(parts, parts[0])
	parts = slices.DeleteFunc(slices.Clone(parts), func(p *part) bool { return p.isTCP })
	if len(parts) > 0 {
		site.Paths, site.HTTP = parts[0].paths, parts[0].http
	}

	for _, p := range parts {
		p.say(&site)
		site.Paths = stricter(site.Paths, p.paths)
		site.HTTP = safer(site.HTTP, p.http)
	}

	for len(parts) > 0 {
		var same, others []*part
		for _, p := range parts {
			if sameRoute(p, parts[0]) {
				same = append(same, p)
			} else {
				others = append(others, p)
			}
		}

		speaker, differing := speak(same)
		site.Routes = append(site.Routes, speaker.rule(targets(same)...))
		problems, parts = append(problems, differing...), others
	}

	// In an order of their own, so that a restart of containers in another order changes nothing.
	slices.SortStableFunc(site.Routes, func(a, b config.Route) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Exact, b.Exact), cmp.Compare(strings.Join(a.Methods, " "), strings.Join(b.Methods, " ")),
			cmp.Compare(fmt.Sprint(a.Conditions), fmt.Sprint(b.Conditions)))
	})
	return site, problems
}

// stricter is the more careful of two readings of paths: no container makes another's rules weaker. One that says
// nothing leaves it to the rules of all, which raw would not.
func stricter(a, b string) string {
	order := []string{"raw", "", "normalize", "strict"}
	return order[max(slices.Index(order, a), slices.Index(order, b))]
}

// safer is what more keeps requests off plain HTTP: no container has another's served readable for everybody.
func safer(a, b string) string {
	order := []string{"serve", "", "redirect", "off"}
	return order[max(slices.Index(order, a), slices.Index(order, b))]
}

// mixed are the problems of parts that want another protocol than the first.
func mixed(parts []*part, first *part) (problems []Problem) {
	for _, p := range parts {
		if p.isTCP != first.isTCP {
			problems = append(problems, Problem{
				Owner: p.owner.name, Label: p.prefix + "host",
				Message: fmt.Sprintf("%s forwards %s under the same name", first.owner, map[bool]string{true: "TCP", false: "HTTP"}[first.isTCP]),
				Remedy:  "give one of them another name",
			})
		}
	}
	return problems
}

// guarding are the labels that say who may come.
var guarding = []string{
	"allow", "deny", "basic_auth.users", "basic_auth.realm", "access", "api_keys", "jwt", "forward_auth",
	"rate_limit", "rate_limit.requests", "rate_limit.per", "rate_limit.burst", "rate_limit.by", "rate_limit.concurrent",
}

// rules are what the part says of who may come.
func (p *part) rules() string {
	var rules strings.Builder
	for line := range strings.Lines(p.shared) {
		if name, _, _ := strings.Cut(line, "="); slices.Contains(guarding, name) {
			rules.WriteString(line)
		}
	}
	return rules.String()
}

// disagreeing takes the owners out that say otherwise than an older one of who may come to the same requests: none of
// them may open what another has closed. Owners come, and stay, in the order in which they were made.
func disagreeing(owners []*owner) (agreeing []*owner, problems []Problem) {
	first := map[string]*part{} // by what the part matches
	for _, c := range owners {
		var wrong []Problem
		for _, p := range c.parts {
			for _, host := range p.hosts {
				older := first[p.matches(host)]
				if older == nil || older.owner == c || older.rules() == p.rules() {
					continue
				}
				wrong = append(wrong, Problem{
					Owner: c.name, Label: p.prefix + differingRule(p, older),
					Message: older.owner.String() + ", which serves the same requests and is older, says otherwise of who may come; this one is not served",
					Remedy:  "give containers of one route the same labels; to change who may come, replace all of them",
				})
				break
			}
		}

		if len(wrong) > 0 {
			problems = append(problems, wrong...)
			continue
		}

		// Only owners that agree are what those behind them have to agree with.
		for _, p := range c.parts {
			for _, host := range p.hosts {
				if key := p.matches(host); first[key] == nil {
					first[key] = p
				}
			}
		}

		agreeing = append(agreeing, c)
	}
	return agreeing, problems
}

// matches is the same for parts that match the same requests of a host.
func (p *part) matches(host string) string {
	conditions, _ := json.Marshal(p.route.Conditions) // texts, numbers, lists and maps
	return fmt.Sprintf("%q %v %q %q %q %s", host, p.isTCP, p.route.Path, p.route.Exact, p.route.Methods, conditions)
}

// differingRule is the first label of those that say who may come which two parts do not have alike.
func differingRule(a, b *part) string {
	one, other := &part{shared: a.rules()}, &part{shared: b.rules()}
	return differing(one, other)
}

// speak is the part whose labels count, the newest, with a problem for each that says something else.
func speak(parts []*part) (speaker *part, problems []Problem) {
	speaker = parts[len(parts)-1]
	for _, p := range parts {
		if p.shared != speaker.shared {
			problems = append(problems, Problem{
				Owner: p.owner.name, Label: p.prefix + differing(p, speaker),
				Message: speaker.owner.String() + ", which serves the same requests and is newer, says otherwise; that counts for both",
				Remedy:  "give containers of one route the same labels",
			})
		}
	}
	return speaker, problems
}

// differing is the first label that two parts do not have alike.
func differing(a, b *part) string {
	one, other := strings.SplitAfter(a.shared, "\n"), strings.SplitAfter(b.shared, "\n")
	for _, lines := range [][2][]string{{one, other}, {other, one}} {
		for _, line := range lines[0] {
			if !slices.Contains(lines[1], line) {
				name, _, _ := strings.Cut(line, "=")
				return name
			}
		}
	}
	return ""
}

// targets are those of parts, each once; of containers that are about to stop none, unless there is no other.
func targets(parts []*part) (to []config.Backend) {
	staying := slices.ContainsFunc(parts, func(p *part) bool { return !p.owner.leaving })
	for _, p := range parts {
		if p.target == (config.Target{}) {
			continue // a redirect, or a fixed answer
		}
		// Two labels of one container may lead to the same port, which must not get twice the requests.
		known := slices.ContainsFunc(to, func(b config.Backend) bool { return b.Target == p.target })
		if !known && !(staying && p.owner.leaving) {
			to = append(to, p.backend())
		}
	}
	return to
}
