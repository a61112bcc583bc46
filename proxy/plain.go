package proxy

import (
	"log/slog"
	"net/http"
	"time"

	"padlock/proxy/message"
)

// plainOptions of a gateway for plain HTTP. All but location and log may be nil.
type plainOptions struct {
	location   func(host, target string) (url string, ok bool) // the same thing by https://; not ok where it is not served
	challenges func(http.ResponseWriter, *http.Request) bool   // answers a CA's request of http-01, and reports whether it was one
	validated  func(r *message.Request, began time.Time)       // is told that it was
	trust      func(http.ResponseWriter, *http.Request) bool   // the trust page
	log        *slog.Logger
}

// newPlain answers on ports of plain HTTP: with answers for CAs, the trust page, and for all else with where it is by https://.
func newPlain(o plainOptions) *handler {
	h := &handler{options: options{state: func() *routing { return nil }, log: o.log}}
	h.first = chain(ActionFunc(o.toHTTPS), []Filter{
		o.validation, // a CA follows redirects, but a token for a name that is no site's is answered too
		o.trustPage,  // at this machine's own addresses, which may be sites as well
	})
	return h
}

func (o *plainOptions) toHTTPS(_ *message.Context, x *exchange) (*message.Response, error) {
	location, ok := o.location(x.request.Host, x.request.Target)
	if !ok {
		return nil, errNotServed
	}
	return x.redirected(308, location, ok)
}

var errNotServed = status(404, "padlock does not serve this host")

func (o *plainOptions) validation(next Action) Action {
	if o.challenges == nil {
		return next
	}
	answer := message.TryHTTP(o.challenges)
	return ActionFunc(func(ctx *message.Context, x *exchange) (*message.Response, error) {
		if !x.asksForChallenge() {
			return next.Answer(ctx, x)
		}
		response, err := try(ctx, x, answer)
		if response == nil && err == nil {
			return next.Answer(ctx, x)
		}
		if err == nil && o.validated != nil {
			o.validated(x.request, x.start)
		}
		return response, err
	})
}

func (o *plainOptions) trustPage(next Action) Action {
	if o.trust == nil {
		return next
	}
	answer := message.TryHTTP(o.trust)
	return ActionFunc(func(ctx *message.Context, x *exchange) (*message.Response, error) {
		response, err := try(ctx, x, answer)
		if response == nil && err == nil {
			return next.Answer(ctx, x)
		}
		return response, err
	})
}
