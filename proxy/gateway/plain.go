package gateway

import (
	"log/slog"
	"net/http"
	"time"

	"padlock/proxy/message"
)

// PlainOptions of a gateway for plain HTTP. All but Routes, Location and Log may be nil.
type PlainOptions struct {
	Routes   func() *Routes                                  // that is in force: who is trusted, and which fields are secret
	Location func(host, target string) (url string, ok bool) // the same thing by https://; not ok where it is not served
	// Reports a site that wants nothing over plain HTTP, not even a redirect; may be nil.
	Off func(host string) bool
	// Answers a CA's request of http-01, and reports whether it was one.
	Challenges func(http.ResponseWriter, *http.Request) bool
	Validated  func(r *message.Request, began time.Time)     // is called when it was
	Trust      func(http.ResponseWriter, *http.Request) bool // the trust page
	Log        *slog.Logger
	AccessLog  *AccessLog
}

// NewPlain answers on ports of plain HTTP: with answers for CAs, the trust page, and for all else with where it is by
// https://.
func NewPlain(o PlainOptions) *Gateway {
	h := &Gateway{Options: Options{Routes: o.Routes, Log: o.Log}, access: o.AccessLog}
	h.first = chain(ActionFunc(o.toHTTPS), []Filter{
		before(h.identify),
		// A CA follows redirects, but a token for a name that is no site's is answered too.
		o.validation,
		// At this machine's own addresses, which may be sites as well.
		o.trustPage,
	})
	return h
}

// trusting shows the trust page on connections of plain HTTP, whatever site may be served there too.
func (h *Gateway) trusting(next Action) Action {
	if h.Trust == nil {
		return next
	}
	page := (&PlainOptions{Trust: h.Trust}).trustPage(next)
	return ActionFunc(func(ctx *message.Context, x *Exchange) (*message.Response, error) {
		if x.request.Conn.Plain {
			return page.Answer(ctx, x)
		}
		return next.Answer(ctx, x)
	})
}

func (o *PlainOptions) toHTTPS(_ *message.Context, x *Exchange) (*message.Response, error) {
	if o.Off != nil && o.Off(x.request.Host) {
		return nil, errOnlyHTTPS
	}
	location, ok := o.Location(x.request.Host, x.request.Target)
	if !ok {
		return nil, errNotServed
	}
	return x.redirected(308, location, ok)
}

// RFC 9110 section 15.5.20: it is unwilling to answer for the target URI, whose scheme is http.
var errOnlyHTTPS = status(421, "This site is served over HTTPS only")

var errNotServed = status(404, "padlock does not serve this host")

func (o *PlainOptions) validation(next Action) Action {
	if o.Challenges == nil {
		return next
	}
	answer := message.TryHTTP(o.Challenges)
	return ActionFunc(func(ctx *message.Context, x *Exchange) (*message.Response, error) {
		if !x.asksForChallenge() {
			return next.Answer(ctx, x)
		}

		response, err := try(ctx, x, answer)
		if response == nil && err == nil {
			return next.Answer(ctx, x)
		}
		if err == nil && o.Validated != nil {
			o.Validated(x.request, x.start)
		}
		return response, err
	})
}

func (o *PlainOptions) trustPage(next Action) Action {
	if o.Trust == nil {
		return next
	}
	answer := message.TryHTTP(o.Trust)
	return ActionFunc(func(ctx *message.Context, x *Exchange) (*message.Response, error) {
		response, err := try(ctx, x, answer)
		if response == nil && err == nil {
			return next.Answer(ctx, x)
		}
		return response, err
	})
}
