package gateway

import (
	"errors"
	"slices"

	"padlock/proxy/message"
	"padlock/proxy/upstream"
)

// succeeded is the group that a request goes to while a deploy replaces the targets of its route, or afterwards, where
// the request was let in before. What waits is not counted as open at the old targets, which a deploy waits for.
func (h *Gateway) succeeded(ctx *message.Context, x *Exchange, group *upstream.Group) (*upstream.Group, error) {
	h.underway.moved(x, nil)
	next, err := group.Successor(ctx)
	switch {
	case err == nil:
		h.underway.moved(x, next)
		return next, nil
	case errors.Is(err, upstream.ErrHeld):
		held := busy(503, "The application behind this address is being replaced")
		held.Cause = err.Error()
		return nil, held
	}
	return nil, h.failed(ctx, x, err)
}

// moved notes by which group a request is forwarded.
func (u *underway) moved(x *Exchange, to *upstream.Group) {
	u.mu.Lock()
	defer u.mu.Unlock()
	x.group = to
}

// Open is how many requests and tunnels go by groups.
func (h *Gateway) Open(groups []*upstream.Group) (requests, tunnels int) {
	h.underway.mu.Lock()
	for _, x := range h.underway.open {
		if slices.Contains(groups, x.group) {
			requests++
		}
	}
	h.underway.mu.Unlock()

	h.tunnels.mu.Lock()
	defer h.tunnels.mu.Unlock()
	for v := range h.tunnels.open {
		if slices.Contains(groups, v.group) {
			tunnels++
		}
	}
	return requests, tunnels
}

// EndTunnels ends the tunnels of groups, those of WebSockets with a Close, and returns how many.
func (h *Gateway) EndTunnels(groups []*upstream.Group) (ended int) {
	t := &h.tunnels
	t.mu.Lock()
	defer t.mu.Unlock()
	for v := range t.open {
		if slices.Contains(groups, v.group) {
			// A client that does not read keeps this goroutine waiting.
			v.speaking.Go(func() {
				v.goodbye()
				v.end()
			})
			ended++
		}
	}
	return ended
}
