package sites

import (
	"cmp"
	"strings"

	"padlock/proxy/paths"
)

// Verdict is why a route is that of a request, or is not.
type Verdict struct {
	Route   *Route
	Matches bool
	Why     string // it does not; "" if it does
}

// Explain judges all routes for a request, in the order in which they are asked: the first that matches is the one.
func (s *Site) Explain(method string, path *paths.Path, q Asker) (verdicts []Verdict) {
	for _, r := range s.Routes {
		why := ""
		switch failed := r.when.fails(q, path); {
		case r.Pattern.Match(path) < paths.Ours && r.Exact != "":
			why = "the path is not " + r.Exact
		case r.Pattern.Match(path) < paths.Ours:
			why = "the path is not below " + r.Prefix
		case failed != "":
			why = "not fulfilled: " + failed
		case !r.takes(method):
			why = "the method is none of " + strings.Join(r.methods, ", ")
		}

		verdicts = append(verdicts, Verdict{r, why == "", why})
	}
	return verdicts
}

// Conditions are those of a route, in words.
func (r *Route) Conditions() (all []string) {
	switch {
	case r.Exact != "":
		all = append(all, "exact "+r.Exact)
	case r.Prefix != "":
		all = append(all, "path "+r.Prefix)
	}

	if r.when != nil && r.when.match != nil {
		all = append(all, "match "+r.when.match.String())
	}
	if r.when != nil {
		for _, one := range r.when.compare {
			all = append(all, one.text)
		}
	}

	if len(r.methods) > 0 {
		all = append(all, "methods "+strings.Join(r.methods, ", "))
	}
	return all
}

// title names a route in a list of numbers, which more people may see than the configuration: without the values that
// requests have to bring.
func (r *Route) title() string {
	if r.Config == nil {
		return "the built-in page"
	}

	path := cmp.Or(r.Prefix, "/")
	if r.Exact != "" {
		path = r.Exact + " alone"
	}
	all := []string{path}
	if len(r.methods) > 0 {
		all = append(all, strings.Join(r.methods, " "))
	}

	all = append(all, r.Config.Conditions.Kinds()...)
	return strings.Join(all, ", ")
}
