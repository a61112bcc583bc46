package discovery

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	"padlock/config"
)

// Source finds sites beside those of the configuration, such as those of an engine's containers.
type Source interface {
	// String is what logs call the source.
	String() string
	// Look finds what is there now; the start waits for it, as long as ctx allows. An error means that the source does
	// not answer.
	Look(ctx context.Context) (*Found, error)
	// Away is called, before Run, with an error of Look that the start does not wait for any longer.
	Away(err error)
	// Run calls publish, never twice at a time, with what is there at first, and whenever that may have changed. It
	// returns when ctx ends.
	Run(ctx context.Context, publish func(*Found))
	// Report logs the problems of what the source has published last, each once. It is not called by two goroutines at a
	// time.
	Report(problems []Problem)
}

// Explainer is a Source that may know why the name of a target does not exist; "" if it does not.
type Explainer interface {
	Explain(ctx context.Context, name string) string
}

// Owner is what has sites that stand or fall together: a container, or an app.
type Owner struct {
	Kind    string // in messages: container, app
	Name    string
	Created time.Time
	Sites   []config.Site
}

// Find is what a source finds that has whole sites. Owners that have a route in common share its requests. What holds
// for all routes of a site, such as client certificates or its own listeners, would hold for those of other owners
// too: a site that has it is a problem.
func Find(owners ...Owner) *Found {
	found := &Found{}
	for _, o := range owners {
		c := &owner{kind: o.Kind, id: o.Name, name: o.Name, created: o.Created}
		shares := true
		for _, site := range o.Sites {
			c.parts = append(c.parts, partsOf(c, site)...)
			shares = shares && sharable(site)
		}

		if shares {
			found.owners = append(found.owners, c)
			continue
		}

		found.problems = append(found.problems, Problem{
			Owner: o.Name, Message: "a site has tls, headers, listen or rules of access of its own", Remedy: "give the rules to its routes",
		})
	}

	slices.SortStableFunc(found.owners, func(a, b *owner) int { return a.created.Compare(b.created) })
	return found
}

// sharable reports whether all that a site says is said of its routes, or can be said by several owners.
func sharable(site config.Site) bool {
	rest := config.Site{TLS: site.TLS, Access: site.Access, Fields: site.Fields, Listen: site.Listen}
	if site.TCP != nil {
		rest.Access = config.Access{} // of its only route
	}
	return reflect.DeepEqual(rest, config.Site{})
}

// partsOf takes a site apart into its routes, each with one target.
func partsOf(c *owner, site config.Site) (parts []*part) {
	whole := part{
		owner: c, whole: true, hosts: site.Hosts, www: site.WWW, paths: site.Paths, noCase: site.NoCase, hsts: site.HSTS, http: site.HTTP, errors: site.Errors, intercept: site.Intercept, maintenance: site.Maintenance, inspect: site.Inspect,
	}
	routes := site.Routes
	if site.TCP != nil {
		whole.isTCP, whole.tcp = true, *site.TCP
		routes = []config.Route{{Upstream: site.TCP.Upstream, Access: site.Access}}
	}

	for _, route := range routes {
		to := route.To
		if len(to) == 0 { // a redirect, or a fixed answer
			to = make([]config.Backend, 1)
		}
		route.To, route.Compress = nil, cmp.Or(route.Compress, site.Compress)
		route.CORS, route.SecurityHeaders = cmp.Or(route.CORS, site.CORS), cmp.Or(route.SecurityHeaders, site.SecurityHeaders)
		for _, target := range to {
			p := whole
			p.route, p.target, p.weight, p.shared = route, target.Target, target.Weight, settings(&route)
			parts = append(parts, &p)
		}
	}

	return parts
}

// settings are what all owners of a route should say alike, in the form of labels.
func settings(r *config.Route) string {
	all, _ := json.Marshal(r) // texts, numbers, lists and maps
	users, _ := json.Marshal(r.Access.BasicAuth)
	rate, _ := json.Marshal(r.Access.RateLimit)
	keys, _ := json.Marshal(r.Access.APIKeys)
	token, _ := json.Marshal(r.Access.JWT)
	asked, _ := json.Marshal(r.Access.ForwardAuth)
	return fmt.Sprintf("allow=%v\ndeny=%v\nbasic_auth.users=%s\napi_keys=%s\njwt=%s\nforward_auth=%s\nrate_limit=%s\nroute=%s\n", r.Access.Allow, r.Access.Deny, users, keys, token, asked, rate, all)
}

// own is who has the sites of a configuration that no source has found.
const own = "padlock's own configuration"

// Merge adds to a configuration what sources have found. Where several have a site for one name, the configuration's
// own goes first, and then the sources in their order. accept is that of Found.Merge. The problems are those of each
// source; found may be nil where a source has not answered yet.
func Merge(base *config.Config, sources []Source, found []*Found, accept func(*config.Config) error) (*config.Config, [][]Problem) {
	merged, problems := base, make([][]Problem, len(sources))
	taken := hostsOf(base.Sites, own, map[string]string{})
	for i, f := range found {
		if f == nil {
			continue
		}

		before := len(merged.Sites)
		merged, problems[i] = f.merge(merged, taken, accept)
		hostsOf(merged.Sites[before:], sources[i].String(), taken)
	}
	return merged, problems
}

// hostsOf adds hosts of sites, with who has them.
func hostsOf(sites []config.Site, who string, taken map[string]string) map[string]string {
	for i := range sites {
		for _, host := range sites[i].Hosts {
			taken[host] = who
		}
	}
	return taken
}
