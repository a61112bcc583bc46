package gateway

import (
	"errors"
	"strings"
	"time"

	"padlock/proxy/message"
)

const (
	challengePath = "/.well-known/acme-challenge/" // RFC 8555 section 8.3
	// For a storage that is away; then the site answers, as if there were no order.
	challengePatience = 3 * time.Second
)

// challenge answers a CA whose request of http-01 came by HTTPS, as behind a CDN that sends everybody there. Tokens
// that no node of this storage has offered are the site's own affair.
func (h *Gateway) challenge(next Action) Action {
	if h.Challenges == nil {
		return next
	}
	answer := message.TryHTTP(h.Challenges)
	return ActionFunc(func(ctx *message.Context, x *Exchange) (*message.Response, error) {
		if !x.asksForChallenge() {
			return next.Answer(ctx, x)
		}

		patience := new(message.Context)
		time.AfterFunc(challengePatience, patience.Cancel)
		response, err := try(patience, x, answer)
		if response == nil && err == nil {
			return next.Answer(ctx, x)
		}
		if err == nil && h.Validated != nil && x.request.Conn.Plain {
			h.Validated(x.request, x.start)
		}
		if response != nil {
			response.Fields.Set("Cache-Control", "no-store")
		}

		return response, err
	})
}

// asksForChallenge reports whether a request is as a CA's.
func (x *Exchange) asksForChallenge() bool {
	path, _, _ := strings.Cut(x.request.Target, "?")
	return x.request.Method == "GET" && strings.HasPrefix(path, challengePath) && path != challengePath
}

// try asks what message.TryHTTP has made. Without a response and without an error, the request is left to others.
func try(ctx *message.Context, x *Exchange, answer message.RoundTripper) (*message.Response, error) {
	response, err := answer.RoundTrip(ctx, x.request, x)
	if errors.Is(err, message.ErrDeclined) || errors.Is(err, message.ErrTarget) {
		return nil, nil
	}
	return response, err
}
