package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"padlock/internal/fair"
	"padlock/proxy/conns"
	"padlock/proxy/gateway"
	"padlock/proxy/message"
	"padlock/proxy/relay"
	"padlock/proxy/sites"
	"padlock/traffic"
)

// service is a site whose bytes are forwarded, whatever they mean.
type service struct {
	*sites.TCP
	slots *shares // of open connections; nil: any number
}

// newService also gets told whose connections come for many clients.
func newService(site *sites.TCP, exempt func(netip.Prefix) bool) *service {
	s := &service{TCP: site}
	if site.Connections > 0 {
		s.slots = newShares(site.Connections)
		s.slots.exempt = exempt
	}
	return s
}

var (
	errFull    = errors.New("the site has as many connections as it may")
	errEvicted = errors.New("the site has as many connections as it may: this one made room for a client with fewer")
	errChanged = errors.New("the configuration has changed, and lets this client in no more")
	errAddress = errors.New("the site is not open to this address")
)

// roomTime is how long a connection waits for the end of another that makes room for it.
const roomTime = 5 * time.Second

// enter takes a place. Where there is none, one of the client with the most makes room for one of a client with fewer.
func (s *service) enter(c *stream) bool {
	if s.slots == nil {
		return true
	}
	from := fair.Source(c.Facts.Addr)
	// Waiting pays off only where somebody has been asked to go. Otherwise the client learns at once that there is
	// no room.
	if c.slot = s.slots.try(from, c); c.slot == nil && s.slots.makeRoom(from) {
		c.slot = s.slots.await(from, c, roomTime)
	}
	return c.slot != nil
}

func (s *service) leave(c *stream) {
	if s.slots != nil {
		s.slots.leave(c.slot)
	}
}

// stream is a connection of a service.
type stream struct {
	gateway.ConnectionRecord
	client net.Conn
	site   *service
	raw    *clientConn
	slot   *slot
	ctx    message.Context

	why atomic.Pointer[error] // we end it
}

// evict implements evictable: no connection of a service is ever parked.
func (c *stream) evict(active bool) bool {
	if active {
		c.interrupt(errEvicted)
	}
	return active
}

// interrupt ends the connection from any goroutine, and waits for nothing.
func (c *stream) interrupt(why error) {
	c.why.Store(&why)
	c.ctx.Cancel()
	c.raw.interrupt()
}

// stays judges a connection of a service by another snapshot.
func (c *stream) stays(now *snapshot) bool {
	table := now.Hosts(c.Facts.Listener)
	found := table.Asked(c.Name, c.Facts.Local)
	return found != nil && found.TCP != nil && found.TCP.Passthrough == c.site.Passthrough && found.Policy.Still(c.Facts) && found.Access.Admits(c.Facts.Addr)
}

// stream forwards what comes out of TLS.
func (s *Server) stream(c *conn, raw *clientConn) {
	service := raw.service
	if raw.startTLS && !service.StartTLS {
		c.refuseStartTLS()
		c.Close()
		return
	}
	c.either = true
	s.forward(&stream{client: c, ConnectionRecord: gateway.ConnectionRecord{Facts: &c.facts, Name: c.facts.TLS.ServerName}, site: service}, raw)
}

// pass forwards TLS itself.
func (s *Server) pass(raw *clientConn, name string) {
	raw.begun.Load().leave()
	if !s.enter(raw) {
		return
	}
	facts := &message.Conn{Remote: raw.RemoteAddr().String(), Local: raw.LocalAddr().String(), Listener: raw.listener}
	facts.Client, facts.Addr = raw.client()
	s.forward(&stream{client: raw, ConnectionRecord: gateway.ConnectionRecord{Facts: facts, Name: name}, site: raw.service}, raw)
}

func (s *Server) forward(c *stream, raw *clientConn) {
	c.Start, c.raw = time.Now(), raw
	// Logged last, when the bytes in both directions are known and the end's reason is decided.
	defer func() {
		if why := c.why.Load(); why != nil {
			c.Err = *why
		}
		raw.asked.Counts.Request(traffic.TCP, 0, time.Since(c.Start), c.In, c.Out)
		s.access.RecordStream(&c.ConnectionRecord)
	}()
	defer c.client.Close()

	// Only after the handshake: the address may be known from a PROXY header, and the record of the handshake shows
	// the refusal.
	if !raw.asked.Access.Admits(c.Facts.Addr) {
		c.refuse(errAddress, "allow it in the site's access rules (sites[].access)")
		return
	}

	if !c.site.enter(c) {
		c.refuse(errFull, "raise tcp.connections of the site")
		return
	}
	defer c.site.leave(c)
	if !s.streams.AddServing(c) {
		return
	}
	defer s.streams.Remove(c)

	// A reload may have come before the connection was added to the set, and so missed it.
	if !c.stays(s.current.Load()) {
		c.refuse(errChanged, "look at what the configuration says of the site now")
		return
	}

	if standing := c.Facts.Standing; standing != nil {
		// The client's certificate may be revoked or expire while bytes flow.
		defer context.AfterFunc(standing, c.end)()
	}
	defer c.Attempt.End()
	target, err := c.site.Group.Dial(&c.ctx, &message.Request{Conn: c.Facts, Client: c.Facts.Client}, &c.Attempt)
	if err != nil {
		c.refuse(err, "see whether the site's target runs, and its address: sites[].tcp")
		return
	}

	// The header must be the first bytes on the connection.
	if c.site.ProxyProtocol != "" {
		var header []byte
		header, err = proxyHeader(c.site.ProxyProtocol, c.Facts, c.Name, raw)
		if err == nil {
			_, err = target.Write(header)
		}
	}

	// Closing the context closes the target's connection as well.
	if err == nil && c.ctx.Hold(target) {
		c.In, c.Out, err = relay.Join(c.client, target, c.site.Idle)
		c.ctx.Release()
	}

	target.Close()
	c.Err = err
	if standing := c.Facts.Standing; standing != nil && standing.Err() != nil {
		c.Err = context.Cause(standing)
	}
}

// refuse notes why nothing was forwarded.
func (c *stream) refuse(err error, remedy string) {
	c.Err = err
	if client, ok := c.client.(*conn); ok {
		client.refused("padlock closed the connection after a complete handshake, before it was forwarded", err.Error(), remedy)
	}
}

// end ends the connection from any goroutine.
func (c *stream) end() {
	c.ctx.Cancel()
	c.client.Close()
}

// streams are the open connections that are not HTTP.
type streams struct{ *conns.Set[*stream] }

// follow ends the connections that a new snapshot does not let in, and returns how many.
func (s streams) follow(now *snapshot) (ended int) {
	for _, c := range s.All() {
		if !c.stays(now) {
			c.interrupt(errChanged)
			ended++
		}
	}
	return ended
}

// drain lets connections end, until ctx does.
func (s streams) drain(ctx context.Context) error { return s.Drain(ctx, nil) }

// shutdown lets connections end, and closes them when ctx ends.
func (s streams) shutdown(ctx context.Context) error { return s.Shutdown(ctx, nil, (*stream).end) }

// proxyHeader tells a target of the client, as the PROXY protocol has it; with version 2 also of its TLS.
func proxyHeader(version string, facts *message.Conn, name string, raw *clientConn) ([]byte, error) {
	remote, local := raw.RemoteAddr(), raw.LocalAddr()
	if raw.unnamed {
		// The client's address is not known, and padlock's own must not stand in for it.
		remote, local = nil, nil
	}
	if version == "v1" {
		return proxyproto.HeaderProxyFromAddrs(1, remote, local).Format()
	}

	h := proxyproto.HeaderProxyFromAddrs(2, remote, local)
	// Without addresses the library says LOCAL, which targets take for a health check.
	h.Command = proxyproto.PROXY
	var tlvs []proxyproto.TLV

	add := func(list *[]proxyproto.TLV, kind proxyproto.PP2Type, value string) {
		if value != "" {
			*list = append(*list, proxyproto.TLV{Type: kind, Value: []byte(value)})
		}
	}

	add(&tlvs, proxyproto.PP2_TYPE_AUTHORITY, name)
	if state := facts.TLS; state != nil {
		add(&tlvs, proxyproto.PP2_TYPE_ALPN, state.NegotiatedProtocol)
		// Verify 0 means that the client presented a certificate that was verified, so the safe value is the
		// default.
		ssl := tlvparse.PP2SSL{Client: tlvparse.PP2_BITFIELD_CLIENT_SSL, Verify: 1}
		add(&ssl.TLV, proxyproto.PP2_SUBTYPE_SSL_VERSION, strings.Replace(tls.VersionName(state.Version), "TLS ", "TLSv", 1))
		add(&ssl.TLV, proxyproto.PP2_SUBTYPE_SSL_CIPHER, tls.CipherSuiteName(state.CipherSuite))
		if len(state.PeerCertificates) > 0 {
			ssl.Client |= tlvparse.PP2_BITFIELD_CLIENT_CERT_CONN | tlvparse.PP2_BITFIELD_CLIENT_CERT_SESS
			add(&ssl.TLV, proxyproto.PP2_SUBTYPE_SSL_CN, state.PeerCertificates[0].Subject.CommonName)
			if facts.Identity.Value("X-SSL-Client-Verify") == "SUCCESS" {
				ssl.Verify = 0
			}
		}

		tlv, err := ssl.Marshal()
		if err != nil {
			return nil, err
		}

		tlvs = append(tlvs, tlv)
	}

	if err := h.SetTLVs(tlvs); err != nil {
		return nil, err
	}

	return h.Format()
}
