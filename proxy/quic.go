package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"

	"padlock/handshake"
	"padlock/internal/fair"
	"padlock/proxy/http3"
	"padlock/proxy/message"
	"padlock/proxy/sites"
	"padlock/traffic"
)

// packets is where QUIC comes in: beside each HTTPS listener, UDP on the same address. Sites with listeners of their
// own have none.
type packets struct {
	server    *Server
	address   string // of the listener beside it, as the configuration has it
	transport *quic.Transport
	socket    net.PacketConn
	listener  *quic.Listener
	early     atomic.Int32 // handshakes that are not complete

	mu         sync.Mutex
	handshakes fair.Tally // those, by source
}

// maxEarly handshakes may be on their way before clients have to prove their address, at the price of a round trip (RFC
// 9000 section 8.1.2).
const maxEarly = 128

// versions tells of clients that speak a version of QUIC that nobody knows here. They are answered with those that are
// known.
type versions struct {
	recorder *handshake.Recorder
	local    net.Addr
}

// RecordEvent implements qlogwriter.Recorder.
func (v versions) RecordEvent(e qlogwriter.Event) {
	if _, unknown := e.(qlog.VersionNegotiationSent); unknown {
		v.recorder.UnknownQUIC(v.local)
	}
}

// Close implements qlogwriter.Recorder.
func (versions) Close() error { return nil }

// flow is one connection of QUIC.
type flow struct {
	owner  *packets
	policy *sites.Policy
	trace  *handshake.QUIC // nil when handshakes are off
	local  net.Addr
	remote net.Addr
	from   netip.Prefix
	slot   *slot
	conn   atomic.Pointer[quic.Conn] // nil until the handshake is complete

	once  sync.Once
	facts *message.Conn
	last  atomic.Pointer[whereabouts] // of the client; set when the handshake is complete
	state tls.ConnectionState
	done  atomic.Bool

	unread atomic.Int64 // of the memory for what nobody has read
}

// whereabouts is where the client of a connection is, and what is known of the connection then.
type whereabouts struct {
	remote net.Addr
	facts  *message.Conn
}

type flowKey struct{}

// openQUIC opens UDP beside an HTTPS listener.
func (s *Server) openQUIC(l Listener) (*packets, error) {
	// It would go to standard error; docs/operations.md tells.
	_ = os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true")
	socket, err := l.Packets, error(nil)
	if socket == nil {
		socket, err = net.ListenPacket("udp", l.Addr().String())
	}
	if err != nil {
		return nil, err
	}

	p := &packets{server: s, address: l.Address, socket: socket}
	// By address: nobody may use up another's share.
	counted := s.config().Limits.PerAddress > 0 || s.config().Certificates.OnDemand != nil
	p.transport = &quic.Transport{
		Conn: socket, ConnContext: p.begin, VerifySourceAddress: func(net.Addr) bool { return counted || p.early.Load() > maxEarly },
	}
	if s.deps.Recorder != nil {
		p.transport.Tracer = versions{s.deps.Recorder, socket.LocalAddr()}
	}

	t := s.config().Timeouts

	// A connection is kept alive while HTTP has something open on it, however silent: a WebSocket, or an answer that is
	// long in coming. After that http3's own timeout ends it; this one ends those whose clients are gone.
	settings := &quic.Config{HandshakeIdleTimeout: t.Handshake / 2, MaxIdleTimeout: t.Idle, KeepAlivePeriod: t.Idle / 2}
	http3.Configure(settings, s.config().Limits.Streams, s.widen)
	p.listener, err = p.transport.Listen(
		&tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{http3.Protocol}, GetConfigForClient: p.configForClient},
		settings,
	)
	if err != nil {
		socket.Close()
		return nil, err
	}

	return p, nil
}

var errBusy = errors.New("as many connections as there may be")

// begin is called for each connection, before its handshake.
func (p *packets) begin(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	// QUIC has no PROXY header that could name the client behind the proxy.
	if p.server.proxied(info.RemoteAddr) {
		p.server.deps.Log.Debug("connection refused", "remote", info.RemoteAddr, "error", errNone)
		return nil, errNone
	}

	f := &flow{owner: p, local: p.socket.LocalAddr(), remote: info.RemoteAddr}
	from, err := p.enter(f)
	if err != nil {
		return nil, err
	}
	if recorder := p.server.recorder(); recorder != nil {
		f.trace = recorder.QUIC(info.RemoteAddr, f.local)
	}

	f.from = from
	ctx = context.WithValue(ctx, flowKey{}, f)
	context.AfterFunc(ctx, func() {
		p.server.slots.leave(f.slot)
		p.server.addresses.leave(from)
		f.narrow()
		f.end(context.Cause(ctx))
	})
	return ctx, nil
}

// widen takes memory for what a client may send before it is read. It is called with QUIC's locks held.
func (s *Server) widen(conn *quic.Conn, more uint64) bool {
	f, ok := conn.Context().Value(flowKey{}).(*flow)
	if !ok || !s.unread.Take(f.client(), int64(more)) {
		return false
	}
	f.unread.Add(int64(more))
	// The connection may have ended, and with it what it holds.
	if conn.Context().Err() != nil {
		f.narrow()
	}
	return true
}

// narrow gives the memory back.
func (f *flow) narrow() { f.owner.server.unread.Leave(f.client(), f.unread.Swap(0)) }

// client is the address that a connection counts for, wherever its client moves.
func (f *flow) client() netip.Addr {
	_, client := message.ClientAddr(f.remote.String())
	return client
}

// enter takes a place for a connection, which counts for the client that is returned.
func (p *packets) enter(f *flow) (from netip.Prefix, err error) {
	_, client := message.ClientAddr(f.remote.String())
	from = fair.Source(client)
	why := traffic.Connections
	if f.slot = p.server.slots.try(from, f); f.slot == nil {
		f.slot = p.server.slots.swap(from, f, p.server.config().Timeouts.Handshake)
	}

	if f.slot != nil {
		switch {
		case !p.begins(from):
			why = traffic.Handshakes
		case !p.server.addresses.enter(from):
			why = traffic.PerAddress
			p.done(from)
		default:
			return from, nil
		}
		p.server.slots.leave(f.slot)
	}

	if why != traffic.Connections {
		p.server.abuse.add(why, client)
	}

	return from, errBusy
}

// begins counts a handshake. Of those that there may be, the last half is for clients that have few.
func (p *packets) begins(from netip.Prefix) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	limit, all := p.server.config().Limits.Handshakes, int(p.early.Load())
	if all >= limit || 2*all >= limit && 8*p.handshakes.Load(from) >= int64(limit) {
		return false
	}
	p.handshakes.Add(from, 1)
	p.early.Add(1)
	return true
}

// done ends the count of a handshake.
func (p *packets) done(from netip.Prefix) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.early.Add(-1)
	p.handshakes.Add(from, -1)
}

// configForClient is that of TCP, with QUIC's protocol and the keys of session tickets, which quic-go's copy of a
// listener's configuration would not have.
func (p *packets) configForClient(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	f, ok := hello.Context().Value(flowKey{}).(*flow)
	if !ok {
		return nil, errors.New("proxy: a hello on a connection that was not accepted here")
	}

	current := p.server.current.Load()
	found := current.Hosts(p.address)
	asked := found.Asked(hello.ServerName, hello.Conn.LocalAddr().String())
	if asked != nil && asked.TCP != nil {
		return nil, fmt.Errorf("the site %s is not for HTTP", hello.ServerName)
	}
	f.policy = found.Policy(asked)
	chosen := f.policy.Config.Clone()
	if asked == nil && hello.ServerName != "" {
		chosen = current.stranger.Clone()
	}
	chosen.NextProtos, chosen.MinVersion, chosen.KeyLogWriter = []string{http3.Protocol}, tls.VersionTLS13, nil
	if keys := p.server.ticketKeys.Load(); keys != nil && !chosen.SessionTicketsDisabled {
		chosen.SetSessionTicketKeys(*keys)
	}
	if f.trace != nil {
		f.trace.Hello(hello, chosen)
	}

	return chosen, nil
}

// serve accepts connections until the listener is closed.
func (p *packets) serve() {
	for {
		conn, err := p.listener.Accept(context.Background())
		if err != nil {
			return
		}
		f, ok := conn.Context().Value(flowKey{}).(*flow)
		if !ok {
			_ = conn.CloseWithError(0, "")
			continue
		}

		f.complete(conn)
		go p.server.http3.ServeConn(conn, f.facts, f.request)
	}
}

// refuse takes no more connections. Those whose handshakes are on their way get a moment, as quic-go ends them with the
// listener.
func (p *packets) refuse() {
	for end := time.Now().Add(beginning); p.early.Load() > 0 && time.Now().Before(end); {
		// quic-go has no event for the end of a handshake that fails.
		time.Sleep(time.Millisecond)
	}
	_ = p.listener.Close()
}

// complete notes what the handshake has come to.
func (f *flow) complete(conn *quic.Conn) {
	f.conn.Store(conn)
	f.state = conn.ConnectionState().TLS
	f.local = conn.LocalAddr()
	// The end of the connection may come at the same time. Only one of them gives the handshake's place back.
	if f.done.CompareAndSwap(false, true) {
		f.owner.done(f.from)
	}
	facts := &message.Conn{
		Remote: f.remote.String(), Local: f.local.String(), Listener: f.owner.address, TLS: &f.state, Policy: f.policy,
	}
	facts.Client, facts.Addr = message.ClientAddr(facts.Remote)
	if auth := f.policy.Auth; auth != nil {
		facts.Identity, facts.Until = auth.Identity(&f.state)
		server := f.owner.server
		guarded := server.guards.add(server, facts, func() {
			// H3_NO_ERROR (RFC 9114 section 8.1). The call waits for the connection's end, so it gets a goroutine.
			go func() { _ = conn.CloseWithError(0x100, "") }()
		})
		// QUIC closes connections by itself, so the guard follows its context rather than a Close of ours.
		context.AfterFunc(conn.Context(), func() { server.guards.remove(guarded) })
	}

	if f.trace != nil {
		facts.Handshake = f.owner.server.recorded(f.trace.ID())
		if f.owner.server.current.Load().NeedsFingerprint {
			facts.JA4 = f.trace.JA4()
		}
		f.trace.Done(f.state)
	}

	f.facts = facts
	f.last.Store(&whereabouts{f.remote, facts})
}

// evict implements evictable.
func (f *flow) evict(active bool) bool {
	conn := f.conn.Load()
	if conn == nil || !active {
		return false
	}
	// H3_EXCESSIVE_LOAD (RFC 9114 section 8.1). The call waits for the connection's end, so it gets a goroutine.
	go func() { _ = conn.CloseWithError(0x107, "") }()
	return true
}

// request is called with each request, and returns what is known of the connection. Who may come is decided by the
// address that the client has now: it may have left the network from which it may.
func (f *flow) request() *message.Conn {
	if f.trace != nil {
		f.once.Do(f.trace.FirstByte)
	}

	last, remote := f.last.Load(), f.conn.Load().RemoteAddr()
	// Comparing the pointers first keeps the usual case free of formatting an address for each request.
	if last.remote == remote || last.remote.String() == remote.String() {
		return last.facts
	}
	known := remote.String()
	if f.owner.server.proxied(remote) {
		// The client is one that the proxy cannot name.
		known = ""
	}
	last = &whereabouts{remote, f.facts.From(known)}
	f.last.Store(last)
	return last.facts
}

// cryptoError is where QUIC's error codes that carry a TLS alert begin (RFC 9001 section 4.8).
const cryptoError = 0x100

// end is called when the connection is over, for whatever reason.
func (f *flow) end(err error) {
	if f.done.CompareAndSwap(false, true) {
		f.owner.done(f.from)
	}
	if f.trace == nil {
		return
	}

	end := handshake.QUICEnd{Err: err, By: handshake.Client, Alert: -1}
	var transport *quic.TransportError
	var idle *quic.IdleTimeoutError
	var slow *quic.HandshakeTimeoutError
	switch {
	case errors.As(err, &transport):
		if !transport.Remote {
			end.By = handshake.Server
		}
		if transport.ErrorCode.IsCryptoError() {
			end.Alert = int(transport.ErrorCode - cryptoError)
		}
	case errors.As(err, &idle), errors.As(err, &slow):
		end.By, end.Timeout = handshake.Server, true
	}

	f.trace.End(end)
}

// quicHandover is how long requests by HTTP/3 may go on after another process has taken over.
const quicHandover = 3 * time.Second

func closePackets(all []*packets) {
	for _, p := range all {
		p.close()
	}
}

// close ends what is still open, with the reason that there is none.
func (p *packets) close() {
	_ = p.listener.Close()
	_ = p.transport.Close()
	_ = p.socket.Close()
}

const altSvcAge = 24 * time.Hour

// altSvc tells clients of TCP that there is HTTP/3 too (RFC 7838); "" where there is none.
func altSvc(l Listener) string {
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return ""
	}
	return fmt.Sprintf(`h3=":%s"; ma=%d`, port, int(altSvcAge.Seconds()))
}

// announced is the Alt-Svc for clients that ask for a name and have come to an address; "" for none. Browsers take
// HTTP/3 from public CAs alone: shown a certificate of the local CA they would try QUIC, reject it, and come back by
// TCP.
func (s *Server) announced(listener, name string, to net.Addr) string {
	other, ok := s.altSvc.Load(listener)
	if !ok {
		return ""
	}

	switch s.config().Listen.AltSvc {
	case "never":
		return ""
	case "always":
	default:
		// A browser that is sent to HTTP/3 and rejects the certificate there loses a second with each visit.
		if source, ok := s.deps.Certificates.(PrivateSource); ok && source.Private(name, to) {
			return ""
		}
	}

	return other.(string)
}

// addQUIC opens HTTP/3 beside a listener of HTTPS. Where it cannot be had, HTTPS goes on without.
func (s *Server) addQUIC(l Listener) {
	if l.Free != nil {
		go s.awaitQUIC(l)
		return
	}
	s.tryQUIC(l, false)
}

const quicEvery = 250 * time.Millisecond

// awaitQUIC waits for UDP, which a padlock that hands over has for a little longer: until it lets go of a socket that
// was passed on, or until the port is free.
func (s *Server) awaitQUIC(l Listener) {
	free := l.Free
	l.Free = nil
	ticks := make(<-chan time.Time)
	if free == nil {
		ticker := time.NewTicker(quicEvery)
		defer ticker.Stop()
		ticks = ticker.C
	}

	for {
		select {
		case <-s.ending:
			l.closePackets()
			return
		case <-free:
		case <-ticks:
		}

		// A reload may have removed the listener meanwhile. The lock is held until the socket is in the list or
		// closed.
		s.listening.Lock()
		open := slices.ContainsFunc(s.open, func(o Listener) bool { return o.Listener == l.Listener })
		if s.ended || !open {
			l.closePackets()
		}
		done := s.ended || !open || s.tryQUIC(l, true)
		s.listening.Unlock()
		if done {
			return
		}
	}
}

func (l Listener) closePackets() {
	if l.Packets != nil {
		l.Packets.Close()
	}
}

// tryQUIC reports whether the matter is settled: HTTP/3 is served, or cannot be. It is called with the lock of
// listeners held.
func (s *Server) tryQUIC(l Listener, again bool) bool {
	// Sites with listeners of their own are TCP sites or internal ones, which have no HTTP/3.
	if !s.config().Listen.HTTP3 || l.Plain || s.current.Load().Own(l.Address) || !strings.HasPrefix(l.Addr().Network(), "tcp") {
		l.closePackets()
		return true
	}

	p, err := s.openQUIC(l)
	switch {
	case err == nil && again:
		s.deps.Log.Info("HTTP/3 is served", "address", l.Addr())
	case err == nil:
	case errors.Is(err, syscall.EADDRINUSE) && again:
		return false
	case errors.Is(err, syscall.EADDRINUSE):
		// A padlock that hands over has the port for a little longer.
		s.deps.Log.Info("HTTP/3 begins when its UDP port is free", "address", l.Addr())
		go s.awaitQUIC(l)
		return false
	default:
		s.deps.Log.Warn("no HTTP/3 here; HTTPS goes on without", "address", l.Addr(), "error", err, "remedy", "let UDP be opened, or turn it off: listen.http3: false")
		return true
	}

	s.packets = append(s.packets, p)
	s.altSvc.Store(l.Address, altSvc(l))
	go p.serve()
	return true
}
