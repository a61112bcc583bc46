package http2

import (
	"errors"

	"golang.org/x/net/http2"

	"padlock/proxy/deadline"
	"padlock/proxy/quota"
	"padlock/traffic"
)

// What a client may do within quota.Span that costs us more than it costs the client, where nothing else is said.
const (
	maxFields    = 200    // of a request
	maxResets    = 1000   // streams that it reset, or made us reset
	maxPointless = 10_000 // frames that nothing comes of
)

// floodError ends a connection whose client goes too far.
type floodError traffic.Reason

func (e floodError) Error() string { return traffic.Reason(e).Why() }

// report says why the client is rejected.
func (c *connection) report(why traffic.Reason) { c.reportDetail(why, "") }

// reportDetail is report with what was wrong in particular.
func (c *connection) reportDetail(why traffic.Reason, what string) {
	if cut := c.server.o.Rejected; cut != nil {
		cut(why, c.conn.Facts().Addr, what)
	}
}

// blame reports a connection that its client's fault has ended.
func (c *connection) blame(cause error) {
	var far floodError
	var broken http2.ConnectionError
	switch {
	case errors.As(cause, &far):
		c.report(traffic.Reason(far))
	case errors.As(cause, &broken), errors.Is(cause, http2.ErrFrameTooLarge):
		c.report(traffic.Malformed)
	case deadline.Exceeded(cause):
		c.report(traffic.SlowHeader)
	}
}

// conduct counts what the other side does that costs us more than it. It is guarded by its connection's lock.
type conduct struct {
	resets     quota.Quota
	pointless  quota.Quota
	worthwhile int // frames that excuse as many pointless ones

	mostResets, mostPointless int
}

// countReset is for a stream that was reset.
func (c *conduct) countReset() error {
	if !c.resets.Spend(c.mostResets) {
		return floodError(traffic.Resets)
	}
	return nil
}

// countPointless is for a frame that may have come to no purpose.
func (c *conduct) countPointless() error {
	switch {
	case c.worthwhile > 0:
		c.worthwhile--
	case !c.pointless.Spend(c.mostPointless):
		return floodError(traffic.NoopFrames)
	}
	return nil
}

// excuse lets some pointless frames pass, for one that had a purpose.
func (c *conduct) excuse() { c.worthwhile = min(c.worthwhile+4, c.mostPointless) }
