package gateway

import (
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"padlock/proxy/message"
	"padlock/proxy/sites"
	"padlock/proxy/upstream"
)

const (
	mirrorsAtOnce  = 64 // of one route; more are dropped, as nobody waits for any
	mirrorPatience = 10 * time.Second
)

// mirrors send copies of requests to other targets, and wait for all when the gateway ends. They are safe for use from
// many goroutines.
type mirrors struct {
	log *slog.Logger

	mu     sync.Mutex
	closed bool
	open   map[*message.Context]struct{}
	going  sync.WaitGroup
	warned time.Time // that some were dropped
}

// mirrored has a share of the requests copied to another target, when the first has answered: neither a slow copy nor
// one that fails is anything to the client.
func (h *Gateway) mirrored(m *sites.Mirror) Filter {
	slots := make(chan struct{}, mirrorsAtOnce)
	return func(next Action) Action {
		return ActionFunc(func(ctx *message.Context, x *Exchange) (*message.Response, error) {
			// What follows an upgrade is no request.
			if x.request.Upgrade != "" || m.Percent < 100 && rand.Float64()*100 >= m.Percent || x.request.ContentLength > m.Body {
				return next.Answer(ctx, x)
			}

			copied := m.CopyOf(x.request)
			var content *keptContent
			if x.request.Body != nil {
				content = &keptContent{Body: x.request.Body, rooms: h.rooms, client: x.addr, limit: m.Body, length: x.request.ContentLength}
				x.request.Body = content
			}

			response, err := next.Answer(ctx, x)
			if text, whole := content.take(); whole && err == nil {
				h.mirrors.send(m, copied, text, slots, content.free)
			} else {
				content.free()
			}
			return response, err
		})
	}
}

// keptContent keeps what is read of a request's content, up to a limit and as much as there is memory for. Another
// goroutine may read it than the one that takes it.
type keptContent struct {
	message.Body
	rooms  *rooms
	client netip.Addr
	limit  int64
	length int64 // -1: unknown

	mu    sync.Mutex
	data  []byte
	held  int64 // of the memory for what is buffered
	whole bool
	given bool // it was taken, or is too large: nothing more is kept
}

// Read implements io.Reader.
func (c *keptContent) Read(p []byte) (int, error) {
	n, err := c.Body.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.given {
		return n, err
	}

	if more := int64(n); more > 0 {
		if int64(len(c.data))+more > c.limit || !c.rooms.take(c.client, more) {
			c.given = true
			return n, err
		}
		c.held += more
		c.data = append(c.data, p[:n]...)
	}
	c.whole = errors.Is(err, io.EOF) || c.length >= 0 && int64(len(c.data)) == c.length
	return n, err
}

// take is the content, if all of it was read. There is none of nil.
func (c *keptContent) take() (data []byte, whole bool) {
	if c == nil {
		return nil, true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	whole = c.whole && !c.given
	c.given = true
	return c.data, whole
}

// free gives the memory back.
func (c *keptContent) free() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rooms.leave(c.client, c.held)
	c.held, c.data = 0, nil
}

// send sends a copy, unless as many are under way as may be. done is called when it has ended.
func (s *mirrors) send(m *sites.Mirror, r *message.Request, text []byte, slots chan struct{}, done func()) {
	select {
	case slots <- struct{}{}:
	default:
		s.warn()
		done()
		return
	}

	ctx := new(message.Context)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		<-slots
		done()
		return
	}
	if s.open == nil {
		s.open = map[*message.Context]struct{}{}
	}
	s.open[ctx] = struct{}{}
	// With the lock held: close waits for all that it has seen.
	s.going.Go(func() {
		defer func() {
			s.mu.Lock()
			delete(s.open, ctx)
			s.mu.Unlock()
			<-slots
			done()
		}()
		exchange(ctx, m, r, text)
	})
	s.mu.Unlock()
}

// exchange sends a copy, and discards what comes.
func exchange(ctx *message.Context, m *sites.Mirror, r *message.Request, text []byte) {
	defer time.AfterFunc(mirrorPatience, ctx.Cancel).Stop()
	if len(text) > 0 {
		r.Body = &content{left: text}
	}
	r.ContentLength = int64(len(text))

	var attempt upstream.Attempt
	defer attempt.End()
	response, err := m.Group.RoundTrip(ctx, r, ignored{}, &attempt)
	switch {
	case err != nil:
	case response.Tunnel != nil:
		response.Tunnel.Close()
	default:
		// The connection can be used again if this was all of it.
		_, _ = io.CopyN(io.Discard, response.Body, discarded)
		response.Body.Close()
	}
}

// close ends all copies.
func (s *mirrors) close() {
	s.mu.Lock()
	s.closed = true
	for ctx := range s.open {
		ctx.Cancel()
	}
	s.mu.Unlock()
	s.going.Wait()
}

func (s *mirrors) warn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.warned) >= warnEvery {
		s.warned = now
		s.log.Warn("requests are not mirrored, as too many copies are under way: the target of mirror is slower than the route's", "at_once", mirrorsAtOnce)
	}
}
