package gateway

import (
	"io"
	"strings"

	"padlock/config"
	"padlock/proxy/message"
	"padlock/proxy/paths"
	"padlock/proxy/sites"
)

// content is a response's that is at hand.
type content struct {
	left []byte
	read int64
}

// Read implements io.Reader.
func (c *content) Read(p []byte) (int, error) {
	n := copy(p, c.left)
	c.left = c.left[n:]
	c.read += int64(n)
	if len(c.left) == 0 {
		return n, io.EOF
	}
	return n, nil
}

// Close implements message.Body.
func (c *content) Close() error { return nil }

// Trailers implements message.Body.
func (c *content) Trailers() message.Fields { return nil }

// Buffered implements message.Body.
func (c *content) Buffered() int { return len(c.left) }

// Received implements message.Body.
func (c *content) Received() int64 { return c.read }

// whole is a response with all its content.
func (x *Exchange) whole(status int, fields message.Fields, text []byte) *message.Response {
	response := &message.Response{Status: status, Fields: fields, ContentLength: int64(len(text)), Body: &content{left: text}}
	if x.request.Method == "HEAD" {
		response.Body = &content{}
	}
	return response
}

// redirected is a response that leads elsewhere. ok is false where that is no address.
func (x *Exchange) redirected(status int, location string, ok bool) (*message.Response, error) {
	if !ok {
		return nil, &StatusError{Status: 500, Text: "The address that this one leads to is malformed"}
	}
	return x.whole(status, message.Fields{{Name: "Location", Value: location}}, nil), nil
}

// redirecting leads to another address.
type redirecting struct{ *sites.Redirect }

// Answer implements Action.
func (to redirecting) Answer(_ *message.Context, x *Exchange) (*message.Response, error) {
	location, ok := x.Location(to.Redirect)
	return x.redirected(to.Status, location, ok)
}

// toOtherName leads to the name that stands for the one that the client has asked for, with or without www. The port
// stays.
func (x *Exchange) toOtherName(other string) (*message.Response, error) {
	// A host name is expected here, so the only colon is the port's.
	_, port, _ := strings.Cut(x.request.Host, ":")
	if port != "" {
		other += ":" + port
	}
	scheme := "https://"
	if !x.secure() {
		scheme = "http://"
	}
	location, ok := paths.Location(scheme+other, x.request.Target)
	return x.redirected(308, location, ok)
}

// fixed answers what the configuration says.
type fixed struct{ *config.Respond }

// Answer implements Action.
func (f fixed) Answer(_ *message.Context, x *Exchange) (*message.Response, error) {
	return x.whole(f.Status, message.Fields{{Name: "Content-Type", Value: f.ContentType}}, []byte(f.Body)), nil
}

// nothing answers that there is nothing.
var nothing = ActionFunc(func(*message.Context, *Exchange) (*message.Response, error) { return nil, errNothing })

const readOnly = "GET, HEAD"

// builtInPage shows visitors their own handshake.
type builtInPage struct{ Page }

// Answer implements Action.
func (p builtInPage) Answer(ctx *message.Context, x *Exchange) (*message.Response, error) {
	if x.request.Method != "GET" && x.request.Method != "HEAD" {
		return nil, notAllowed("This page can only be read", readOnly)
	}
	if x.path.Raw != "/" {
		return nil, errNothing
	}
	html := p.HTML(ctx, x.request.Conn.Handshake, x.request.Host)
	return x.whole(200, message.Fields{
		{Name: "Content-Type", Value: "text/html; charset=utf-8"},
		{Name: "Content-Security-Policy", Value: p.ContentSecurityPolicy()},
		{Name: "Cache-Control", Value: "no-store"},
		{Name: "X-Content-Type-Options", Value: "nosniff"},
		{Name: "Referrer-Policy", Value: "no-referrer"},
	}, html), nil
}

// arrived answers a device that tries whether its handshake comes through. No target ever sees such a request.
func (h *Gateway) arrived(next Action) Action {
	if h.Arrival == nil {
		return next
	}
	return ActionFunc(func(ctx *message.Context, x *Exchange) (*message.Response, error) {
		if path, _, _ := strings.Cut(x.request.Target, "?"); path != h.Arrival.Path() {
			return next.Answer(ctx, x)
		}
		return x.arrived(h.Arrival)
	})
}

// arrived is what a device gets whose handshake has come through.
func (x *Exchange) arrived(trust Arrival) (*message.Response, error) {
	r := x.request
	if r.Method != "GET" && r.Method != "HEAD" {
		return nil, notAllowed("This page can only be read", readOnly)
	}

	html := trust.Arrived(r.Conn.Addr, r.Conn.Handshake, r.Host)
	if html == nil {
		return nil, errNothing
	}
	return x.whole(200, message.Fields{
		{Name: "Content-Type", Value: "text/html; charset=utf-8"},
		{Name: "Content-Security-Policy", Value: trust.ContentSecurityPolicy()},
		// The page that asks has come over HTTP, and so from another origin.
		{Name: "Cross-Origin-Resource-Policy", Value: "cross-origin"},
		{Name: "Cache-Control", Value: "no-store"},
		{Name: "X-Content-Type-Options", Value: "nosniff"},
		{Name: "Referrer-Policy", Value: "no-referrer"},
	}, html), nil
}
