// Package netname compares host names with wildcards as certificates do: *.example.com stands for names with one label
// before example.com (RFC 9525 section 6.3). Names are in canonical form, as config.CanonicalHost has them.
package netname

import "strings"

// Wildcard is the wildcard that stands for a name; "" for a name of one label, and for a wildcard none but itself.
func Wildcard(name string) string {
	if _, parent, dotted := strings.Cut(name, "."); dotted {
		return "*." + parent
	}
	return ""
}

// Match reports whether a name or wildcard stands for a name, whatever the case of their letters.
func Match(pattern, name string) bool {
	if strings.HasPrefix(pattern, "*.") {
		return strings.EqualFold(pattern, Wildcard(name))
	}
	return strings.EqualFold(pattern, name)
}

// Covering is which of some names, wildcards and * a name or wildcard belongs to, the most specific first; "" for none.
func Covering[V any](patterns map[string]V, name string) string {
	for _, pattern := range [...]string{name, Wildcard(name), "*"} {
		if _, has := patterns[pattern]; has && pattern != "" {
			return pattern
		}
	}
	return ""
}
