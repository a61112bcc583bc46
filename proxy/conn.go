package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"time"

	"padlock/handshake"
	"padlock/internal/fair"
	"padlock/proxy/message"
	"padlock/proxy/socket"
	"padlock/traffic"
)

// conn is a connection that has finished its handshake, as its front sees it: the plaintext side.
type conn struct {
	*tls.Conn
	socket *socket.Conn    // at the bottom, if there is one
	trace  *handshake.Conn // nil when handshakes are off
	below  *clientConn
	facts  message.Conn
	abuse  *abuseLog
	seen   bool // the first application byte was read; Read is called by one goroutine at a time
	broken bool // the client has broken the rules of TLS
	either bool // the first application byte may be the server's
}

func (c *conn) Facts() *message.Conn { return &c.facts }

// Read notes the first application byte in the record, up to which a client can still reject what it was shown.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.trace != nil && !c.seen {
		if n > 0 {
			c.seen = true
			c.trace.FirstByte()
		} else if err != nil {
			if c.below.evicted.Load() {
				c.refused("padlock ended the connection to make room for others (limits.connections), or because the rules for client certificates have changed", "", "let the client connect again; raise limits.connections if that happens often")
			}
			c.trace.ReadError(err)
		}
	}

	if err != nil && !c.broken && refusedByTLS(err) {
		c.broken = true
		c.abuse.add(traffic.TLSRules, c.facts.Addr)
	}

	return n, err
}

// refused notes why we end a connection on which nothing has come.
func (c *conn) refused(why, detail, remedy string) {
	if c.trace != nil {
		c.trace.Refused(why, detail, remedy)
	}
}

// refusedByTLS reports whether crypto/tls has ended a connection with an alert. Not all of its errors say so by their
// type.
func refusedByTLS(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Op == "local error"
	}
	return strings.HasPrefix(err.Error(), "tls: ")
}

const maxRecord = 16 << 10 // RFC 8446 section 5.1

// Write sends the records of one write in one system call.
func (c *conn) Write(p []byte) (int, error) {
	if c.either && c.trace != nil {
		// Where the server speaks first, its own bytes end the handshake's record: the client has not objected by
		// then.
		c.trace.FirstByte()
	}
	if len(p) <= maxRecord || c.socket == nil {
		return c.Conn.Write(p)
	}
	// TLS makes several records of a large write, and each of them would be a system call and a packet.
	c.Cork()
	n, err := c.Conn.Write(p)
	return n, errors.Join(err, c.Uncork())
}

// Cork holds back what is written until Uncork or CloseWrite.
func (c *conn) Cork() {
	if c.socket != nil {
		c.socket.Cork()
	}
}

// Uncork sends what was held back.
func (c *conn) Uncork() error {
	if c.socket == nil {
		return nil
	}
	return c.socket.Uncork()
}

// SetWriteDeadline is how the fronts limit how long a client may take nothing. Others set limits below, for what a
// pause is no excuse for.
func (c *conn) SetWriteDeadline(at time.Time) error {
	err := c.Conn.SetWriteDeadline(at)
	// Only after the deadline is set: SetWriteDeadline below clears the flag.
	c.below.pausable.Store(true)
	return err
}

// CloseWrite says that nothing follows (RFC 8446 section 6.1).
func (c *conn) CloseWrite() error {
	err := c.Conn.CloseWrite()
	if c.socket == nil {
		return err
	}
	// crypto/tls has let the deadline run out, to prevent further writes.
	_ = c.socket.SetWriteDeadline(time.Now().Add(farewell))
	return errors.Join(err, c.Uncork())
}

// farewell is how long the last bytes of a connection may take, as in crypto/tls.
const farewell = 5 * time.Second

// serve takes a connection from its first byte to the front that its ALPN names.
func (s *Server) serve(raw *clientConn) {
	if raw.plain {
		s.servePlain(raw)
		return
	}

	limit := time.Now().Add(s.config().Timeouts.Handshake)
	// The place is taken before anything is read, so that silent connections count among the pending ones.
	if !raw.join(s.begun) {
		return
	}

	if !s.preTLS(raw, limit) || !s.enter(raw) {
		return
	}

	remote := raw.RemoteAddr().String()
	c := &conn{abuse: s.abuse, below: raw, facts: message.Conn{Remote: remote, Local: raw.LocalAddr().String(), Listener: raw.listener}}
	c.facts.Client, c.facts.Addr = raw.client()
	c.socket, _ = raw.Conn.(*socket.Conn)
	below := net.Conn(raw)
	if recorder := s.recorder(); recorder != nil {
		c.trace = recorder.Wrap(raw)
		c.facts.Handshake = s.recorded(c.trace.ID())
		below = c.trace
	}

	c.Conn = tls.Server(below, s.listener)
	ctx, cancel := context.WithDeadline(context.Background(), limit)
	err := c.HandshakeContext(ctx)
	// Read before cancel, which would make every error look like a cancellation.
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		s.abuse.add(traffic.SlowHandshake, c.facts.Addr)
	}

	cancel()
	raw.begun.Load().leave()

	state := c.ConnectionState()
	if c.trace != nil {
		// Parsing the hello a second time costs more than the rest of this function, so it is done only where
		// somebody asks.
		if s.current.Load().NeedsFingerprint && err == nil {
			c.facts.JA4 = c.trace.JA4()
		}
		c.trace.Done(state, err)
	}

	if err != nil {
		s.refuse(below, c.trace, raw.plaintext)
		return
	}

	// The staller is set only now, as a client that takes nothing of a handshake has no business pausing.
	if c.socket != nil {
		c.socket.Staller = &pausing{clientConn: raw}
	}

	c.facts.TLS, c.facts.Policy = &state, raw.policy
	c.facts.AltSvc = s.announced(raw.listener, state.ServerName, raw.LocalAddr())
	if auth := raw.policy.Auth; auth != nil {
		c.facts.Identity, c.facts.Until = auth.Identity(&state)
		// A reload may have changed the rules during the handshake. add looks at the snapshot again for that
		// reason.
		guarded := s.guards.add(s, &c.facts, func() { raw.evict(true) })
		raw.guard.Store(guarded)
	}

	s.toFront(c, raw, state.NegotiatedProtocol)
}

// toFront hands a connection to the front that its site or its ALPN names.
func (s *Server) toFront(c *conn, raw *clientConn, protocol string) {
	switch {
	// The CA has seen the certificate of the challenge, which is all that it came for (RFC 8737 section 3).
	case protocol == acmeALPN:
		c.Close()
	case raw.service != nil:
		s.stream(c, raw)
	case raw.startTLS:
		// HTTP has no business behind a PostgreSQL SSLRequest.
		c.refuseStartTLS()
		c.Close()
	case protocol == "h2":
		s.http2.ServeConn(c)
	default:
		s.http1.ServeConn(c)
	}
}

// refuseStartTLS notes that a client came as PostgreSQL's do, and asked for a site that is none of PostgreSQL.
func (c *conn) refuseStartTLS() {
	c.refused("the client asked for TLS as PostgreSQL's clients do (SSLRequest), but the site that it names is no database", c.facts.TLS.ServerName, "name the database's site in the client (host=NAME), or set tcp.starttls: postgres for this one")
}

// enter lets a connection count for its client. It reports false where it is one too many, and is closed.
func (s *Server) enter(raw *clientConn) bool {
	if s.addresses.limit == 0 {
		return true
	}
	_, client := message.ClientAddr(raw.RemoteAddr().String())
	from := fair.Source(client)
	if !s.addresses.enter(from) {
		s.abuse.add(traffic.PerAddress, client)
		raw.Close()
		return false
	}
	raw.source = from
	return true
}

// acmeALPN is offered by a CA that validates a name by tls-alpn-01 (RFC 8737 section 3).
const acmeALPN = "acme-tls/1"

// configForClient chooses the TLS policy by the server name, and notes it: what a reload brings in the meantime is not
// what the connection was made under. Policies have no session-ticket keys of their own, so crypto/tls goes on with
// those of the listener's config.
func (s *Server) configForClient(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	below, current := hello.Conn, s.current.Load()
	trace, traced := handshake.FromHello(hello)
	// crypto/tls hands over the outermost connection, which is the recorder's where there is one.
	if traced {
		below = trace.NetConn()
	}

	raw, ok := below.(*clientConn)
	if !ok {
		return nil, errors.New("proxy: a hello on a connection that was not accepted here")
	}
	found := current.Hosts(raw.listener)
	raw.asked = found.Asked(hello.ServerName, raw.LocalAddr().String())
	raw.service = current.services[raw.asked]
	raw.policy = found.Policy(raw.asked)
	chosen := raw.policy.Config
	switch {
	// RFC 8737 section 3: a validating CA offers this protocol and nothing else. Anybody may do so, and gets the
	// challenge's certificate or an alert.
	case s.deps.Challenges != nil && len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == acmeALPN:
		chosen = current.challenge
	// The certificate source refuses the name later. This policy only makes sure that no ticket gets around that.
	case raw.asked == nil && hello.ServerName != "":
		chosen = current.stranger
	}

	if traced {
		return trace.Hello(chosen), nil
	}

	return chosen, nil
}

// refuse ends a connection whose handshake failed, so that the client still gets our alert or redirect.
func (s *Server) refuse(c net.Conn, trace *handshake.Conn, plaintext []byte) {
	if len(plaintext) > 0 {
		s.answerPlaintext(c, trace, plaintext)
	}
	// A close with unread bytes becomes a reset, which would take the alert along.
	socket.Linger(c, lingerTime, lingerBytes)
	c.Close()
}

const (
	lingerBytes = 64 << 10
	lingerTime  = 300 * time.Millisecond
)
