package gateway

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"padlock/proxy/message"
	"padlock/proxy/relay"
	"padlock/proxy/sites"
	"padlock/proxy/upstream"
	"padlock/traffic"
)

// tunnels are the open WebSockets, and what else has been upgraded. They have no end that could be waited for, so at
// ours their clients are asked to go.
type tunnels struct {
	mu    sync.Mutex
	open  map[*closeInjector]struct{}
	leave bool
}

func (t *tunnels) add(v *closeInjector) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil {
		t.open = map[*closeInjector]struct{}{}
	}
	t.open[v] = struct{}{}
	if t.leave {
		v.speaking.Go(v.goodbye)
	}
}

// remove closes a tunnel's client, and returns when nobody says goodbye to it any more.
func (t *tunnels) remove(v *closeInjector) {
	t.mu.Lock()
	// From now on, no tunnel is added.
	delete(t.open, v)
	t.mu.Unlock()
	// Closing ends a goodbye that waits for a client that does not read.
	v.Close()
	v.speaking.Wait()
}

// sayGoodbye says goodbye to all, now and from now on.
func (t *tunnels) sayGoodbye() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leave = true
	for v := range t.open {
		// A client that does not read keeps this goroutine waiting.
		v.speaking.Go(v.goodbye)
	}
}

// closeInjector passes on what a target sends to a WebSocket's client, and can say goodbye between two frames (RFC 6455
// section 5). Of other protocols it knows no words.
type closeInjector struct {
	message.Tunnel
	mute      bool               // the protocol is another
	again     func(*Routes) fate // of another configuration
	group     *upstream.Group    // by which it goes
	moved     func()             // ends it where its client has moved to an address that may not come; nil: it cannot move
	end       func()             // both sides
	dismissed atomic.Bool        // another configuration does not let it in
	speaking  sync.WaitGroup     // goodbyes, and what ends it

	mu      sync.Mutex
	head    [maxFrameHead]byte
	n       int    // of head, that have come
	left    uint64 // of the payload
	leaving bool   // say goodbye as soon as a frame has ended
	silent  bool   // nothing may follow a Close
}

const (
	maxFrameHead = 14
	closeOpcode  = 8
)

// goingAway is a Close with status 1001 (RFC 6455 section 7.4.1).
var goingAway = []byte{0x80 | closeOpcode, 2, 0x03, 0xe9}

// goodbye sends the client a close frame, as soon as no frame is open.
func (v *closeInjector) goodbye() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.leaving = true; v.between() && !v.mute {
		v.bye()
	}
}

// over reports whether the client has got a Close.
func (v *closeInjector) over() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.silent
}

func (v *closeInjector) between() bool { return v.n == 0 && v.left == 0 }

// bye is called with the lock held.
func (v *closeInjector) bye() {
	if !v.silent {
		v.silent = true
		_, _ = v.Tunnel.Write(goingAway)
	}
}

// Read implements io.Reader.
func (v *closeInjector) Read(p []byte) (int, error) {
	n, err := v.Tunnel.Read(p)
	if v.moved != nil && err == nil {
		v.moved()
		if v.dismissed.Load() {
			return 0, errRules
		}
	}
	return n, err
}

// Write implements io.Writer. What follows a Close is dropped.
func (v *closeInjector) Write(p []byte) (int, error) {
	if v.moved != nil {
		v.moved()
		if v.dismissed.Load() {
			return 0, errRules
		}
	}

	if v.mute {
		return v.Tunnel.Write(p)
	}

	v.mu.Lock()
	defer v.mu.Unlock()
	if v.silent {
		return len(p), nil
	}

	end := v.follow(p)
	if _, err := v.Tunnel.Write(p[:end]); err != nil {
		return 0, err
	}
	if v.leaving && v.between() {
		v.bye()
	}

	return len(p), nil
}

// follow keeps track of frames, and returns how much of p may be passed on: up to the end of a frame when we are
// leaving, or of a Close.
func (v *closeInjector) follow(p []byte) int {
	at := 0
	for at < len(p) {
		if v.left > 0 {
			n := min(v.left, uint64(len(p)-at))
			v.left -= n
			at += int(n)
		} else {
			v.head[v.n] = p[at]
			v.n++
			at++

			if length, ok := payloadLength(v.head[:v.n]); ok {
				v.left, v.n = length, 0
			} else {
				continue
			}
		}

		if v.left > 0 {
			continue
		}

		if v.head[0]&15 == closeOpcode {
			v.silent = true
			return at
		}

		if v.leaving {
			return at
		}
	}
	return at
}

// payloadLength reads a frame's head, if it is whole (RFC 6455 section 5.2).
func payloadLength(head []byte) (uint64, bool) {
	if len(head) < 2 {
		return 0, false
	}

	size, length := 2, uint64(head[1]&0x7f)
	switch length {
	case 126:
		size += 2
	case 127:
		size += 8
	}

	masked := head[1]&0x80 != 0
	if masked {
		size += 4
	}
	if len(head) < size {
		return 0, false
	}

	switch length {
	case 126:
		length = uint64(binary.BigEndian.Uint16(head[2:]))
	case 127:
		length = binary.BigEndian.Uint64(head[2:])
	}

	return length, true
}

// tunnel joins the client and the target after an upgrade, until both have ended or either has failed. It returns an
// error where nothing has been sent to the client.
func (h *Gateway) tunnel(x *Exchange, response *message.Response) error {
	defer response.Tunnel.Close()
	// Header rules apply to the head of a tunnel as to any response.
	x.dress(response)
	raw, err := x.w.Tunnel(response.Fields)
	switch {
	case errors.Is(err, message.ErrAccept):
		return notOpen(err)
	case err != nil:
		if page := x.unwritable(err); page != nil {
			return page
		}
		x.err = "client: " + err.Error()
		return nil
	case x.extended():
		// Over HTTP/2 and HTTP/3 a tunnel is accepted with 200 and not with 101 (RFC 8441 section 5, RFC 9220 section 3).
		x.w.status = 200
	}

	client := &closeInjector{Tunnel: raw, mute: x.request.Upgrade != sites.WebSocket, again: x.again, group: x.group}
	end := func() { client.Close(); response.Tunnel.Close() }
	client.end = end
	if moving, ok := raw.(message.Moving); ok {
		client.moved = func() {
			if x.follow(moving.Where()) && x.again(h.Routes()) != stays {
				client.dismissed.Store(true)
				end()
			}
		}
	}
	h.tunnels.add(client)
	defer h.tunnels.remove(client)
	// From now on the tunnel is followed as one of the tunnels, and not as a request.
	h.underway.remove(x)
	// A reload may have come before the tunnel was added to the set, and so missed it.
	if now := h.Routes(); now != x.routes && x.again(now) != stays {
		x.err = errRules.Error()
		return nil
	}

	idle := relay.NewIdle(h.Idle, func() {
		x.err = relay.ErrIdle.Error()
		h.Rejected(traffic.IdleTunnel, x.request.Conn.Addr, "")
		// A close frame lets a WebSocket's client know why the tunnel ends (RFC 6455 section 7.4.1).
		client.goodbye()
		end()
	})
	defer idle.Stop()
	if standing := x.request.Conn.Standing; standing != nil {
		defer context.AfterFunc(standing, end)()
	}

	up := make(chan int64, 1)
	go func() {
		n, err := relay.Copy(response.Tunnel, client, idle)
		var deaf *relay.WriteError
		switch {
		case errors.As(err, &deaf):
			// The target may still say why: what it sent before its end is not read yet.
			_, _ = io.Copy(io.Discard, client)
		case err != nil:
			end()
		}

		up <- n
	}()

	n, err := relay.Copy(client, response.Tunnel, idle)
	x.w.bytes += n
	if err != nil && client.over() {
		// The target closed properly, so the client's side is not cut either.
		err = client.CloseWrite()
	}
	if err != nil {
		client.Close()
	}

	// The target has ended; a client that does not end within this time is cut, so that no half-open tunnel stays.
	linger := relay.NewIdle(tunnelLinger, end)
	defer linger.Stop()
	x.bytesIn = <-up
	if standing := x.request.Conn.Standing; standing != nil && standing.Err() != nil {
		x.err = context.Cause(standing).Error()
	}
	if client.dismissed.Load() {
		x.err = errRules.Error()
	}
	if moved := x.moved.Load(); client.dismissed.Load() && moved != nil {
		x.err = errMoved.Error()
	}

	return nil
}

const tunnelLinger = 10 * time.Second
