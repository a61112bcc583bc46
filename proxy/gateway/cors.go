package gateway

import (
	"strings"

	"padlock/proxy/message"
	"padlock/proxy/sites"
)

// preflights is the method that a browser asks permission for, before it sends a request of another origin's page (Fetch
// section 4.8).
func (x *Exchange) preflights() (method string, ok bool) {
	if x.request.Method != "OPTIONS" {
		return "", false
	}
	f := x.request.Fields
	_, one := single(f.Lines("Origin"))
	method, ok = single(f.Lines("Access-Control-Request-Method"))
	return method, ok && one
}

// findPreflight finds the route of the request that a browser asks about, if padlock answers for it.
func (x *Exchange) findPreflight() bool {
	method, ok := x.preflights()
	if !ok {
		return false
	}
	route, _ := x.site.Route(method, &x.path, x)
	if route == nil || route.CORS == nil {
		return false
	}
	x.route = route
	return true
}

// preflight answers a browser that asks for permission. No target sees the question, and nobody has to prove anything
// for it: browsers send no credentials with it.
func preflight(c *sites.CORS) Filter {
	return func(next Action) Action {
		return ActionFunc(func(ctx *message.Context, x *Exchange) (*message.Response, error) {
			if _, ok := x.preflights(); !ok {
				return next.Answer(ctx, x)
			}
			origin := x.request.Fields.Value("Origin")
			if !c.Allows(origin) {
				return nil, &StatusError{Status: 403, Text: "Pages of this origin may not do this", Cause: "cors: " + origin + " is none of the origins"}
			}

			x.preflighted = true
			response := x.whole(204, append(message.Fields{{Name: "Vary", Value: "Access-Control-Request-Method, Access-Control-Request-Headers"}}, c.Answer...), nil)
			return response, nil
		})
	}
}

// cors is who may read the response; nil: what the target says counts.
func (x *Exchange) cors() *sites.CORS {
	if x.route != nil {
		return x.route.CORS
	}
	return x.site.CORS
}

// ofCORS reports whether a field of a response says who may read it.
func ofCORS(name string) bool {
	const family = "Access-Control-"
	return len(name) > len(family) && strings.EqualFold(name[:len(family)], family)
}

// share says of a response which page may read it, padlock's own errors included: a page must learn that it has to log
// in.
func (x *Exchange) share(f *message.Fields) {
	c := x.cors()
	if c == nil {
		return
	}
	if !x.preflighted {
		f.DelFunc(ofCORS)
	}
	if c.Any {
		f.Add("Access-Control-Allow-Origin", "*")
		*f = append(*f, c.Shares...)
		return
	}

	// A cache must not give one page what was said to another, nor what was said to none.
	if !f.HasToken("Vary", "Origin") && !f.HasToken("Vary", "*") {
		f.Add("Vary", "Origin")
	}
	if origin, ok := single(x.request.Fields.Lines("Origin")); ok && c.Allows(origin) {
		f.Add("Access-Control-Allow-Origin", origin)
		*f = append(*f, c.Shares...)
	}
}
