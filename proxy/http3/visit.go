package http3

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"padlock/proxy/quota"
	"padlock/traffic"
)

// visit is a connection with what its client has done so far.
type visit struct {
	server *Server
	conn   *quic.Conn
	places chan struct{} // one per request that is served

	mu     sync.Mutex
	open   int // requests
	begun  uint64
	lost   uint64 // streams that never became a request
	resets quota.Quota
	over   bool
	timer  *time.Timer // runs while no request is open
}

type visitKey struct{}

// begin is called by quic-go for each connection.
func (s *Server) begin(ctx context.Context, conn *quic.Conn) context.Context {
	v := &visit{server: s, conn: conn, places: make(chan struct{}, s.o.Streams)}
	v.timer = time.AfterFunc(s.o.Idle, v.expire)
	context.AfterFunc(conn.Context(), func() { v.timer.Stop() })
	return context.WithValue(ctx, visitKey{}, v)
}

// expire ends a connection that has brought no request for too long, whatever else it has brought: quic-go would wait for heads that
// never come.
func (v *visit) expire() {
	v.mu.Lock()
	idle := v.open == 0
	v.mu.Unlock()
	if idle {
		_ = v.conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
	}
}

// enter waits for a request's turn. It reports false where the client has reset it meanwhile.
func (v *visit) enter(hr *http.Request, client netip.Addr) bool {
	v.count(hr, client)
	select {
	case v.places <- struct{}{}:
		return true
	case <-hr.Context().Done():
		v.leave(hr, client, false)
		return false
	}
}

// count counts the streams that were opened before this one and have not become requests. As many as may be open may be on their way.
func (v *visit) count(hr *http.Request, client netip.Addr) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.open++
	v.begun++
	v.timer.Stop()
	stream, ok := hr.Body.(interface{ StreamID() quic.StreamID })
	if !ok {
		return
	}
	opened := uint64(stream.StreamID())/4 + 1 // RFC 9000 section 2.1
	for opened > v.begun+v.lost+uint64(v.server.o.Streams) && !v.over {
		v.lost++
		v.spend(client)
	}
}

// leave ends a request, which we may have had to reset.
func (v *visit) leave(hr *http.Request, client netip.Addr, provoked bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.open--; v.open == 0 {
		v.timer.Reset(v.server.o.Idle)
	}
	if (provoked || hr.Context().Err() != nil) && v.conn.Context().Err() == nil {
		v.spend(client)
	}
}

// spend counts a reset. It is called with the lock held.
func (v *visit) spend(client netip.Addr) {
	if v.over || v.resets.Spend(v.server.o.Resets) {
		return
	}
	v.over = true
	v.server.tell(traffic.Resets, client)
	_ = v.conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeExcessiveLoad), "")
}
