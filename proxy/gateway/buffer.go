package gateway

import (
	"errors"
	"io"
	"strings"
	"sync/atomic"

	"padlock/proxy/message"
)

// bufferedBody is a request's content whose beginning was read before a target was asked.
type bufferedBody struct {
	message.Body
	data []byte
	at   int
	err  error // that followed data; nil: there is more

	received atomic.Int64
}

// Read implements io.Reader.
func (b *bufferedBody) Read(p []byte) (n int, err error) {
	switch {
	case b.at < len(b.data):
		n = copy(p, b.data[b.at:])
		b.at += n
	case b.err != nil:
		return 0, b.err
	default:
		n, err = b.Body.Read(p)
	}
	b.received.Add(int64(n))
	return n, err
}

// Received implements message.Body. What was only put aside can still go to another target.
func (b *bufferedBody) Received() int64 { return b.received.Load() }

// Buffered implements message.Body. A content that is whole is not asked: its connection looks for the next request
// already.
func (b *bufferedBody) Buffered() int {
	if b.err != nil {
		return len(b.data) - b.at
	}
	// What is kept and what the connection has at hand both need no waiting.
	return len(b.data) - b.at + b.Body.Buffered()
}

// isStream reports whether a message is a stream: its end may never come, or wait for what the other side makes of its
// beginning. A response says so with X-Accel-Buffering too, which many frameworks send for nginx.
func isStream(fields message.Fields) bool {
	kind, _, _ := strings.Cut(fields.Value("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "text/event-stream") || fields.GRPC() || strings.EqualFold(fields.Value("X-Accel-Buffering"), "no")
}

// bufferRequest reads a request's content, up to a limit and as much as there is memory for, so that a slow client does
// not keep a target waiting.
func (h *Gateway) bufferRequest(ctx *message.Context, x *Exchange) error {
	r, limit := x.request, int64(x.route.Buffer.Request)
	if r.Body == nil || r.Upgrade != "" || isStream(r.Fields) {
		return nil
	}

	// What a client announces may never come, so memory is taken as content does.
	data, err := h.rooms.fill(r.Body, x.addr, &x.held, 0, limit)
	switch {
	case err == nil:
	case !errors.Is(err, io.EOF):
		return h.failed(ctx, x, &message.BodyError{Err: err})
	// Trailers need chunked content (RFC 9112 section 7.1.2).
	case len(r.Declared) == 0:
		r.ContentLength = int64(len(data))
	}

	r.Body = &bufferedBody{Body: r.Body, data: data, err: err}
	return nil
}

// bufferResponse reads a response before it is sent, so that a slow client does not keep a target's connection.
func (h *Gateway) bufferResponse(next Action) Action {
	return ActionFunc(func(ctx *message.Context, x *Exchange) (*message.Response, error) {
		response, err := next.Answer(ctx, x)
		if err == nil && response.Tunnel == nil {
			h.keep(x, response, int64(x.route.Buffer.Response))
		}
		return response, err
	})
}

// keep reads a response, up to a limit and as much as there is memory for.
func (h *Gateway) keep(x *Exchange, response *message.Response, limit int64) {
	// A response that is known to be larger would only be delayed, and its end could not be kept.
	if response.ContentLength > limit || isStream(response.Fields) {
		return
	}

	body := response.Body
	// Asking for one byte more than announced finds the end.
	data, err := h.rooms.fill(body, x.addr, &x.held, response.ContentLength+1, limit)
	whole := &bufferedBody{Body: body, data: data, err: err}
	response.Body = whole

	// The target's connection is given back before the client has read anything, which is what the buffer is for.
	if errors.Is(err, io.EOF) && x.contentCame() {
		// From now on, the connection to the target serves others.
		_ = body.Close()
		response.Body = &keptBody{whole, body.Trailers()}
	}
}

// contentCame reports whether nothing of the request's content is left to come, as far as is known: an early answer is
// not to wait for the rest of it, for which its client may wait for the answer.
func (x *Exchange) contentCame() bool {
	r := x.request
	return r.Body == nil || ended(r.Body) || r.ContentLength >= 0 && r.Body.Received() >= r.ContentLength
}

// keptBody is a response's content that was read to its end; the target has nothing to do with it any more.
type keptBody struct {
	*bufferedBody
	trailers message.Fields
}

// Trailers implements message.Body.
func (b *keptBody) Trailers() message.Fields { return b.trailers }

// Received implements message.Body.
func (b *keptBody) Received() int64 { return int64(b.at) }

// Close implements message.Body.
func (b *keptBody) Close() error { return nil }
