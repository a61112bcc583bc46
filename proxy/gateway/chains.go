package gateway

import "padlock/proxy/sites"

// The order of filters stands here and nowhere else. Both lists begin with the outermost.

// entry is what every request meets, whatever its host.
func (h *Gateway) entry() Action {
	return chain(ActionFunc(h.dispatch), []Filter{
		before(h.identify), // all that follows goes by the client's address
		before(h.trace),    // what is refused from here on is in the client's trace too
		before(noConnect),  // no host is a proxy to others
		h.arrived,          // before sites: a device asks by an address that need not be a site's
		h.trusting,         // before sites too, over plain HTTP
		h.challenge,        // before sites: a CA has neither a password nor an address that a list would know
	})
}

// Routes is a snapshot with what its routes do. It never changes.
type Routes struct {
	*sites.Snapshot
	actions []Action // by the index of a route
}

// Compile chains what each route of a snapshot does with its requests.
func (h *Gateway) Compile(s *sites.Snapshot) *Routes {
	r := &Routes{s, make([]Action, s.Routes)}
	for _, site := range s.Sites {
		for _, route := range site.Routes {
			r.actions[route.Index] = h.action(site, route)
		}
	}
	return r
}

// action is what a route does, behind its filters.
func (h *Gateway) action(s *sites.Site, r *sites.Route) Action {
	var filters []Filter
	add := func(wanted bool, f Filter) {
		if wanted {
			filters = append(filters, f)
		}
	}

	forwards := r.Group != nil

	// Who may not come costs no more than that, and is told nothing of what is here.
	add(s.Access.Lists() || r.Access.Lists(), before(admit))
	rate := func(user bool) {
		for _, a := range []*sites.Access{&s.Access, &r.Access} {
			if l := a.RateLimit(); l != nil && (l.By == "user") == user {
				add(true, limited(h.rates.of(l), l))
			}
		}
	}

	rate(false) // before passwords: guesses count too
	add(r.BasicAuth(s) != nil, before(h.authenticate))
	rate(true) // who the user is has just been found out
	if r.Compression != nil {
		add(true, h.compressed(r.Compression)) // before prepare, which may change Accept-Encoding; what is buffered behind it keeps no target waiting
	}

	if !forwards {
		add(r.Redirect == nil, before(noTunnel))
		return chain(h.own(r), filters)
	}

	add(true, before(upgrade))  // before fields that speak of the connection are gone
	add(true, before(h.noLoop)) // while the Host is the client's
	// What the target is told, and rules for it: those behind go by what the target gets.
	add(true, before(h.prepare))
	add(r.BodyLimit > 0, before(limitBody)) // before anything is read
	add(true, before(readDestination))      // after rules, which may set a Destination
	// After the Destination was compared with what the client has asked for.
	add(r.Strip || r.Host != "", before(retarget))
	add(true, oneConnection)                         // before content is read: the client may have to come again
	add(len(r.Upgrades) > 0, before(h.wholeContent)) // the bytes that follow are of another protocol
	add(r.Buffer.Request > 0, before(h.bufferRequest))
	add(r.Buffer.Response > 0, h.bufferResponse)
	return chain(&forwarding{h, r}, filters)
}

// own is what a route does that forwards nothing.
func (h *Gateway) own(r *sites.Route) Action {
	switch {
	case r.Redirect != nil:
		return redirecting{r.Redirect}
	case r.Files != nil:
		return newFiles(r, r.Files)
	case r.Respond != nil:
		return fixed{r.Respond}
	case h.Page != nil:
		return builtInPage{h.Page}
	}
	return nothing
}
