package lab

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"padlock/handshake"
)

// packets is the lab over QUIC, beside a listener of TCP: for the endpoints that are the same there, which are those
// with certificates, groups and client certificates.
type packets struct {
	lab       *Lab
	socket    net.PacketConn
	transport *quic.Transport
	listener  *quic.EarlyListener
}

// flow is one connection of QUIC.
type flow struct {
	trace   *handshake.QUIC
	session *session // nil until its hello has come
	first   sync.Once
}

type flowKey struct{}

// openQUIC opens UDP at the address of a listener.
func (l *Lab) openQUIC(ctx context.Context, address string) (*packets, error) {
	// It would go to standard error.
	_ = os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true")
	socket, err := net.ListenPacket("udp", address)
	if err != nil {
		return nil, err
	}

	p := &packets{lab: l, socket: socket}
	p.transport = &quic.Transport{Conn: socket, ConnContext: p.begin}
	config := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{http3.NextProtoH3}, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		return p.config(ctx, hello)
	}}
	p.listener, err = p.transport.ListenEarly(config, &quic.Config{Allow0RTT: true, MaxIdleTimeout: applicationTimeout, HandshakeIdleTimeout: handshakeTimeout / 2})
	if err != nil {
		socket.Close()
		return nil, err
	}
	return p, nil
}

// begin is called for each connection, before its handshake.
func (p *packets) begin(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	f := &flow{trace: p.lab.recorder.QUIC(info.RemoteAddr, p.socket.LocalAddr())}
	ctx = context.WithValue(ctx, flowKey{}, f)
	context.AfterFunc(ctx, func() { f.end(context.Cause(ctx)) })
	return ctx, nil
}

// config is that of TCP, with QUIC's protocol.
func (p *packets) config(ctx context.Context, hello *tls.ClientHelloInfo) (*tls.Config, error) {
	f, ok := hello.Context().Value(flowKey{}).(*flow)
	if !ok {
		return nil, errors.New("lab: a hello on a connection that was not accepted here")
	}
	e := p.lab.find(hello)
	// What the hello points to is used again.
	f.session = &session{lab: p.lab, ctx: ctx, endpoint: e, hello: &tls.ClientHelloInfo{ServerName: hello.ServerName}, shows: f.trace.Certificate}
	f.session.visit = p.lab.visits.begin(e, hello, f.trace.ID(), hello.Conn.RemoteAddr().String(), p.lab.authority.Asked(e.Hostname()))
	f.session.note(func(v *Visit) {
		v.QUIC = true
		if e.large {
			v.Excused = "over QUIC its handshake is larger than clients need to take"
		}
		if !e.overQUIC() {
			v.Unsuited = "it is not there over QUIC"
		}
	})
	if !e.overQUIC() {
		return nil, fmt.Errorf("the lab's endpoint %s is not for QUIC", e.Name)
	}
	c := f.session.config()
	c.NextProtos, c.MinVersion, c.KeyLogWriter = []string{http3.NextProtoH3}, tls.VersionTLS13, nil
	f.trace.Hello(hello, c)
	return c, nil
}

// overQUIC reports whether an endpoint is the same over QUIC.
func (e *Endpoint) overQUIC() bool {
	if e.wire != nil || e.rogue != nil || e.raw != nil || e.answer != nil || e == page {
		return false
	}
	c := &tls.Config{}
	if e.config != nil {
		e.config(c)
	}
	// HTTP/3 has a protocol of its own, and no older TLS.
	return c.MaxVersion == 0 && (c.NextProtos == nil || slices.Equal(c.NextProtos, []string{"http/1.1"})) && e.Name != "alpn-http1"
}

// serve serves until the listener ends.
func (p *packets) serve(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		conn, err := p.listener.Accept(ctx)
		if err != nil {
			return
		}
		all.Go(func() { p.answer(conn) })
	}
}

func (p *packets) answer(conn *quic.Conn) {
	f, ok := conn.Context().Value(flowKey{}).(*flow)
	if !ok || f.session == nil {
		return
	}
	select {
	case <-conn.HandshakeComplete():
	case <-conn.Context().Done():
		return
	}

	f.trace.Done(conn.ConnectionState().TLS)
	f.session.note(func(v *Visit) { v.Handshake, v.Finished = true, true })
	server := &http3.Server{IdleTimeout: applicationTimeout, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.first.Do(func() {
			f.session.note(func(v *Visit) { v.Data = true })
			f.trace.FirstByte()
		})
		f.session.ServeHTTP(w, r)
	})}
	_ = server.ServeQUICConn(conn)
}

// cryptoError is where QUIC's error codes that carry a TLS alert begin (RFC 9001 section 4.8).
const cryptoError = 0x100

// end is called when the connection is over, for whatever reason.
func (f *flow) end(err error) {
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
	if f.session == nil {
		return
	}
	asked := f.session.lab.authority.Asked(f.session.endpoint.Hostname())
	f.session.note(func(v *Visit) { v.Open, v.Asked = false, v.Asked+asked })
	if err != nil {
		f.session.fail(err)
	}
}

// quicGrace is how long a connection may take to end.
const quicGrace = time.Second

func (p *packets) close() {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = p.listener.Close()
		_ = p.transport.Close()
		_ = p.socket.Close()
	}()
	select {
	case <-closed:
	case <-time.After(quicGrace):
	}
}
