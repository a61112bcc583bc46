package http2

import (
	"fmt"
	"net/http"
	"os"
	"time"

	"padlock/proxy/message"
)

// awaitExtended returns whether the target takes WebSockets, which its first SETTINGS say (RFC 8441 section 3). It waits
// for them, and gives the place back where it does not.
func (b *backend) awaitExtended(x *exchange) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	late := false
	defer time.AfterFunc(b.t.o.Connect, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		late = true
		b.changed.Broadcast()
	}).Stop()

	for !b.greeted && b.full() == nil && x.err == nil && !late {
		b.changed.Wait()
	}
	switch {
	case x.err != nil || b.full() != nil || b.extended:
		// put finds out.
		return nil
	case late && !b.greeted:
		b.reserved--
		b.settled()
		return errLate
	}
	b.reserved--
	b.settled()
	return ErrUpgrade
}

// opened makes of the answer to an extended CONNECT what HTTP/1.1 says: a 101 with a proof for the client's key (RFC
// 8441 section 5). It is called with the lock held.
func (x *exchange) opened(fields message.Fields) {
	x.announced = -1
	fields.Set("Sec-WebSocket-Accept", message.WebSocketAccept(x.u.r.Fields.Value("Sec-WebSocket-Key")))
	x.response = message.Response{Status: http.StatusSwitchingProtocols, Fields: fields, Tunnel: (*targetTunnel)(x)}
}

// targetTunnel is the target's side of a WebSocket.
type targetTunnel exchange

func (t *targetTunnel) Read(p []byte) (int, error) { return (*exchange)(t).Read(p) }

func (t *targetTunnel) Write(p []byte) (int, error) {
	if err := (*exchange)(t).send(p, false, nil); err != nil {
		return 0, fmt.Errorf("writing: %w", err)
	}
	return len(p), nil
}

// CloseWrite implements message.Tunnel.
func (t *targetTunnel) CloseWrite() error { return (*exchange)(t).send(nil, true, nil) }

// Close implements message.Tunnel.
func (t *targetTunnel) Close() error { return (*exchange)(t).Close() }

// Until implements message.Tunnel.
func (t *targetTunnel) Until(at time.Time) {
	t.b.mu.Lock()
	defer t.b.mu.Unlock()
	t.readLimit = at
}

// waitToRead waits for something to read, at most until the limit that stands. It is called with the lock held.
func (x *exchange) waitToRead() error {
	if x.readLimit.IsZero() {
		x.changed.Wait()
		return nil
	}
	left := time.Until(x.readLimit)
	if left <= 0 {
		return os.ErrDeadlineExceeded
	}

	timer := time.AfterFunc(left, func() {
		// Taking the lock makes sure that the wait has begun.
		x.b.mu.Lock()
		defer x.b.mu.Unlock()
		x.changed.Broadcast()
	})
	x.changed.Wait()
	timer.Stop()
	return nil
}
