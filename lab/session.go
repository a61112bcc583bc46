package lab

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"padlock/handshake"
	"padlock/lab/rogue"
)

// session is one connection to an endpoint.
type session struct {
	lab      *Lab
	ctx      context.Context
	endpoint *Endpoint
	visit    *Visit
	conn     net.Conn // at its beginning, hello included
	recorded *handshake.Conn
	hello    *tls.ClientHelloInfo
	keyLog   io.Writer              // beside the recorder; may be nil
	shows    func(*tls.Certificate) // notes which certificate is sent
	requests atomic.Int32           // that have come
}

// appConn carries application data, with whatever TLS below it.
type appConn interface {
	net.Conn
	CloseNotify() error
}

// serve finds out which endpoint a connection wants, and has it meet that.
func (l *Lab) serve(ctx context.Context, raw net.Conn) {
	recorded := l.recorder.Wrap(raw)
	defer recorded.Close()
	_ = recorded.SetDeadline(time.Now().Add(handshakeTimeout))
	hello, read, err := peek(recorded)
	if err != nil {
		l.visits.stranger(recorded.ID(), recorded.RemoteAddr().String(), err)
		recorded.Done(tls.ConnectionState{}, err)
		return
	}

	e := l.find(hello)
	s := &session{
		lab: l, ctx: ctx, endpoint: e, recorded: recorded, hello: hello, shows: recorded.Certificate,
		conn: &replay{Conn: recorded, read: bytes.NewReader(read)},
	}
	s.visit = l.visits.begin(e, hello, recorded.ID(), recorded.RemoteAddr().String(), l.authority.Asked(e.Hostname()))
	s.visitJoined()
	s.run()
	_ = recorded.Close()
	asked := l.authority.Asked(e.Hostname())
	l.visits.update(s.visit, func(v *Visit) { v.Open, v.Asked = false, v.Asked+asked })
}

// visitJoined does nothing but take an event that came before its visit, as of a connection that was cut at once.
func (s *session) visitJoined() {
	v := s.lab.visits
	v.mu.Lock()
	defer v.mu.Unlock()
	if e := v.early[s.visit.ID]; e != nil {
		delete(v.early, s.visit.ID)
		s.visit.join(e)
	}
}

// find is the endpoint of a name; for a client that sends none, that of the address or the one that is checked.
func (l *Lab) find(hello *tls.ClientHelloInfo) *Endpoint {
	if e := l.endpoint(hello.ServerName); e != nil {
		return e
	}
	if hello.ServerName == "" {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.current != nil {
			return l.current
		}
		return l.byHost[l.Address()]
	}
	if hello.ServerName == Domain {
		return page
	}
	return unknown
}

func (s *session) run() {
	e := s.endpoint
	if e.needs != nil {
		if why := e.needs(s.hello); why != "" {
			s.note(func(v *Visit) { v.Unsuited = why })
		}
	}
	switch {
	case e.raw != nil:
		s.recorded.Refused("the lab's endpoint "+e.Name+" speaks no TLS from here on", "", "nothing: it is the test")
		e.raw(s)
		s.recorded.Done(tls.ConnectionState{}, errors.New("the lab's endpoint "+e.Name+" does not go on"))
		s.linger()
	case e.rogue != nil:
		s.runRogue()
	default:
		s.runTLS()
	}
}

func (s *session) note(f func(*Visit)) { s.lab.visits.update(s.visit, f) }

// fail notes why the server's side ended.
func (s *session) fail(err error) {
	if err != nil {
		s.note(func(v *Visit) { v.Error = handshake.Escape(err.Error()) })
	}
}

func (s *session) runTLS() {
	conn := s.conn
	var wire *wire
	if s.endpoint.wire != nil {
		plan := s.endpoint.wire()
		wire, s.keyLog = newWire(s.ctx, conn, plan), plan.keyLog
		conn = wire
	}

	server := tls.Server(conn, &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		return s.recorded.Hello(s.config()), nil
	}})
	err := server.HandshakeContext(s.ctx)
	s.recorded.Done(server.ConnectionState(), err)
	if err != nil {
		s.fail(err)
		s.linger()
		return
	}
	s.note(func(v *Visit) { v.Handshake, v.Finished = true, true })
	s.application(&tlsApp{Conn: server, below: s.recorded}, server.ConnectionState().NegotiatedProtocol)
}

// config is the endpoint's.
func (s *session) config() *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, KeyLogWriter: s.lab.recorder,
		// A client that resumes looks at no certificate.
		SessionTicketsDisabled: true,
	}
	c.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		chain, err := s.lab.certificate(s.endpoint, hello)
		s.shows(chain)
		return chain, err
	}
	if s.endpoint.config != nil {
		s.endpoint.config(c)
	}
	if s.keyLog != nil {
		c.KeyLogWriter = io.MultiWriter(c.KeyLogWriter, s.keyLog)
	}
	if s.endpoint.resumes {
		// Each connection has a config of its own, and with it keys of its own.
		c.SetSessionTicketKeys([][32]byte{s.lab.tickets})
	}
	return c
}

func (s *session) runRogue() {
	m := s.lab.authority.Maker(s.endpoint.Hostname())
	plan, err := s.endpoint.rogue(m)
	if err == nil && plan.Certificate == nil {
		plan.Certificate, err = s.lab.certificate(s.endpoint, nil)
	}
	if err != nil {
		s.fail(err)
		return
	}
	plan.KeyLog = s.recorded.KeyLogWriter()

	server := rogue.Server(s.conn, *plan)
	s.recorded.Certificate(plan.Certificate)
	err = server.Handshake()
	state := tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256, CurveID: tls.X25519, NegotiatedProtocol: server.ALPN(), HandshakeComplete: err == nil, ServerName: s.hello.ServerName}
	s.recorded.Done(state, err)
	if server.ClientFinished() {
		s.note(func(v *Visit) { v.Finished = true })
	}
	if server.Obeyed() {
		s.note(func(v *Visit) { v.Obeyed = true })
	}
	if errors.Is(err, rogue.ErrUnsuited) || errors.Is(err, rogue.ErrNoGroup) {
		s.note(func(v *Visit) { v.Unsuited = err.Error() })
	}
	if err != nil {
		s.fail(err)
		s.linger()
		return
	}
	s.note(func(v *Visit) { v.Handshake = true })
	s.application(&firstByte{appConn: server, session: s}, server.ALPN())
}

// linger keeps our last words from being lost: a close with unread data resets the connection.
func (s *session) linger() {
	_ = s.recorded.SetDeadline(time.Now().Add(lingerTimeout))
	if s.recorded.CloseWrite() == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(s.recorded, 64<<10))
	}
}

const lingerTimeout = 500 * time.Millisecond

// tlsApp is crypto/tls's connection.
type tlsApp struct {
	*tls.Conn
	below *handshake.Conn
}

// CloseNotify ends this side's data.
func (t *tlsApp) CloseNotify() error { return t.Conn.CloseWrite() }

// firstByte notes the first application data.
type firstByte struct {
	appConn
	session *session
	seen    bool
}

func (f *firstByte) Read(p []byte) (int, error) {
	n, err := f.appConn.Read(p)
	if !f.seen && n > 0 {
		f.seen = true
		f.session.note(func(v *Visit) { v.Data = true })
		f.session.recorded.FirstByte()
	}
	if !f.seen && err != nil {
		f.session.recorded.ReadError(err)
	}
	return n, err
}

// Close ends our side as it is right, and waits a little for the client's end: a close with unread data would reset the
// connection, and lose the answer.
func (f *firstByte) Close() error {
	_ = f.CloseNotify()
	f.session.linger()
	return f.appConn.Close()
}

// peek reads a hello with crypto/tls's own parser, and returns the bytes that it took.
func peek(conn net.Conn) (*tls.ClientHelloInfo, []byte, error) {
	var hello *tls.ClientHelloInfo
	p := &peeked{Conn: conn}
	err := tls.Server(p, &tls.Config{MinVersion: tls.VersionTLS10, GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		hello = h
		return nil, errPeeked
	}}).Handshake()
	if hello == nil {
		return nil, p.read.Bytes(), err
	}
	return hello, p.read.Bytes(), nil
}

var errPeeked = errors.New("the hello is read")

// peeked keeps what is read, and lets nothing out.
type peeked struct {
	net.Conn
	read bytes.Buffer
}

func (p *peeked) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	p.read.Write(b[:n])
	return n, err
}

func (p *peeked) Write(b []byte) (int, error) { return len(b), nil }
func (p *peeked) Close() error                { return nil }

// replay gives what was read again, and then the rest.
type replay struct {
	net.Conn
	read *bytes.Reader
}

func (r *replay) Read(b []byte) (int, error) {
	if r.read.Len() > 0 {
		return r.read.Read(b)
	}
	return r.Conn.Read(b)
}
