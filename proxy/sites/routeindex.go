package sites

import "padlock/proxy/paths"

// routeIndex finds the routes that a path may match without a look at all of them. It never changes.
type routeIndex struct {
	all   []*Route         // in the order in which they are asked
	heads map[string][]int // places in all, by the first segment of the path that a route is for; nil: there are too few routes
	any   []int            // of routes that paths with any first segment may match
}

// fewRoutes are compared one by one: that takes less than an index.
const fewRoutes = 8

func newRouteIndex(routes []*Route) routeIndex {
	x := routeIndex{all: routes}
	if len(routes) <= fewRoutes {
		return x
	}

	x.heads = map[string][]int{}
	for i, r := range routes {
		heads := r.Pattern.Heads()
		if len(heads) == 0 {
			x.any = append(x.any, i)
		}
		for _, head := range heads {
			x.heads[head] = append(x.heads[head], i)
		}
	}
	return x
}

// among begins with the routes that a path may match, for any reader. For a path that readers take for different ones, or
// may, these are all.
func (x *routeIndex) among(path *paths.Path) candidates {
	if x.heads != nil {
		if head, ok := path.Head(); ok {
			return candidates{all: x.all, one: x.heads[head], other: x.any}
		}
	}
	return candidates{all: x.all, everyone: true}
}

// candidates are routes in their order.
type candidates struct {
	all        []*Route
	one, other []int // places that are still to come, each in their order
	everyone   bool  // all are, from place on
	place      int
}

// next returns nil at the end.
func (c *candidates) next() *Route {
	switch {
	case c.everyone && c.place < len(c.all):
		c.place++
		return c.all[c.place-1]
	case len(c.one) > 0 && (len(c.other) == 0 || c.one[0] < c.other[0]):
		c.place, c.one = c.one[0], c.one[1:]
		return c.all[c.place]
	case len(c.other) > 0:
		c.place, c.other = c.other[0], c.other[1:]
		return c.all[c.place]
	}
	return nil
}
