package proxy

// The order of filters stands here and nowhere else. Both lists begin with the outermost.

// entry is what every request meets, whatever its host.
func (h *handler) entry() Action {
	return chain(ActionFunc(h.dispatch), []Filter{
		before(h.identify), // all that follows goes by the client's address
		before(h.trace),    // what is refused from here on is in the client's trace too
		before(noConnect),  // no host is a proxy to others
		h.arrived,          // before sites: a device asks by an address that need not be a site's
		h.challenge,        // before sites: a CA has neither a password nor an address that a list would know
	})
}

// routing is a snapshot with what its routes do. It never changes.
type routing struct {
	*snapshot
	actions []Action // by the index of a route
}

// compile chains what each route of a snapshot does with its requests.
func (h *handler) compile(s *snapshot) *routing {
	r := &routing{s, make([]Action, s.routes)}
	for _, site := range s.sites {
		for _, route := range site.routes {
			r.actions[route.index] = h.action(site, route)
		}
	}
	return r
}

// action is what a route does, behind its filters.
func (h *handler) action(s *site, r *route) Action {
	var filters []Filter
	add := func(wanted bool, f Filter) {
		if wanted {
			filters = append(filters, f)
		}
	}
	forwards := r.group != nil

	// Who may not come costs no more than that, and is told nothing of what is here.
	add(s.access.lists() || r.access.lists(), before(admit))
	add(r.basicAuth(s) != nil, before(h.authenticate))
	if !forwards {
		add(r.redirect == nil, before(noTunnel))
		return chain(h.own(r), filters)
	}

	add(true, before(upgrade))                       // before fields that speak of the connection are gone
	add(true, before(prepare))                       // what the target is told, and rules for it: those behind go by what the target gets
	add(r.bodyLimit > 0, before(limitBody))          // before anything is read
	add(true, before(readDestination))               // after rules, which may set a Destination
	add(r.strip || r.host != "", before(retarget))   // after the Destination was compared with what the client has asked for
	add(true, oneConnection)                         // before content is read: the client may have to come again
	add(len(r.upgrades) > 0, before(h.wholeContent)) // the bytes that follow are of another protocol
	add(r.buffer.Request > 0, before(h.bufferRequest))
	add(r.buffer.Response > 0, h.bufferResponse)
	return chain(&forwarding{h, r}, filters)
}

// own is what a route does that forwards nothing.
func (h *handler) own(r *route) Action {
	switch {
	case r.redirect != nil:
		return redirecting{r.redirect}
	case r.respond != nil:
		return fixed{r.respond}
	case h.page != nil:
		return builtInPage{h.page}
	}
	return nothing
}
