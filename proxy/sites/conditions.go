package sites

import (
	"crypto/x509"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"padlock/config"
	"padlock/proxy/message"
	"padlock/proxy/paths"
)

// Asker is what conditions of routes ask of a request. A nil one fulfills none.
type Asker interface {
	Sent() message.Fields           // as the client has sent them
	Address() netip.Addr            // of the client
	Certificate() *x509.Certificate // of the client, verified; nil: none
	Draw() float64                  // a number from 0 to 100 that stays the client's
}

// conditions are those of a route beside its path and methods.
type conditions struct {
	match   *regexp.Regexp // nil: any path
	loose   *regexp.Regexp // match, whatever the case of letters
	compare []condition
}

// condition is one of them, in words and as a function.
type condition struct {
	text  string
	holds func(Asker, *paths.Path) bool
	field string // of the request that it depends on; "": none
	query bool   // it depends on the address alone
}

// newConditions is nil where there are none.
func newConditions(c *config.Conditions, ignoreCase bool) (*conditions, error) {
	if !c.Conditional() {
		return nil, nil
	}

	made := &conditions{}
	if c.Match != "" {
		expression := c.Match
		if ignoreCase {
			expression = "(?i)" + expression
		}
		var err error
		if made.match, err = regexp.Compile(expression); err != nil {
			return nil, fmt.Errorf("match: %w", err)
		}
		if made.loose, err = regexp.Compile("(?i)" + c.Match); err != nil {
			return nil, fmt.Errorf("match: %w", err)
		}
	}

	add := func(text string, holds func(Asker, *paths.Path) bool) *condition {
		made.compare = append(made.compare, condition{text: text, holds: holds})
		return &made.compare[len(made.compare)-1]
	}
	// Sorted, as maps have no order and padlock route explain shows the conditions in the order of this list.
	for _, name := range slices.Sorted(maps.Keys(c.Header)) {
		want := c.Header[name]
		add(fmt.Sprintf("header %s: %s", name, want), func(q Asker, _ *paths.Path) bool {
			return slices.ContainsFunc(q.Sent(), func(f message.Field) bool { return message.Is(f.Name, name) && equals(f.Value, want) })
		}).field = name
	}

	for _, name := range slices.Sorted(maps.Keys(c.Cookie)) {
		want := c.Cookie[name]
		add(fmt.Sprintf("cookie %s=%s", name, want), func(q Asker, _ *paths.Path) bool {
			value, ok := q.Sent().Cookie(name)
			return ok && equals(value, want)
		}).field = "Cookie"
	}

	for _, name := range slices.Sorted(maps.Keys(c.Query)) {
		want := c.Query[name]
		add(fmt.Sprintf("query %s=%s", name, want), func(_ Asker, path *paths.Path) bool { return asksFor(path.Query, name, want) }).query = true
	}

	if len(c.Client) > 0 {
		add(fmt.Sprintf("client %v", c.Client), func(q Asker, _ *paths.Path) bool { return q.Address().IsValid() && Contains(c.Client, q.Address()) })
	}
	if names := newClientNames(c.Certificate); names != nil {
		add("a client certificate of certificate", func(q Asker, _ *paths.Path) bool {
			given := q.Certificate()
			return given != nil && names.match(given)
		})
	}
	// The last one, so that no client draws a number that does not matter.
	if c.Percent > 0 {
		add(fmt.Sprintf("percent %v", c.Percent), func(q Asker, _ *paths.Path) bool { return q.Draw() < float64(c.Percent) })
	}
	return made, nil
}

// equals compares with the value of a condition.
func equals(value, want string) bool { return want == "*" || value == want }

// asksFor reports whether a query has a parameter with a value.
func asksFor(query, name, want string) bool {
	for pair := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		// Targets decode names and values before they compare them.
		decoded, err := url.QueryUnescape(key)
		if err != nil || decoded != name {
			continue
		}
		if text, err := url.QueryUnescape(value); err == nil && equals(text, want) {
			return true
		}
	}
	return false
}

// fails is the first condition that does not hold, in words; "" if all do.
func (c *conditions) fails(q Asker, path *paths.Path) string {
	if c == nil {
		return ""
	}
	if c.match != nil && !c.match.MatchString(path.Normal) {
		return "match " + c.match.String()
	}
	if q == nil && len(c.compare) > 0 {
		return c.compare[0].text
	}

	for _, one := range c.compare {
		if !one.holds(q, path) {
			return one.text
		}
	}
	return ""
}

// varies appends the fields of requests for an address that decide whether the conditions hold.
func (c *conditions) varies(names []string, path *paths.Path) []string {
	if c.match != nil && !c.match.MatchString(path.Normal) {
		return names
	}
	// What the address itself rules out, no field can bring about.
	if slices.ContainsFunc(c.compare, func(one condition) bool { return one.query && !one.holds(nil, path) }) {
		return names
	}
	for _, one := range c.compare {
		if one.field != "" && !slices.ContainsFunc(names, func(name string) bool { return message.Is(name, one.field) }) {
			names = append(names, one.field)
		}
	}
	return names
}

// agreed reports whether all readers see a path alike, as far as the regular expression goes: those that ignore case,
// parameters, blanks or a slash at the end, and those that take what looks alike for the same.
func (c *conditions) agreed(path *paths.Path) bool {
	if c == nil || c.match == nil {
		return true
	}

	is := c.match.MatchString(path.Normal)
	forms, clear := path.Readings()
	return clear && !slices.ContainsFunc(forms, func(form string) bool { return c.loose.MatchString(form) != is })
}

// narrow is what a pattern's match comes to with the conditions. What the client sends beside the path is the same to
// all readers; the regular expression may not be.
func (c *conditions) narrow(match paths.Match, q Asker, path *paths.Path) paths.Match {
	for _, one := range c.compare {
		if q == nil || !one.holds(q, path) {
			return paths.None
		}
	}
	switch {
	case !c.agreed(path):
		return min(match, paths.Some)
	case c.match != nil && !c.match.MatchString(path.Normal):
		return paths.None
	}
	return match
}
