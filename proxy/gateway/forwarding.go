package gateway

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"

	"padlock/proxy/message"
	"padlock/proxy/sites"
	"padlock/proxy/upstream"
	"padlock/traffic"
)

// forwarding sends requests to a route's targets.
type forwarding struct {
	h     *Gateway
	route *sites.Route
}

// Answer implements Action.
func (f *forwarding) Answer(ctx *message.Context, x *Exchange) (*message.Response, error) {
	// From here on a reload that lets the client in no more can end the request.
	if err := f.h.underway.add(ctx, x, f.h.Routes); err != nil {
		return nil, err
	}

	group := f.route.Group
	if group.Succeeded() {
		var err error
		if group, err = f.h.succeeded(ctx, x, group); err != nil {
			return nil, err
		}
		if err := x.begins(f.h.Routes()); err != nil {
			return nil, err
		}
	}
	if group.Queues() {
		x.attempt.Begin = func() error { return x.begins(f.h.Routes()) }
	}
	if group.Patient() {
		x.attempt.Late, x.attempt.LateAfter = f.h.late.of(x), f.h.late.after
	}
	if x.record != nil {
		x.attempt.Follower = x.record
	}
	response, err := group.RoundTrip(ctx, x.request, x, &x.attempt)
	if err != nil {
		return nil, f.h.failed(ctx, x, err)
	}

	// A response to an upgrade that does not fit must not reach the client as if it did.
	if mistaken(x, response) {
		response.Body.Close()
		return nil, notOpen(errNotOpen)
	}

	x.fromTarget, x.sticky = true, x.attempt.Cookie
	// The fields of the target's connection come off before anything else looks at the response.
	response.Fields.RemoveHopByHop()
	x.rewriteResponse(response.Fields)
	return response, nil
}

// retarget puts another path, or another host, into the place of the client's.
func retarget(_ *message.Context, x *Exchange) error {
	r, route := x.request, x.route
	if route.Strip {
		target, err := route.Pattern.Replace(&x.path, route.Replace)
		if err != nil {
			return ambiguous(err)
		}
		r.Target = target
	}
	if route.Host != "" {
		r.Host = route.Host
	}
	return nil
}

// oneConnection is for credentials that authenticate a connection: a client whose requests are streams of one comes
// again over HTTP/1.1, where one of the target's connections can be its own.
func oneConnection(next Action) Action {
	return ActionFunc(func(ctx *message.Context, x *Exchange) (*message.Response, error) {
		r := x.request
		if x.shares() && r.Fields.NeedsOneConnection() {
			return nil, errOneConnection
		}

		response, err := next.Answer(ctx, x)
		if err != nil || response.Status != 401 {
			return response, err
		}

		switch {
		case x.shares() && r.Fields.AuthenticatesConnection() && response.Fields.ContinuesAuthentication():
			response.Body.Close()
			return nil, errOneConnection
		// Nothing can be done about it here, so the log says why the user cannot sign in.
		case r.Shared && r.Fields.NeedsOneConnection():
			x.err = "NTLM authenticates a connection, and this one is of trusted_proxies, which carry several clients: it cannot work through them"
		}

		return response, nil
	})
}

var errOneConnection = &fallback{"NTLM and Negotiate authenticate a connection, which needs HTTP/1.1: the client was told so"}

// shares reports whether a client sends its requests as streams of one connection, next to which no target's connection
// can be its own.
func (x *Exchange) shares() bool { return !strings.HasPrefix(x.request.Proto, "HTTP/1.") }

// limitedBody is a request's content that may not be larger than a route allows.
type limitedBody struct {
	message.Body
	left int64
}

var errTooLarge = errors.New("larger than this route allows")

// Read implements io.Reader.
func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.Body.Read(p)
	if b.left -= int64(n); b.left < 0 {
		// None of the last read is passed on: the target must not see content that was cut to size.
		return 0, errTooLarge
	}
	return n, err
}

// limitBody refuses content that is said to be larger than the route allows, and ends other content that is.
func limitBody(_ *message.Context, x *Exchange) error {
	r, limit := x.request, x.route.BodyLimit
	if r.ContentLength > limit {
		return status(413, tooLarge)
	}
	// An announced length is checked once. Only content without one has to be counted.
	if r.Body != nil && r.ContentLength < 0 {
		x.limited = limitedBody{r.Body, limit}
		r.Body = &x.limited
	}
	return nil
}

const tooLarge = "The request's content is too large"

// failed is what a client gets whose request could not be forwarded.
func (h *Gateway) failed(ctx *message.Context, x *Exchange, err error) error {
	var unread *message.BodyError
	var unsent *message.InterimError
	var late *StatusError
	switch {
	// What was found when the request's turn had come.
	case errors.As(err, &late):
		return late
	// Our own reasons come first: what the target says of a request that we ended is a consequence.
	case x.dismissed.Load(), errors.Is(err, errDismissed):
		return errDismissed
	case ctx.Err() != nil, errors.As(err, &unsent):
		return errGone
	case errors.As(err, &unread):
		return h.unread(x, unread)
	}
	return h.unanswered(x, err)
}

var (
	errGone      = &abort{"client went away"}
	errDismissed = &abort{errRules.Error()}
)

// unread is for a request whose content did not come as it was announced.
func (h *Gateway) unread(x *Exchange, err *message.BodyError) error {
	page := &StatusError{Status: 400, Text: "The request's content is malformed", Cause: "client: " + err.Error()}

	// Over HTTP/1.1, content fails with its connection, and with no error of the protocol.
	var broken *net.OpError
	switch {
	case errors.Is(err, errTooLarge):
		page.Status, page.Text = 413, tooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		h.Rejected(traffic.SlowBody, x.request.Conn.Addr, "")
		page.Status, page.Text = 408, "The request's content did not come in time"
	// The client has gone, so there is nobody to show a page to.
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.As(err, &broken):
		return &abort{page.Cause}
	default:
		h.Rejected(traffic.Malformed, x.request.Conn.Addr, err.Err.Error())
	}
	return page
}

// unanswered is for a request to which no target has answered.
func (h *Gateway) unanswered(x *Exchange, err error) error {
	page := status(502, "The application behind this address did not answer")
	page.Cause = err.Error()
	var failure *upstream.Error
	var unhealthy *upstream.UnhealthyError
	var unwritable *message.Unwritable
	var ended *message.ResetError
	switch {
	// gRPC reads its status from the reset's code, which says more than a status of padlock's would.
	case errors.As(err, &ended) && x.readsResets():
		return &reset{ended.Code, err.Error()}
	case errors.As(err, &unwritable):
		page.Status, page.Text, page.Cause = 500, "The request cannot be passed on", "the request for the target: "+err.Error()
	case errors.Is(err, upstream.ErrUnhealthy):
		page = busy(503, "The application behind this address is not well")
		page.Cause = err.Error()
		if h.Details && errors.As(err, &unhealthy) && len(unhealthy.Reasons) > 0 {
			page.Detail = "padlock checks its health. " + strings.Join(unhealthy.Reasons, "; ") + "."
		}
	case errors.Is(err, upstream.ErrUnresolved):
		page.Text = "The application behind this address cannot be found"
	case errors.Is(err, upstream.ErrFull):
		page = busy(503, "The application behind this address is busy")
		page.Cause = err.Error()
	case errors.As(err, &failure):
		page.Cause = failure.Error()
		if failure.Timeout() {
			page.Status, page.Text = 504, "The application behind this address took too long to answer"
		}
		// The target's address is for those who run it, so the page has it only where the configuration asks for
		// that.
		if h.Details {
			page.Detail = "padlock tried " + failure.Target.String() + ": " + failure.Reason() + "."
		}
	}

	return page
}

// readsResets reports whether the client speaks gRPC, which has a meaning for the code of a reset, such as that of a
// server whose deadline has passed.
func (x *Exchange) readsResets() bool {
	return x.rpc != "" && !strings.HasPrefix(x.rpc, webType) && traffic.OfProto(x.request.Proto) != traffic.HTTP1
}
