package gateway

import (
	"padlock/inspect"
	"padlock/proxy/sites"
)

// The order of filters stands here and nowhere else. Both lists begin with the outermost.

// entry is what every request meets, whatever its host.
func (h *Gateway) entry() Action {
	return chain(ActionFunc(h.dispatch), []Filter{
		// All that follows goes by the client's address.
		before(h.identify),
		// What is refused from here on is in the client's trace too.
		before(h.trace),
		// No host is a proxy to others.
		before(noConnect),
		// Before sites: a device asks by an address that need not be a site's.
		h.arrived,
		// Before sites too, over plain HTTP.
		h.trusting,
		// Before sites: a CA has neither a password nor an address that a list would know.
		h.challenge,
	})
}

// Routes is a snapshot with what its routes do. It never changes.
type Routes struct {
	*sites.Snapshot
	actions []Action // by the index of a route
	records *inspect.Store
	pages   map[*sites.ErrorPage]*pageSource
}

// Compile chains what each route of a snapshot does with its requests.
func (h *Gateway) Compile(s *sites.Snapshot) *Routes {
	r := &Routes{s, make([]Action, s.Routes), h.Inspect, h.sources(s)}
	for _, site := range s.Sites {
		for _, route := range site.Routes {
			r.actions[route.Index] = h.action(site, route)
		}
	}
	return r
}

// action is what a route does, behind its filters.
func (h *Gateway) action(s *sites.Site, r *sites.Route) Action {
	filters := h.guards(s, r)
	add := func(wanted bool, f Filter) {
		if wanted {
			filters = append(filters, f)
		}
	}

	forwards := r.Group != nil
	if r.Compression != nil {
		// Before prepare, which may change Accept-Encoding. Responses that are buffered behind it keep no target waiting.
		add(true, h.compressed(r.Compression))
	}

	if !forwards {
		add(r.Redirect == nil, before(noTunnel))
		return chain(h.own(r), filters)
	}

	// Before the fields that speak of the connection are removed.
	add(true, before(upgrade))
	// While the Host is still the client's.
	add(true, before(h.noLoop))
	// What the target gets, and rules for it: those behind go by what the target gets.
	add(true, before(h.prepare))
	// What the target gets is gRPC: behind prepare, which takes TE away.
	add(r.GRPCWeb, grpcWeb)
	// Before any content is read.
	add(r.BodyLimit > 0, before(limitBody))
	// After rules, which may set a Destination.
	add(true, before(readDestination))
	// After the Destination was compared with what the client has asked for.
	add(r.Strip || r.Host != "", before(retarget))
	// Before content is read, as the client may have to send the request again.
	add(true, oneConnection)
	// Behind an upgrade, the bytes that follow are of another protocol.
	add(len(r.Upgrades) > 0, before(h.wholeContent))
	add(r.Buffer.Request > 0, before(h.bufferRequest))
	add(r.Buffer.Response > 0, h.bufferResponse)
	// As the target gets it, and whatever becomes of the response.
	if r.Mirror != nil {
		add(true, h.mirrored(r.Mirror))
	}
	// Innermost: what is replaced is neither buffered nor compressed, and the page is written as every other.
	add(s.Intercepts(), intercept)
	return chain(&forwarding{h, r}, filters)
}

// guards are the filters of a route that say who may come.
func (h *Gateway) guards(s *sites.Site, r *sites.Route) (filters []Filter) {
	add := func(wanted bool, f Filter) {
		if wanted {
			filters = append(filters, f)
		}
	}
	// Who may not come costs no more than that, and learns nothing of what is here.
	add(s.Access.Lists() || r.Access.Lists(), before(admit))
	rate := func(user bool) {
		for _, a := range []*sites.Access{&s.Access, &r.Access} {
			if l := a.RateLimit(); l != nil && (l.By == "user") == user {
				add(true, limited(h.rates.of(l), l))
			}
		}
	}

	// Before passwords, as guesses count too.
	rate(false)
	// Before passwords too, as browsers ask without.
	if r.CORS != nil {
		add(true, preflight(r.CORS))
	}
	add(r.BasicAuth(s) != nil, before(h.authenticate))
	if k := r.APIKeys(s); k != nil {
		add(true, before(keyed(k)))
	}
	if j := r.JWT(s); j != nil {
		add(true, before(h.tokened(j)))
	}
	// Last of those who may refuse, as it costs a request of its own.
	if f := r.ForwardAuth(s); f != nil {
		add(true, h.forwardAuth(f))
	}

	// Behind passwords, as only now it is known who the user is.
	rate(true)
	return filters
}

// own is what a route does that forwards nothing.
func (h *Gateway) own(r *sites.Route) Action {
	switch {
	case r.Redirect != nil:
		return redirecting{r.Redirect}
	case r.Files != nil:
		return newFiles(h, r, r.Files)
	case r.Respond != nil:
		return fixed{r.Respond}
	case h.Page != nil:
		return builtInPage{h.Page}
	}
	return nothing
}
